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
    if origin := card.get("origin"):
        yield from _origin(origin)
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


def _origin(origin: Mapping[str, Any]) -> Iterator[str]:
    """Say where the rows are from; a query is indented, so that nothing in it can end the block."""
    source = origin["source"] or {}
    yield from ("", "## Where the rows are from", "")
    named = (_quoted(source[key]) for key in ("title", "name") if source.get(key))
    yield f"* source: {', '.join(named)}"
    yield f"* terms of the source: {_quoted(source.get('terms_url') or 'not told')}"
    yield f"* snapshot: {_quoted(origin['snapshot'] or 'the tables as they were')}"
    for table, version in sorted(origin["tables"].items()):
        yield f"* table {_quoted(table)}, version {_quoted(version)}"
    for file in origin["files"] or ():
        yield f"* file {_quoted(file)}"
    for role, column in (origin["columns"] or {}).items():
        yield f"* {role}: {'no column' if column is None else _quoted(column)}"
    if origin["query"]:
        yield ""
        yield from (f"    {line}" for line in origin["query"].splitlines())
    yield from ("", "| stage | rows |", "|---|---|")
    for stage, rows in origin["rows"].items():
        yield f"| {stage} | {rows:,} |"
    for rule, rows in origin["broken"].items():
        yield f"| quarantined for {rule} | {rows:,} |"
    if origin["rules"]:
        asked = {name: value for name, value in origin["rules"].items() if value not in (None, [])}
        told = ", ".join(f"{name} {_quoted(value)}" for name, value in asked.items())
        yield from ("", f"Rules: {told}.")


def _quoted(text: object) -> str:
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"
