"""``llmops gate check``: judge a finished run by another gate; nothing is run or moved."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

SUMMARY = "judge a finished run by a gate, its own or another"
REFUSED = 3


def main(argv: Sequence[str]) -> int:
    """Judge, print every reason, and end with 3 if the gate refuses."""
    arguments = _parser().parse_args(argv)
    from llmops import api

    decision = api.check_gate(arguments.run, arguments.gate, arguments.overrides)
    if arguments.json:
        print(json.dumps(asdict(decision), indent=1, ensure_ascii=False))
    else:
        for reason in decision.reasons:
            print(f"{'held  ' if reason.passed else 'FAILED'}  {reason.text}")
        failed = sum(not reason.passed for reason in decision.reasons)
        verdict = "passed" if decision.passed else f"refused: {failed} of {len(decision.reasons)}"
        print(f"gate {verdict} for {decision.contestant}")
    return 0 if decision.passed else REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops gate",
        description=SUMMARY,
        epilog="example:  llmops gate check 20261123-101502-7b1e --gate strict",
    )
    checking = parser.add_subparsers(required=True, metavar="check").add_parser(
        "check", help="judge a run; exit code 3 if the gate refuses"
    )
    checking.add_argument("run", metavar="RUN", help="its id, or the beginning of it")
    checking.add_argument("--gate", metavar="NAME", help="a choice of conf/gate; default: its own")
    checking.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="gate.max_leakage=0.01")
    checking.add_argument("--json", action="store_true", help="print JSON")
    return parser
