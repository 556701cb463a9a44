"""Say how many of the small changes that ``mutmut run`` made to the code some test noticed.

    make mutation                       # makes the changes, runs the tests, then this
    python -m tests.faults.mutants -v   # and names each change that no test noticed

Ends with 1 if a module has changes that were not tried, or all together fall short of the floor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mutmut.stats import status_by_exit_code

FLOOR = 0.9
UNNOTICED = ("survived", "no tests")
UNTRIED = "not checked"


def main(argv: Sequence[str]) -> int:
    """Print a line a module and one for all; return 1 if it is not enough."""
    all_made = all_noticed = untried = 0
    for path in sorted(Path("mutants").rglob("*.py.meta")):
        exit_codes = json.loads(path.read_text("utf-8"))["exit_code_by_key"]
        found = {name: status_by_exit_code[code] for name, code in exit_codes.items()}
        tried = {name: status for name, status in found.items() if status != UNTRIED}
        untried += len(found) - len(tried)
        if not tried:
            continue
        missed = sorted(name for name, status in tried.items() if status in UNNOTICED)
        noticed = len(tried) - len(missed)
        print(f"{_module(path):44s} {len(tried):5d} changes {noticed / len(tried):7.1%} noticed")
        if "-v" in argv:
            print("".join(f"    mutmut show {name}\n" for name in missed), end="")
        all_made, all_noticed = all_made + len(tried), all_noticed + noticed
    score = all_noticed / max(all_made, 1)
    print(f"{all_made} changes, {score:.1%} noticed, {untried} not tried")
    return int(untried > 0 or score < FLOOR)


def _module(path: Path) -> str:
    return path.relative_to("mutants").as_posix().removesuffix(".meta")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
