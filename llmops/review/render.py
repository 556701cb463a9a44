"""How a difference reads: as text for a terminal, as Markdown for a pull request.

Values come from config that strangers may have written: nothing in them is taken for markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import Any

from llmops.plan.cost import Figure, Money, Use
from llmops.plan.diff import Diff, ExperimentDiff, LeafChange, Side

SHOWN = 72  # characters of a value
SHOWN_LEAVES = 40
DIFF_LINES = 40
TITLES = (
    ("rows", "rows"),
    ("bytes", "bytes"),
    ("tokens", "tokens of tuning"),
    ("calls", "calls"),
    ("input_tokens", "tokens in"),
    ("output_tokens", "tokens out"),
)


def text(diff: Diff) -> str:
    """Return the difference for a terminal."""
    lines = [f"{diff.base} -> {diff.head}: {_counted(diff)}"]
    lines += [f"the table {name} changed" for name in diff.tables]
    lines += [
        f"  LOOSENED (budget)  {one.key} {_arrow(one.before, one.after, md=False)}: {one.why}"
        for one in diff.cheaper
    ]
    for experiment in diff.experiments:
        lines += ["", *_experiment_text(experiment)]
    return "\n".join(lines)


def markdown(diff: Diff) -> str:
    """Return the difference as Markdown, for a comment under a pull request."""
    lines = [f"**{_code(diff.base)} → {_code(diff.head)}**: {_counted(diff)}"]
    if diff.tables:
        lines += ["", f"Tables that changed: {', '.join(_code(name) for name in diff.tables)}"]
    loosened = [(e.name, one) for e in diff.experiments for one in e.loosened]
    loosened += [("every experiment", one) for one in diff.cheaper]
    if loosened:
        lines += ["", "> [!WARNING]", "> **Loosened**", ">"]
        lines += [
            f"> * {_code(name)} {_code(one.key)} {_arrow(one.before, one.after, md=True)}: "
            f"{one.why} ({', '.join(one.categories)})"
            for name, one in loosened
        ]
    for experiment in diff.experiments:
        lines += ["", *_experiment_markdown(experiment)]
    return "\n".join(lines)


def _counted(diff: Diff) -> str:
    counts: dict[str, int] = {}
    for experiment in diff.experiments:
        counts[experiment.change] = counts.get(experiment.change, 0) + 1
    parts = [f"{number} {change}" for change, number in counts.items()]
    parts.append(f"{diff.unchanged} unchanged")
    many = len(diff.experiments) + diff.unchanged
    return f"{many} experiment{'' if many == 1 else 's'}: {', '.join(parts)}"


# ----------------------------------------------------------------------- text


def _experiment_text(experiment: ExperimentDiff) -> Iterator[str]:
    yield f"{experiment.name}: {_headline(experiment)}"
    for one in experiment.loosened:
        yield f"  LOOSENED ({', '.join(one.categories)})  {one.key}: {one.why}"
    for leaf in experiment.leaves:
        yield from _leaf_text(leaf)
    for problem in experiment.problems:
        yield from (f"  {line}" for line in problem.splitlines())
    yield from (f"  {line}" for line in _steps(experiment))
    yield from (f"  {line}" for line in _cost(experiment))
    yield from (f"  {line}" for line in _remarks(experiment))


def _leaf_text(leaf: LeafChange) -> Iterator[str]:
    yield f"  {leaf.key}  {_leaf_arrow(leaf)}"
    if leaf.after and leaf.after.set_by:
        before = leaf.before.set_by if leaf.before else None
        moved = f"  (before: {before})" if before and before != leaf.after.set_by else ""
        yield f"      set by {leaf.after.set_by}{moved}"
    elif leaf.before and leaf.before.set_by:
        yield f"      was set by {leaf.before.set_by}"
    yield from (f"      {line}" for line in _long(leaf))


# ------------------------------------------------------------------- markdown


def _experiment_markdown(experiment: ExperimentDiff) -> Iterator[str]:
    yield f"### {_code(experiment.name)}: {_headline(experiment)}"
    if experiment.leaves:
        yield from ("", "| key | before | after | set by |", "|---|---|---|---|")
        yield from (_leaf_row(leaf) for leaf in experiment.leaves[:SHOWN_LEAVES])
        more = len(experiment.leaves) - SHOWN_LEAVES
        if more > 0:
            yield from ("", f"and {more} more; `llmops diff --format text` shows them")
    for leaf in experiment.leaves:
        if long := list(_long(leaf)):
            yield from ("", f"{_code(leaf.key)}:", "", *_fenced(long))
    if experiment.problems:
        yield from ("", *_fenced("\n".join(experiment.problems).splitlines()))
    rest = [*_steps(experiment), *_cost(experiment), *_remarks(experiment)]
    if rest:
        yield from ("", *_fenced(rest))


def _leaf_row(leaf: LeafChange) -> str:
    marked = "" if not leaf.same_value else " (same value)"
    place = next((side.set_by for side in (leaf.after, leaf.before) if side and side.set_by), "")
    cells = (_code(leaf.key) + marked, _side(leaf.before), _side(leaf.after), _code(place or "-"))
    inside = (cell.replace("|", "\\|") for cell in cells)  # holds within code as well
    return f"| {' | '.join(inside)} |"


def _side(side: Side | None) -> str:
    if side is None:
        return "-"
    written = f" from {_code(side.written)}" if side.written else ""
    return _code(_value(side.value)) + written


def _fenced(lines: Sequence[str]) -> Iterator[str]:
    longest = max((len(run) for line in lines for run in _runs(line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}text"
    yield from lines
    yield fence


def _runs(line: str) -> list[str]:
    return [part for part in "".join(c if c == "`" else " " for c in line).split(" ") if part]


def _code(value: str) -> str:
    """Return a code span that holds any text: no markup and no second line."""
    plain = "".join(c if c.isprintable() else " " for c in value)
    fence = "`" * (max((len(run) for run in _runs(plain)), default=0) + 1)
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain or ' '}{pad}{fence}"


# --------------------------------------------------------------------- shared


def _headline(experiment: ExperimentDiff) -> str:
    if experiment.change != "changed":
        words = {"added": "new", "removed": "no longer there", "invalid": "NOT VALID"}
        return words[experiment.change]
    leaves, steps = len(experiment.leaves), len(experiment.steps)
    several = "leaf" if leaves == 1 else "leaves"
    return f"{leaves} {several} changed, {len(experiment.reruns)} of {steps} steps rerun"


def _steps(experiment: ExperimentDiff) -> Iterator[str]:
    if experiment.change == "added":
        yield f"runs: {', '.join(step.name for step in experiment.steps)}"
        return
    for step in experiment.steps:
        if step.status in ("run", "waits"):
            yield f"reruns  {step.name}: {step.reason}"
        elif step.status == "gone":
            yield f"gone    {step.name}: {step.reason}"


def _cost(experiment: ExperimentDiff) -> Iterator[str]:
    change = experiment.cost
    if change is None or change.after is None:
        return
    if change.before is not None:
        yield from _full_run(change.before, change.after, change.currency)
    elif experiment.change == "added":
        money = _money(change.after.money, change.currency)
        yield f"a full run costs {money}{_amounts(change.after)}"
    if experiment.change == "changed" and experiment.reruns and change.rerun is not None:
        money = _money(change.rerun.money, change.currency)
        yield f"what reruns costs {money}{_amounts(change.rerun)}"


def _full_run(before: Use, after: Use, currency: str) -> Iterator[str]:
    for name, title in TITLES:
        old, new = getattr(before, name), getattr(after, name)
        if new is not None and (old is None or old.value != new.value):
            was = f"{_figure(old)} -> " if old else ""
            yield f"a full run: {title} {was}{_figure(new)}"
    old_money, new_money = _money(before.money, currency), _money(after.money, currency)
    was = f"{old_money} -> " if old_money != new_money else ""
    yield f"a full run costs {was}{new_money}"


def _amounts(use: Use) -> str:
    parts = [
        f"{_figure(figure)} {title}"
        for name, title in TITLES
        if (figure := getattr(use, name)) is not None and figure.value is not None
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "unknown"
    bound = "" if figure.basis == "exact" else f"{figure.basis} "
    return f"{bound}{figure.value:,.0f}"


def _money(money: Money, currency: str) -> str:
    if money.value is None:
        return f"an unknown amount ({'; '.join(money.unknown)})"
    return "nothing" if money.value == 0 else f"at most {money.value:,.2f} {currency}"


def _remarks(experiment: ExperimentDiff) -> Iterator[str]:
    if experiment.over_budget:
        yield f"BUDGET  {experiment.over_budget}"
    yield from (f"warning {caution.text} [{caution.source}]" for caution in experiment.cautions)
    yield from (f"note    {note}" for note in experiment.notes)


def _leaf_arrow(leaf: LeafChange) -> str:
    before = _written(leaf.before)
    after = _written(leaf.after)
    same = "  (same value)" if leaf.same_value else ""
    return f"{before} -> {after}{same}"


def _written(side: Side | None) -> str:
    if side is None:
        return "(not set)"
    return _value(side.value) + (f" from {side.written}" if side.written else "")


def _arrow(before: Any, after: Any, *, md: bool) -> str:
    show = _code if md else str
    return f"{show(_value(before))} → {show(_value(after))}"


def _value(value: Any) -> str:
    if isinstance(value, str) and "\n" in value.strip():
        return f"a text of {len(value.splitlines())} lines"
    shown = (
        value
        if isinstance(value, str) and value.isprintable()
        else json.dumps(value, ensure_ascii=False)
    )
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."


def _long(leaf: LeafChange) -> Iterator[str]:
    """Yield the changed lines of a text of several lines, e.g. a query or a template."""
    if leaf.same_value or leaf.before is None or leaf.after is None:
        return
    old, new = leaf.before.value, leaf.after.value
    if isinstance(old, str) and isinstance(new, str) and "\n" in f"{old}{new}".strip():
        lines = list(unified_diff(old.splitlines(), new.splitlines(), n=1, lineterm=""))[2:]
        yield from ("".join(c if c.isprintable() else " " for c in ln) for ln in lines[:DIFF_LINES])
        if len(lines) > DIFF_LINES:
            yield f"... and {len(lines) - DIFF_LINES} more lines"
