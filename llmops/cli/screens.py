"""What ``run``, ``plan`` and ``runs show`` put on the terminal: the plan, progress, the result.

Takes plain records and a console; opens nothing but a small JSON output to show. On a terminal,
long steps have a progress bar; in a pipe, a plain line every few seconds. Colour carries nothing
that words do not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.cli.pace import Paces
from llmops.report import words
from llmops.report.results import (
    Cell,
    Contestant,
    Difference,
    champion_sentence,
    contestants,
    differences,
    disclaimer,
    facts_of,
    metric_names,
    rows_sentences,
    source_sentence,
    tuned_on,
    used_sentence,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table
    from rich.text import Text

    from llmops.plan.build import Plan, PlannedStep
    from llmops.plan.cost import Estimate, Figure, Money, Use

NARROW = 76  # columns; below this a plan leaves out kind and key
WIDE = 112  # columns; below this the result has a row a figure, not a row a contestant
COLUMN_GAP = 3  # between two columns of a table
PLAIN_SECONDS = 5.0  # between two lines of one step where there is no terminal
COLOURS: Mapping[str, str] = {
    "cached": "cyan",
    "unchanged": "cyan",
    "run": "bold",
    "waits": "bold",
    "skipped": "dim",
    "done": "green",
    "succeeded": "bold green",
    "failed": "bold red",
    "refused": "bold red",
    "interrupted": "bold yellow",
}
PLAN_WORDS: Mapping[str, str] = {"waits": "run"}


# ------------------------------------------------------------------------ plan


def show_plan(plan: Plan, console: Console) -> None:
    """Print each step with its status and why, then the plan's notes, what it uses, a count."""
    if plan.against != "store":
        _say(f"compared with {plan.against}", console, style="bold")
    wide = console.width >= NARROW
    table = _table("step", *(["kind"] if wide else []), "status", "why", *(["key"] if wide else []))
    for step in plan.steps:
        table.add_row(*(_safe(cell, console) for cell in _plan_row(step, wide)))
    console.print(table)
    for note in plan.notes:
        _say(f"note: {note}", console)
    if plan.estimate is not None:
        _show_estimate(plan.estimate, console)
    _say(_plan_count(plan), console, style="bold")


def _plan_row(step: PlannedStep, wide: bool) -> Iterable[Text]:
    from rich.text import Text

    yield Text(step.name)
    if wide:
        yield Text(step.kind, style="dim")
    yield Text(PLAN_WORDS.get(step.status, step.status), style=COLOURS[step.status])
    yield Text("" if step.reason == step.status else step.reason)
    if wide:
        yield Text(step.key[:12] if step.key else "", style="dim")


def _plan_count(plan: Plan) -> str:
    skipped = sum(step.status == "skipped" for step in plan.steps)
    done = len(plan.steps) - len(plan.to_run) - skipped
    word = "cached" if plan.against == "store" else "unchanged"
    parts = [f"{words.count(done, 'step')} {word}", f"{len(plan.to_run) or 'nothing'} to run"]
    if skipped:
        parts.append(f"{skipped} not selected")
    return ", ".join(parts)


def show_sweep_estimate(plans: Sequence[Plan], console: Console) -> None:
    """Print what all members of a sweep use together."""
    from llmops.plan.cost import of_sweep

    whole = of_sweep([plan.estimate for plan in plans if plan.estimate is not None])
    _say(f"the whole sweep, {words.count(len(plans), 'member')}:", console, style="bold")
    _say(f"  {_use(whole.total)}", console)
    _say(f"  {money(whole.total.money, whole)}", console)


def _show_estimate(estimate: Estimate, console: Console) -> None:
    """Print what the steps to run use, what it costs, and what stands against it."""
    if estimate.steps:
        table = _table("uses", "")
        for name, use in estimate.steps.items():
            if text := _use(use):
                table.add_row(_safe(name, console), _safe(text, console))
        if table.row_count:
            console.print(table)
        _say(money(estimate.total.money, estimate), console)
    for caution in estimate.warnings:
        style = "bold red" if caution.blocks else "bold yellow"
        _say(f"warning: {caution.text} [{caution.source}]", console, style=style)


def money(found: Money, of: Estimate) -> str:
    """Return what something costs in words: the bound, or that and why it is unknown."""
    if found.value is None:
        return f"costs: unknown (prices of {of.dated}): " + "; ".join(found.unknown)
    if found.value == 0:
        return "costs: nothing"
    return f"costs: at most {found.value:,.2f} {of.currency} (prices of {of.dated})"


def _use(use: Use) -> str:
    parts = []
    for name, unit in _UNITS.items():
        figure = getattr(use, name)
        if figure is None or (name == "rows" and use.calls is not None):
            continue
        parts.append(_figure(figure, unit))
    return ", ".join(parts) + (f" ({use.how})" if use.how else "")


_UNITS: Mapping[str, str] = {
    "rows": "rows",
    "bytes": "bytes",
    "tokens": "tokens of tuning",
    "calls": "calls",
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
}


def _figure(figure: Figure, unit: str) -> str:
    if figure.value is None:
        return f"{unit} unknown"
    amount = words.size(int(figure.value)) if unit == "bytes" else f"{figure.value:,.0f} {unit}"
    return amount if figure.basis == "exact" else f"{figure.basis} {amount}"


# -------------------------------------------------------------------- progress


class RunScreen:
    """Shows the events of a run's steps while they work; a context manager.

    An event has ``step`` and ``event`` (``start``, ``progress`` or ``end``); progress brings
    ``done``, ``total`` (may be null) and ``note``, an end ``status`` and ``seconds``.
    """

    def __init__(
        self,
        console: Console,
        *,
        clock: Callable[[], float] = time.monotonic,
        plain_seconds: float = PLAIN_SECONDS,
    ) -> None:
        self._console = console
        self._clock = clock
        self._plain_seconds = plain_seconds
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._paces = Paces()
        self._bars: dict[str, TaskID] = {}
        self._live: Progress | None = None

    def __enter__(self) -> RunScreen:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def event(self, event: Mapping[str, Any]) -> None:
        """Show one event; kinds of events that this version does not know are passed over."""
        step = str(event["step"])
        if event["event"] == "start":
            now = self._started[step] = self._told[step] = self._clock()
            self._paces.start(step, now)
        elif event["event"] == "progress":
            self._progress(step, event)
        elif event["event"] == "end":
            self._end(step, event)

    def _progress(self, step: str, event: Mapping[str, Any]) -> None:
        now = self._clock()
        amount = _joined(_amount(event), self._paces.told(step, event, now))
        if self._console.is_interactive:
            self._bar(step, event, amount)
            return
        if now - self._told.setdefault(step, now) >= self._plain_seconds:
            self._told[step] = now
            taken = words.seconds(now - self._started.get(step, now))
            _say(_joined(step, amount, str(event.get("note") or ""), taken), self._console)

    def _bar(self, step: str, event: Mapping[str, Any], amount: str) -> None:
        live = self._progress_display()
        total = event.get("total")
        if step not in self._bars:
            self._bars[step] = live.add_task(step, total=total, note="", amount="")
        live.update(
            self._bars[step],
            completed=event.get("done") or 0,
            total=total,
            refresh=True,
            amount=amount,
            note=_printable(str(event.get("note") or "")),
        )

    def _progress_display(self) -> Progress:
        if self._live is None:
            self._live = _bars(self._console)
            self._live.start()
        return self._live

    def _end(self, step: str, event: Mapping[str, Any]) -> None:
        if self._live is not None and step in self._bars:
            self._live.remove_task(self._bars.pop(step))
        status = str(event.get("status") or "done")
        taken = event.get("seconds")
        if taken is None and step in self._started:
            taken = self._clock() - self._started[step]
        line = _joined(step, words.STATUS_WORDS.get(status, status), words.seconds(taken))
        _say(line, self._console, style=COLOURS.get(status, ""))


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    note = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=min(30, max(8, console.width // 4))),
        TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False, table_column=note),
        console=console,
        expand=True,
        transient=True,
    )


def _amount(event: Mapping[str, Any]) -> str:
    done, total = event.get("done") or 0, event.get("total")
    return f"{done:,.0f}/{total:,.0f}" if total else f"{done:,.0f}"


# ---------------------------------------------------------------------- result


def show_result(run: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print what came of a run: figures, data, the gate's decision, and where everything lies."""
    _show_outcome(run, console)
    if run.get("metrics"):
        _show_figures(run["metrics"], console)
    elif not run.get("error") and not run.get("dataset_version"):
        _show_outputs(run, folder, console)
    for sentence in _sentences(run):
        _say(sentence, console)
    if run.get("gate"):
        _show_gate(run["gate"], console)
    _say(champion_sentence(run.get("champion")), console)
    _show_paths(folder, console)


def _show_outcome(run: Mapping[str, Any], console: Console) -> None:
    status = run["status"]
    cached = sum(step["status"] == "cached" for step in run["steps"])
    told = _joined(
        f"{run['experiment']} {run['run_id']}",
        words.OUTCOMES.get(status, status),
        words.seconds(run.get("seconds")),
        f"{cached} of {words.count(len(run['steps']), 'step')} cached",
    )
    console.print()
    _say(told, console, style=COLOURS.get(status, "bold"))
    for job in run.get("engine", {}).get("jobs", ()):
        _path("job", f"{job['link']}  {job['state']}", console)
    if status == "running":
        _say(f"follow it:  python -m llmops runs attach {run['run_id']}", console)
    error = run.get("error")
    if error:
        where = f"step {error['step']}: " if error.get("step") else ""
        _say(f"error: {where}{error['problem']}", console, style="red")
        _say(f"hint: {error['hint']}" if error.get("hint") else "", console)


def _show_figures(metrics: Mapping[str, Any], console: Console) -> None:
    rows, names = contestants(metrics), metric_names(metrics)
    grid = _by_contestant(rows, names)
    if console.width < WIDE:
        grid = [list(column) for column in zip(*grid, strict=True)]
    console.print()
    for piece in _pieces(grid, console.width):
        table = _table(*(_safe(name, console) for name in piece[0]), right=True)
        for line in piece[1:]:
            table.add_row(*(_safe(cell, console) for cell in line))
        console.print(table)
        console.print()
    _say(_basis(metrics, rows), console)
    for row in differences(metrics):
        if row.metric == names[0]:
            _say(_difference(row, str(metrics["baseline"])), console)
    for claim in metrics.get("claims") or ():
        _say(claim["text"], console, style="" if claim["holds"] else "yellow")


def _by_contestant(rows: Sequence[Contestant], names: Sequence[str]) -> list[list[str]]:
    """Return the table as texts: a head of metrics, then a line a contestant."""
    same = _same_n(rows)
    return [["", *(words.metric_title(name) for name in names)]] + [
        [words.plain_name(row.name), *(_cell(cell, with_n=not same) for cell in row.cells)]
        for row in rows
    ]


def _pieces(grid: Sequence[Sequence[str]], width: int) -> Iterator[list[list[str]]]:
    """Yield the table in pieces as wide as the screen allows, each with the first column."""
    first, *others = zip(*grid, strict=True)
    piece, used = [first], _wide(first)
    for column in others:
        if len(piece) > 1 and used + _wide(column) > width:
            yield [list(line) for line in zip(*piece, strict=True)]
            piece, used = [first], _wide(first)
        piece.append(column)
        used += _wide(column)
    yield [list(line) for line in zip(*piece, strict=True)]


def _wide(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n")) + COLUMN_GAP


def _cell(cell: Cell, *, with_n: bool) -> str:
    if cell.value is None:
        return cell.why or words.NOTHING
    lines = [words.figure(cell.value, cell.unit), words.interval(cell.low, cell.high, cell.unit)]
    if with_n:
        lines.append(f"n={words.count(cell.n)}")
    return "\n".join(line for line in lines if line)


def _same_n(rows: Sequence[Contestant]) -> bool:
    return len({cell.n for row in rows for cell in row.cells}) == 1


def _basis(metrics: Mapping[str, Any], rows: Sequence[Contestant]) -> str:
    each = f"n = {words.count(rows[0].cells[0].n, 'test row')} each" if _same_n(rows) else ""
    available = metrics.get("test_rows_available")
    return _joined(
        each or words.count(metrics.get("rows"), "test row"),
        f"of {words.count(available)}" if available is not None else "",
        f"in {words.count(metrics.get('groups'), 'group')}",
        f"intervals with {words.percent(metrics.get('confidence'))} confidence",
        by=", ",
    )


def _difference(row: Difference, baseline: str) -> str:
    change = f"{words.signed(row.value, row.unit)} {words.interval(row.low, row.high, row.unit)}"
    names = f"{words.plain_name(row.contestant)} against {words.plain_name(baseline)}"
    return f"{words.metric_title(row.metric)}, {names}: {change} {row.why or row.verdict}"


def _sentences(run: Mapping[str, Any]) -> list[str]:
    source = run.get("source")
    return [
        tuned_on(facts_of(run, "tune")),
        *rows_sentences(run),
        source_sentence(source) if source else "",
        disclaimer(run.get("safety")),
        used_sentence(run.get("estimates")),
    ]


def _show_gate(gate: Mapping[str, Any], console: Console) -> None:
    passed = gate["passed"]
    console.print()
    verdict = (
        f"gate: {'passed' if passed else 'refused'} for {words.plain_name(gate['contestant'])}"
    )
    _say(verdict, console, style="bold green" if passed else "bold red")
    reasons = _reasons_table()
    for reason in gate["reasons"]:
        holds = reason["passed"]
        style = "" if holds else "red"
        cells = ("  holds" if holds else "  FAILS", str(reason["text"]))
        reasons.add_row(*(_safe(cell, console) for cell in cells), style=style)
    console.print(reasons)


def _reasons_table() -> Table:
    from rich.table import Table

    table = Table.grid("", "", padding=(0, 2))
    table.columns[0].no_wrap = True
    return table


def _show_outputs(run: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print the last step's JSON outputs, for a pipeline that measures and prepares nothing."""
    if not run["steps"]:
        return
    last = run["steps"][-1]
    for name, output in (last.get("outputs") or {}).items():
        if output["kind"] == "json":
            shown = _output(folder, output["uri"])
            _say(f"{last['name']}.{name}: {shown}", console)


def _output(folder: Path, uri: str) -> str:
    workspace = folder.absolute().parents[2]  # of runs/<experiment>/<run id>
    try:
        value = json.loads((workspace / uri).read_text("utf-8"))
    except (OSError, ValueError):
        return uri
    return json.dumps(value, ensure_ascii=False)


def _show_paths(folder: Path, console: Console) -> None:
    console.print()
    _path("run folder", folder, console)
    report = folder / "report.html"
    if report.exists():
        _path("report", report, console)


def _path(name: str, path: Path | str, console: Console) -> None:
    """Print a path on a line of its own, never wrapped, so that it can be copied."""
    console.print(_safe(f"{name:<11} {path}", console), soft_wrap=True, highlight=False)


# ------------------------------------------------------------------------ text


def _table(*names: str | Text, right: bool = False) -> Table:
    """Return an empty table; with ``right``, all columns but the first hold figures."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if right and place else "left", overflow="fold")
    return table


def _say(line: str, console: Console, *, style: str = "") -> None:
    if line:
        console.print(_safe(line, console), style=style, highlight=False)


def _joined(*parts: str, by: str = "  ") -> str:
    return by.join(part for part in parts if part)


def _safe(text: str | Text, console: Console) -> Text:
    """Return text without control characters, and in signs that the console can write."""
    from rich.text import Text

    plain = text if isinstance(text, str) else text.plain
    style = "" if isinstance(text, str) else text.style
    plain = _printable(plain)
    if not console.encoding.lower().startswith("utf"):
        plain = plain.translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding)
    return Text(plain, style=style)


_ASCII = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-"})


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)
