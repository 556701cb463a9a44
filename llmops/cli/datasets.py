"""``llmops datasets``: the dataset versions, their cards, how two differ, and who holds a row."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmops.cli.verbs import call_verb, print_json

if TYPE_CHECKING:
    from llmops.lineage.datasets import Dataset

SUMMARY = "list dataset versions, show a card, compare two, find who holds a row"


def main(argv: Sequence[str]) -> int:
    """Look at the workspace's dataset versions."""
    return call_verb(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops datasets",
        description=SUMMARY,
        epilog="example:  llmops datasets diff v1-3f9c21ab v2-77d43210",
    )
    verbs = parser.add_subparsers(required=True, metavar="list | show | diff | erase")
    listing = verbs.add_parser("list", help="all versions, newest first")
    listing.set_defaults(command=_list)
    showing = verbs.add_parser("show", help="one version's card")
    showing.add_argument("version", metavar="VERSION", help="its name, or the beginning of it")
    showing.set_defaults(command=_show)
    comparing = verbs.add_parser("diff", help="rows added and removed, lengths and tags")
    comparing.add_argument("before", metavar="A")
    comparing.add_argument("after", metavar="B")
    comparing.set_defaults(command=_diff)
    erasing = verbs.add_parser(
        "erase", help="name every version and model that hold a row, and how to leave it out"
    )
    erasing.add_argument("key", metavar="KEY", help="the row's key, 64 hex digits")
    erasing.add_argument(
        "--answers", action="store_true", help="remove the answers about it that are kept"
    )
    erasing.set_defaults(command=_erase)
    for verb in (listing, showing, comparing, erasing):
        verb.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _known() -> list[Dataset]:
    from llmops import api

    return api.datasets()


def _list(arguments: argparse.Namespace) -> int:
    found = _known()
    if arguments.json:
        print_json([_row(each) for each in found])
        return 0
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("dataset", no_wrap=True),
        "experiment",
        "train",
        "validation",
        "test",
        "split",
        "runs",
        "models",
    )
    for each in found:
        rows = [f"{each.card['rows'][side]:,}" for side in ("train", "validation", "test")]
        counts = (str(len(each.runs)), str(len(each.models)))
        table.add_row(each.name, each.experiment, *rows, each.card["method"], *counts)
    none = "no datasets yet:  python -m llmops run +experiment=so_python pipeline=dataset"
    Console(markup=False).print(table if found else none)
    return 0


def _row(each: Dataset) -> dict[str, Any]:
    return {
        "name": each.name,
        "experiment": each.experiment,
        "rows": each.card["rows"],
        "method": each.card["method"],
        "digest": each.card["digest"],
        "runs": list(each.runs),
        "models": list(each.models),
    }


def _show(arguments: argparse.Namespace) -> int:
    from llmops.data.card import card_markdown
    from llmops.lineage.datasets import pick

    each = pick(_known(), arguments.version)
    if arguments.json:
        print_json({**_row(each), "card": each.card})
    else:
        print(card_markdown(each.card), end="")
        print(f"\nruns: {', '.join(each.runs)}\nmodels: {', '.join(each.models) or 'none'}")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from llmops.lineage.dataset_changes import difference
    from llmops.lineage.datasets import pick

    found = _known()
    told = difference(pick(found, arguments.before), pick(found, arguments.after))
    if arguments.json:
        print_json(asdict(told))
        return 0
    print(f"{told.before} -> {told.after}")
    print(f"rows: {told.added:,} added, {told.removed:,} removed, {told.kept:,} kept")
    print(f"      {told.moved:,} of the kept on another side")
    for name, (before, after) in told.changed.items():
        print(f"{name}: {json.dumps(before)} -> {json.dumps(after)}")
    for column, lengths in told.lengths.items():
        print(f"\ncharacters of {column}:")
        for edge, one, other in zip(
            lengths["edges"], lengths["before"], lengths["after"], strict=True
        ):
            if one or other:
                print(f"  from {edge:>7,}  {one:>9,} -> {other:>9,}")
    for tag in told.tags:
        print(f"  tag {tag['tag']:20s} {tag['before']:>9,} -> {tag['after']:>9,}")
    return 0


def _erase(arguments: argparse.Namespace) -> int:
    from llmops import api

    found = api.erase(arguments.key, remove_answers=arguments.answers)
    if arguments.json:
        told = {**vars(found), "datasets": [_row(each) for each in found.held]}
        del told["held"]
        print_json(told)
        return 0
    print(f"datasets that hold the row: {', '.join(each.name for each in found.held) or 'none'}")
    print(f"models tuned on them: {', '.join(found.models) or 'none'}")
    if found.not_searched:
        print(f"not searched, for their rows are not kept: {', '.join(found.not_searched)}")
    print(f"{'removed' if found.removed else 'kept'} answers about it: {found.answers}")
    if found.answers and not found.removed:
        print(f"to remove those:  llmops datasets erase {arguments.key} --answers")
    print(f"to leave it out from now on:  'dataset.rules.erased=[{arguments.key}]'")
    return 0
