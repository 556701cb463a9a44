"""Run the checks of a real Google Cloud project and print what held.

    make smoke-gcp PROJECT=my-project
    make smoke-gcp PROJECT=my-project BUCKET=gs://my-bucket REGION=europe-west4 PARTS=storage
    make smoke-gcp PROJECT=my-project PARTS='gemini engines' IMAGE=HOST/PATH/llmops:slim TUNE=1

Exit code 0 if every check held, 5 if one did not. A part is a module of this folder with
``CHECKS``; its line in ``PARTS`` is all that another one needs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from llmops.errors import LlmopsError
from tests.smoke.check import Check, Place

PARTS = {
    "bigquery": "tests.smoke.bigquery",
    "engines": "tests.smoke.engines",
    "gemini": "tests.smoke.gemini",
    "storage": "tests.smoke.storage",
}


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    parts = arguments.parts or list(PARTS)
    with tempfile.TemporaryDirectory(prefix="llmops-smoke-") as folder:
        where = environment(arguments.project, arguments.bucket, arguments.region)
        place = Place(where, Path(folder), arguments.image, arguments.tune)
        failed = run(parts, place)
    print(f"{failed} of the checks did not hold" if failed else "every check held")
    return 5 if failed else 0


def environment(project: str, bucket: str | None, region: str) -> dict[str, Any]:
    """Return the ``env`` section of the checks, with the application's own credentials."""
    return {
        "name": "smoke",
        "project": project,
        "bucket": bucket or f"gs://{project}-llmops",
        "region": region,
        "budget": None,
        "credentials": {"kind": "application_default"},
    }


def run(parts: Sequence[str], place: Place, *, real: bool = True) -> int:
    """Run the checks of some parts, print a line each, and return how many failed."""
    failed = 0
    for part in parts:
        for check in checks(part):
            if not place.has(check.needs):
                print(f"skip {part}: {check.sentence}  (say {check.needs.upper()}=...)")
            elif real or not check.only_real:
                failed += not _holds(part, check, place)
    return failed


def checks(part: str) -> Iterator[Check]:
    yield from import_module(PARTS[part]).CHECKS


def _holds(part: str, check: Check, place: Place) -> bool:
    started = time.monotonic()
    try:
        seen, held = check.run(place), True
    except LlmopsError as exc:
        seen, held = f"{exc.problem}; {exc.hint}", False
    except AssertionError as exc:
        seen, held = f"it is not so: {exc}", False
    seconds = time.monotonic() - started
    print(f"{'ok  ' if held else 'FAIL'} {part}: {check.sentence}  {seconds:.1f} s  ({seen})")
    return held


def _parser() -> argparse.ArgumentParser:
    costs: Mapping[str, str] = {
        f"{part}: {check.sentence}": check.costs for part in PARTS for check in checks(part)
    }
    billed = "\n".join(f"  {name}: {cost}" for name, cost in costs.items() if cost != "nothing")
    parser = argparse.ArgumentParser(
        prog="python -m tests.smoke",
        description="Check what only a real Google Cloud project can show.",
        epilog=f"what may be billed:\n{billed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--project", required=True, help="the project that is billed")
    parser.add_argument("--bucket", help="default: gs://PROJECT-llmops; it must exist")
    parser.add_argument("--region", default="us-central1")
    parser.add_argument("--image", default="", help="with llmops in it, for the engine's tasks")
    parser.add_argument("--tune", action="store_true", help="also pay for a small tuning")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
