"""``llmops monitor``: the newest traffic against training or earlier traffic; 3 if it alerts."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops.errors import Refused

if TYPE_CHECKING:
    from llmops.engines.vertex_schedule import Scheduled

SUMMARY = "hold the newest traffic against training rows or earlier traffic"
_EPILOG = """examples:
  llmops monitor
  llmops monitor monitor.window_days=1 monitor.against=window
  llmops monitor monitor.alert.webhook='${secret:ALERT_URL}' --cron "0 6 * * *" | crontab -
  llmops monitor --vertex "0 6 * * *" monitor.against=window serve.log.path=/gcs/my-bucket/logs \\
    engine=vertex engine.image=IMAGE env=prod env.project=my-project"""


def main(argv: Sequence[str]) -> int:
    """Judge the newest window; raise if something alerts."""
    given = _parser().parse_intermixed_args(argv)
    from llmops import api

    if given.cron:
        print(_cron(given.cron, given.overrides))
        return 0
    if given.vertex:
        _tell(api.schedule_monitor(given.vertex, given.overrides), as_json=given.json)
        return 0

    watched = api.monitor(given.overrides)
    if given.json:
        told = {**watched.report, "page": str(watched.page), "run": watched.run_id}
        print(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _show(watched.report)
        print(f"page  {watched.page}")
        if watched.run_id:
            print(f"run   {watched.run_id}")
    if watched.alerts:
        raise Refused("; ".join(watched.alerts), hint=f"see {watched.page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops monitor",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="monitor.KEY=VALUE, serve=FILE; with --vertex env and engine too",
    )
    scheduled = parser.add_mutually_exclusive_group()
    scheduled.add_argument(
        "--cron", metavar="TIMES", help='print the crontab line for these times, e.g. "0 6 * * *"'
    )
    scheduled.add_argument(
        "--vertex", metavar="TIMES", help="schedule it on Vertex AI, at these times in UTC"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _cron(times: str, overrides: Sequence[str]) -> str:
    """Return a crontab line that does the same in this folder; cron reads ``%`` as a new line."""
    from llmops.api.monitoring import check_cron
    from llmops.config.project import workspace

    check_cron(times)
    place = shlex.quote(str(workspace()))
    command = shlex.join([sys.executable, "-m", "llmops", "monitor", *overrides])
    return f"{times} cd {place} && {command}".replace("%", "\\%")


def _tell(scheduled: Scheduled, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(vars(scheduled)))
        return
    print(f"{'changed' if scheduled.replaced else 'made'}  {scheduled.address}")
    print(f"next run  {scheduled.next_run}")
    print(f"page  {scheduled.link}")


def _show(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, markup=False)
    out.print(f"{report['now']}: {report['rows']} questions, {report['answers']} answers")
    out.print(f"against {report['against']}: {report['against_rows']} questions")
    if not report["enough"]:
        out.print(f"fewer than {report['min_rows']} on a side: too few to judge drift or rates")
    if report["drift"]:
        table = Table("drift", "distance", "interval", "by chance", "p, corrected", "limit", "")
        for one in report["drift"]:
            interval = f"{one['low']:.3f} to {one['high']:.3f}"
            figures = (f"{one['distance']:.3f}", interval, f"{one['by_chance']:.3f}")
            table.add_row(one["name"], *figures, f"{one['p_corrected']:.3f}", *_end(one))
        out.print(table)
    if report["rates"]:
        table = Table("rate", "count", "value", "interval", "limit", "")
        for one in report["rates"]:
            known = one["value"] is not None
            value = f"{one['value']:.1%}" if known else "not known"
            interval = f"{one['low']:.1%} to {one['high']:.1%}" if known else ""
            count = f"{one['count']} of {one['trials']}"
            table.add_row(one["name"], count, value, interval, *_end(one))
        out.print(table)
    latency, cost = report["latency"], report["cost"]
    if latency["p95_s"] is not None:
        out.print(f"latency  p50 {latency['p50_s']:.3f} s, p95 {latency['p95_s']:.3f} s")
    if cost["per_answer"] is not None:
        out.print(f"cost     {cost['total']:.4g} in all, {cost['per_day']:.4g} a day")
    for alert in report["alerts"]:
        out.print(f"alert    {alert}")


def _end(one: Mapping[str, Any]) -> tuple[str, str]:
    limit = "" if one["limit"] is None else f"{one['limit']:g}"
    return limit, "alert" if one["alert"] else ""
