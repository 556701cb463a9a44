"""Write ``sweep.html``: members, what varies, what it did to the figure, and what is noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.files import write_text
from llmops.report import words
from llmops.report.drawing import draw
from llmops.report.figures import Spec
from llmops.report.rendering import render
from llmops.report.sweep_figures import Point, parallel_figure, scatter_figure

MOST_SCATTERS = 8


def write_sweep_page(
    folder: Path,
    document: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    final: Mapping[str, Any] | None,
    cache: Path,
) -> Path:
    """Write the page of a sweep, whole or not at all, and return its path.

    Args:
        folder: The sweep's folder.
        document: What ``sweep.json`` holds, its ``leaderboard`` among it.
        members: The members as their files hold them.
        final: The run record of the chosen member's run on the test side, if there is one.
        cache: Where figures that were drawn before lie.

    Raises:
        OSError: If the folder cannot be written to.
    """
    board = document.get("leaderboard")
    rows = _rows(members, board)
    keys = list(dict.fromkeys(key for row in rows for key in row["varies"]))
    context = {
        "sweep": document,
        "notes": [*(document.get("notes") or ()), *((board or {}).get("notes") or ())],
        "board": board and _board(board),
        "rows": rows,
        "keys": keys,
        "settings": _settings(board),
        "final": final and _final(final, document, rows, board),
        "failures": [_failure(member) for member in members if member["problem"]],
        **_plots(board, keys, cache),
    }
    path = folder / "sweep.html"
    write_text(path, render("sweep.html.j2", context))
    return path


def _board(board: Mapping[str, Any]) -> dict[str, str]:
    return {
        "sentence": board["sentence"],
        "title": words.metric_title(board["metric"]),
        "who": words.plain_name(board["contestant"]),
        "direction": f"{board['better']} is better",
    }


def _rows(
    members: Sequence[Mapping[str, Any]], board: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    by_id = {member["id"]: member for member in members}
    placed = board["rows"] if board else [{"member": each} for each in by_id]
    return [_row(by_id[place["member"]], place, board) for place in placed]


def _row(
    member: Mapping[str, Any], place: Mapping[str, Any], board: Mapping[str, Any] | None
) -> dict[str, Any]:
    unit = board["unit"] if board else ""
    linked = member["run_id"] and member["experiment"]
    cached = member["cached_steps"]
    return {
        "id": member["id"],
        "place": place.get("place") or "",
        "varies": place.get("varies") or _overrides(member) if not board else place["varies"],
        "value": words.figure(place.get("value"), unit),
        "interval": words.interval(place.get("low"), place.get("high"), unit),
        "status": words.OUTCOMES.get(member["status"], member["status"]),
        "mark": member["status"],
        "seconds": words.seconds(member["seconds"]),
        "cached": "" if cached is None else f"{cached} of {member['steps']}",
        "money": "" if member["money"] is None else f"{member['money']:,.2f}",
        "run_id": member["run_id"] or "",
        "link": f"../../{member['experiment']}/{member['run_id']}/report.html" if linked else "",
    }


def _overrides(member: Mapping[str, Any]) -> dict[str, str]:
    return {"overrides": " ".join(member["overrides"])}


def _settings(board: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if not board or len(board["settings"]) < 2:
        return []
    unit = board["unit"]
    return [
        {
            "name": one["setting"] or "(as it is)",
            "seeds": len(one["members"]),
            "value": words.figure(one["value"], unit),
            "difference": words.signed(one["difference"], unit)
            if one["difference"] is not None
            else "",
            "interval": words.interval(one["low"], one["high"], unit),
            "p": "" if one["p"] is None else _p(one["p"]),
            "verdict": _verdict(one, best=place == 0),
            "mark": "bad" if one["told_apart"] else "",
        }
        for place, one in enumerate(board["settings"])
    ]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "under 0.001"


def _verdict(one: Mapping[str, Any], *, best: bool) -> str:
    if best:
        return "the best figure"
    return one["why"] or ("worse" if one["told_apart"] else "not told apart")


def _final(
    record: Mapping[str, Any],
    document: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    board: Mapping[str, Any] | None,
) -> dict[str, Any]:
    chosen = next((row for row in rows if row["id"] == document.get("chosen")), None)
    figure = ""
    if board:
        contestants = (record.get("metrics") or {}).get("contestants") or {}
        found = (contestants.get(board["contestant"]) or {}).get(board["metric"]) or {}
        if found.get("value") is not None:
            span = words.interval(found["low"], found["high"], board["unit"])
            shown = words.figure(found["value"], board["unit"])
            figure = f"{words.metric_title(board['metric'])} {shown} {span} on test rows"
    return {
        "member": document.get("chosen"),
        "varies": ", ".join(f"{k}={v}" for k, v in chosen["varies"].items()) if chosen else "",
        "run_id": record["run_id"],
        "link": f"../../{record['experiment']}/{record['run_id']}/report.html",
        "outcome": words.OUTCOMES.get(record["status"], record["status"]),
        "figure": figure,
    }


def _failure(member: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": member["id"],
        "overrides": " ".join(member["overrides"]),
        "problem": member["problem"],
        "hint": member["hint"],
    }


def _plots(board: Mapping[str, Any] | None, keys: Sequence[str], cache: Path) -> dict[str, Any]:
    if not board:
        return {"wide": [], "plots": []}
    title = words.metric_title(board["metric"])
    points = [
        Point(row["member"], row["varies"], row["value"], row["low"], row["high"])
        for row in board["rows"]
        if row["value"] is not None
    ]
    wide = [parallel_figure(points, title, lower_is_better=board["better"] == "lower")]
    scatters = [scatter_figure(points, key, title) for key in keys[:MOST_SCATTERS]]
    return {"wide": _drawn(wide, cache), "plots": _drawn(scatters, cache)}


def _drawn(specs: Sequence[Spec | None], cache: Path) -> list[dict[str, str]]:
    return [
        {"title": spec["usermeta"]["title"], "svg": draw(spec, cache)}
        for spec in specs
        if spec is not None
    ]
