from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from llmops.cli.screens import RunScreen, show_plan, show_result
from llmops.plan.build import Plan, PlannedStep
from tests.fakes.run_folder import MadeRun, make_failed_run, make_hello_run, make_run

WIDTHS = (60, 80, 130)


def step(name, status, reason, key=None):
    return PlannedStep(name, name, 1, status, reason, key, {}, {}, {}, {})


PLAN = Plan(
    "so_python",
    "supervised_tuning",
    "d" * 64,
    (
        step("ingest", "cached", "cached", "a" * 64),
        step("split", "cached", "cached", "b" * 64),
        step("tune", "run", "tuning.max_steps 40 -> 80", "c" * 64),
        step("predict", "waits", "after tune"),
        step("gate", "skipped", "not selected"),
    ),
    ("a LIMIT without ORDER BY is ordered by content hash",),
)


def terminal(width=80, *, interactive=False, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    return Console(
        file=file,
        width=width,
        force_terminal=interactive,
        color_system=None,
        _environ={"TERM": "xterm"},
    )


def written(console):
    console.file.flush()
    return console.file.buffer.getvalue().decode(console.file.encoding)


def in_one_line(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("run"), rows=12)


def result(made, width=80, **kwargs):
    console = terminal(width, **kwargs)
    show_result(made.run, made.folder, console)
    return written(console)


# ------------------------------------------------------------------------ plan


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan_names_every_step_and_why_it_runs(width):
    console = terminal(width)
    show_plan(PLAN, console)
    text = in_one_line(written(console))
    assert "ingest" in text
    assert "tuning.max_steps 40 -> 80" in text
    assert "after tune" in text
    assert "note: a LIMIT without ORDER BY" in text
    assert text.endswith("2 steps cached, 2 to run, 1 not selected")


def test_a_plan_shows_the_beginning_of_each_known_key_where_there_is_room():
    console = terminal(100)
    show_plan(PLAN, console)
    assert "c" * 12 in written(console)
    assert "c" * 13 not in written(console)


def test_a_fully_cached_plan_has_nothing_to_run():
    console = terminal()
    show_plan(Plan("x", "p", "d", PLAN.steps[:2]), console)
    assert written(console).rstrip().endswith("2 steps cached, nothing to run")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_of_a_plan_is_wider_than_the_terminal(width):
    console = terminal(width)
    show_plan(PLAN, console)
    assert max(map(len, written(console).splitlines())) <= width


# -------------------------------------------------------------------- progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def tuning(screen, clock, *, steps=20, seconds_each=1.0):
    screen.event({"step": "tune", "event": "start"})
    for done in range(1, steps + 1):
        clock.now += seconds_each
        note = f"loss {3 - done / 100:.2f}"
        screen.event(
            {"step": "tune", "event": "progress", "done": done, "total": steps, "note": note}
        )
    screen.event({"step": "tune", "event": "end", "status": "done", "seconds": 20.1})


def test_in_a_pipe_a_step_tells_its_progress_every_few_seconds_in_plain_lines():
    console, clock = terminal(), Clock()
    with RunScreen(console, clock=clock) as screen:
        tuning(screen, clock)
    assert written(console).splitlines() == [
        "tune  5/20  1.0/s, 15 s left  loss 2.95  5.0 s",
        "tune  10/20  1.0/s, 10 s left  loss 2.90  10 s",
        "tune  15/20  1.0/s, 5.0 s left  loss 2.85  15 s",
        "tune  20/20  1.0/s  loss 2.80  20 s",
        "tune  done  20 s",
    ]


def test_a_short_step_tells_only_its_end():
    console, clock = terminal(), Clock()
    with RunScreen(console, clock=clock) as screen:
        tuning(screen, clock, seconds_each=0.01)
    assert written(console).splitlines() == ["tune  done  20 s"]


def test_a_pipe_gets_no_control_sequence():
    console, clock = terminal(), Clock()
    with RunScreen(console, clock=clock) as screen:
        tuning(screen, clock)
        screen.event({"step": "x", "event": "end", "status": "failed\x1b[2J", "seconds": None})
    assert "\x1b" not in written(console)


@pytest.mark.parametrize("width", WIDTHS)
def test_on_a_terminal_a_long_step_has_a_bar_that_fits(width):
    console, clock = terminal(width, interactive=True), Clock()
    with RunScreen(console, clock=clock) as screen:
        tuning(screen, clock)
    text = written(console)
    assert "\u2501" in text
    assert "tune  done  20 s" in text


def test_an_unknown_total_is_shown_as_a_count():
    console, clock = terminal(), Clock()
    with RunScreen(console, clock=clock) as screen:
        screen.event({"step": "ingest", "event": "start"})
        clock.now += 6
        screen.event({"step": "ingest", "event": "progress", "done": 5000, "total": None})
    assert written(console).splitlines() == ["ingest  5,000  833/s  6.0 s"]


def test_a_count_that_falls_begins_a_pace_of_its_own():
    console, clock = terminal(), Clock()
    with RunScreen(console, clock=clock, plain_seconds=0) as screen:
        screen.event({"step": "prepare", "event": "start"})
        for seconds, done, total in ((10, 10_000, None), (5, 0, 9_000), (10, 3_000, 9_000)):
            clock.now += seconds
            screen.event({"step": "prepare", "event": "progress", "done": done, "total": total})
    assert written(console).splitlines() == [
        "prepare  10,000  1,000/s  10 s",
        "prepare  0/9,000  15 s",
        "prepare  3,000/9,000  300/s, 20 s left  25 s",
    ]


def test_a_note_is_text_and_no_markup():
    console, clock = terminal(), Clock()
    with RunScreen(console, clock=clock) as screen:
        screen.event({"step": "ingest", "event": "start"})
        clock.now += 6
        event = {"step": "ingest", "event": "progress", "done": 1, "total": 2}
        screen.event({**event, "note": "[bold]rows[/nonsense]"})
    assert "[bold]rows[/nonsense]" in written(console)


# ---------------------------------------------------------------------- result


@pytest.mark.parametrize("width", WIDTHS)
def test_the_result_has_every_figure_with_its_interval(made, width):
    text = in_one_line(result(made, width).replace("\N{MINUS SIGN}", "-"))
    for figures in made.run["metrics"]["contestants"].values():
        assert f"{figures['loss']['value']:.2f}" in text
        assert f"[{figures['loss']['low']:.2f}, {figures['loss']['high']:.2f}]" in text
    assert "n = 12 test rows each, of 80" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_of_the_result_but_the_paths_is_wider_than_the_terminal(made, width):
    lines = [line for line in result(made, width).splitlines() if str(made.folder) not in line]
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_the_paths_stand_unbroken_on_lines_of_their_own(made, width):
    (made.folder / "report.html").write_text("", "utf-8")
    paths = [line[12:] for line in result(made, width).splitlines()]
    assert str(made.folder / "report.html") in paths
    assert str(made.folder) in paths


def test_the_result_says_what_the_data_is_what_tuning_saw_and_what_safety_is_not(made):
    text = in_one_line(result(made))
    assert "Sample data: docstrings of the Python standard library" in text
    assert "The tuning saw 320 examples" in text
    assert "This is no safety evaluation" in text


def test_the_gate_tells_its_decision_and_every_reason(made):
    text = in_one_line(result(made, 130))
    assert f"gate: {'passed' if made.run['gate']['passed'] else 'refused'} for tuned" in text
    for reason in made.run["gate"]["reasons"]:
        assert f"{'holds' if reason['passed'] else 'FAILS'} {reason['text']}" in text


def test_figures_over_different_numbers_of_rows_say_so_in_each_cell(made):
    metrics = json.loads(json.dumps(made.run["metrics"]))
    metrics["contestants"]["tuned"]["loss"]["n"] = 11
    console = terminal(130)
    show_result({**made.run, "metrics": metrics}, made.folder, console)
    assert "n=11" in written(console)


@pytest.mark.parametrize("width", WIDTHS)
def test_many_contestants_stand_in_several_tables_with_unbroken_figures(made, width):
    metrics = json.loads(json.dumps(made.run["metrics"]))
    for seed in range(43, 49):
        metrics["contestants"][f"tuned@{seed}"] = metrics["contestants"]["tuned"]
    console = terminal(width)
    show_result({**made.run, "metrics": metrics}, made.folder, console)
    lines = written(console).splitlines()
    loss = metrics["contestants"]["tuned"]["loss"]
    interval = f"[{loss['low']:.2f}, {loss['high']:.2f}]"
    assert sum(line.count(interval) for line in lines) == 7
    assert max(len(line) for line in lines if interval in line) <= width


def test_what_tuning_is_shown_to_have_taught_is_said(made):
    claims = [{"text": "loss: learned beyond the control", "holds": True}]
    console = terminal()
    metrics = made.run["metrics"] | {"claims": claims}
    show_result({**made.run, "metrics": metrics}, made.folder, console)
    assert claims[0]["text"] in written(console)


def test_a_failed_run_says_which_step_why_and_what_to_do(tmp_path):
    text = in_one_line(result(make_failed_run(tmp_path)))
    assert "step validate: 1 good row, and dataset.rules.min_rows asks for 20" in text
    assert "hint: lower dataset.rules.min_rows or widen the query" in text


def test_a_pipeline_without_metrics_shows_what_its_last_step_made(tmp_path):
    text = in_one_line(result(make_hello_run(tmp_path)))
    assert 'how_are_you.question: {"text": "Hello, Erwin! How are you?"}' in text


def test_a_pipeline_that_prepares_data_says_what_became_of_the_rows(made):
    facts = {"in": 9, "good": 8, "quarantined": 1, "duplicates": 0, "rules": {"empty": 1}}
    facts |= {"dataset_version": "v1-0a", "rows": {"train": 6, "validation": 1, "test": 1}}
    card = {"kind": "json", "uri": "runs"}
    step = {"name": "prepare", "kind": "prepare", "status": "done", "outputs": {"card": card}}
    steps = {"steps": [{**step, "facts": facts}], "dataset_version": "v1-0a"}
    run = {**made.run, "metrics": None, "gate": None, **steps}
    console = terminal()
    show_result(run, made.folder, console)
    text = in_one_line(written(console))
    assert "Dataset v1-0a: 9 rows in = 8 good + 1 quarantined + 0 duplicates" in text
    assert "Quarantined by rule: empty 1." in text
    assert "prepare.card" not in text


def test_a_terminal_that_knows_only_ascii_gets_only_ascii(made):
    assert result(made, encoding="ascii").isascii()


def test_colour_can_be_turned_off(made, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system="truecolor")
    show_result(made.run, made.folder, console)
    assert "\x1b[3" not in file.getvalue().replace("\x1b[3m", "")  # 30 to 38 are colours


def test_a_relative_run_folder_finds_its_workspace(tmp_path, monkeypatch):
    made = make_hello_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    console = terminal()
    show_result(made.run, made.folder.relative_to(Path.cwd()), console)
    assert "How are you?" in in_one_line(written(console))
