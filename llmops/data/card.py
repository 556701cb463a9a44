"""The dataset card as Markdown, for people: what the data is and what may be done with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CARD = "card.md"  # its name in the folder of a dataset's files


def card_markdown(card: Mapping[str, Any]) -> str:
    """Return the card; a text from the config is quoted, so that it cannot pass for a heading."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Dataset {card['dataset_version']}"
    yield ""
    yield f"* digest: `{card['digest']}`"
    yield f"* prompt: `{card['prompt']['name']}`, sha256 `{card['prompt']['sha256']}`"
    yield f"* licence: {_quoted(card['licence'])}"
    acknowledged = ", ".join(map(_quoted, card["acknowledged_terms"])) or "none"
    yield f"* terms: {_quoted(card['source_terms'])}; acknowledged: {acknowledged}"
    yield from ("", "## Rows", "", "| side | rows |", "|---|---|")
    for side, rows in card["rows"].items():
        yield f"| {side} | {rows:,} |"
    if limits := card.get("limits"):
        yield from ("", f"## Left out for the limits of {_quoted(limits['of'])}", "")
        yield from ("| limit | at most | train | validation | source |", "|---|---|---|---|---|")
        for cut in limits["cut"]:
            rows = " | ".join(f"{cut['rows'][side]:,}" for side in ("train", "validation"))
            yield f"| {cut['quantity']} | {cut['at_most']:,g} | {rows} | {_quoted(cut['source'])} |"
    yield from ("", "## Split", "")
    by = ", ".join(card["by"]) or "nothing: each row by itself"
    yield f"Method `{card['method']}`, seed {card['seed']}, joined by {by}."
    if card["groups"] is not None:
        yield f"{card['groups']:,} groups, the largest of {card['largest_group']:,} rows."
    yield from (
        "",
        "## Leakage from train to test",
        "",
        "| kind | rows | share of test |",
        "|---|---|---|",
    )
    for kind, found in card["leakage"].items():
        told = "not measured" if found["rows"] is None else f"{found['rows']:,}"
        share = "" if found["share"] is None else f"{found['share']:.2%}"
        yield f"| {kind} | {told} | {share} |"
    yield from ("", "## Files", "", "| file | rows | sha256 |", "|---|---|---|")
    for file in card["files"]:
        digest = f"`{file['sha256']}`" if file["sha256"] else "written by the warehouse"
        yield f"| `{file['name']}` | {file['rows']:,} | {digest} |"


def _quoted(text: str) -> str:
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"
