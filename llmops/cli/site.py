"""``llmops site``: the workspace as pages that open from disk."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

SUMMARY = "write the whole workspace as a static site"


def main(argv: Sequence[str]) -> int:
    """Write the site and say where."""
    from llmops import api

    arguments = _parser().parse_args(argv)
    made = api.site(Path(arguments.out))
    if arguments.json:
        print(json.dumps({"folder": str(made.folder), "pages": made.pages, "runs": made.runs}))
    else:
        print(f"{made.folder / 'index.html'}: {made.runs} runs, {made.pages} pages")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops site",
        description=SUMMARY,
        epilog="example:  llmops site --out public",
    )
    parser.add_argument("--out", default="site", metavar="FOLDER", help="default: site")
    parser.add_argument("--json", action="store_true")
    return parser
