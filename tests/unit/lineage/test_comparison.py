"""What differs between runs: config, figures, answers."""

from __future__ import annotations

import json

import pytest
import yaml

from llmops.cli.runs import main
from llmops.report.comparison_page import comparison_page, verdict
from tests.fakes.run_folder import RUN_ID, make_run

OTHER = "20261124-101502-7b1e"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two runs over one store: the second was tuned longer and answers otherwise."""
    import shutil

    root = tmp_path_factory.mktemp("compare")
    made = make_run(root)
    config = {"tuning": {"max_steps": 40, "epochs": None}, "store": {"kind": "folder"}}
    config["store"]["path"] = ".llmops/store"
    (made.folder / "config.yaml").write_text(yaml.safe_dump(config))
    other = made.folder.parent / OTHER
    shutil.copytree(made.folder, other)
    config["tuning"]["max_steps"] = 80
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    run = {**made.run, "run_id": OTHER}
    run["steps"] = [_changed(step, made.store) for step in made.run["steps"]]
    (other / "run.json").write_text(json.dumps(run))
    return root


def _changed(step, store):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from llmops.artifacts import reference

    if step["kind"] != "predict":
        return step
    rows = pq.read_table(store.local_path(reference(step["outputs"]["responses"]))).to_pylist()
    for place, row in enumerate(rows):
        if row["contestant"] == "tuned":
            row["nll"] -= 0.2 * row["nll_tokens"]
            row["text"] = "quite another answer" if place % 24 == 0 else row["text"] + "."
    path = store.temporary() / "rows"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return {**step, "outputs": {"responses": vars(store.put(path, "parquet", rows=len(rows)))}}


@pytest.fixture
def found(workspace, monkeypatch, capsys):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(workspace))
    assert main(["compare", RUN_ID, OTHER, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_leaves_that_differ_come_with_who_set_them(found):
    (leaf,) = found["leaves"]
    assert (leaf["path"], leaf["values"]) == ("tuning.max_steps", [40, 80])
    assert leaf["set_by"][0] == "command line: tuning.max_steps=40"


def test_figures_are_compared_row_by_row_with_an_interval(found):
    row = next(r for r in found["figures"] if (r["contestant"], r["metric"]) == ("tuned", "loss"))
    change = row["differences"][1]
    assert change["value"] == pytest.approx(-0.2, abs=1e-6)
    assert change["low"] <= change["value"] <= change["high"] < 0
    assert verdict(change, row["better"]) == "better"


def test_the_answers_that_changed_most_come_first(found):
    changed = [row["changed"] for row in found["answers"]]
    assert changed == sorted(changed, reverse=True)
    assert found["answers"][0]["answers"][1] == "quite another answer"
    assert {row["contestant"] for row in found["answers"]} == {"tuned"}


def test_the_page_shows_all_of_it_and_escapes_what_was_answered(found):
    found["answers"][0]["answers"][1] = "<script>alert(1)</script>"
    page = comparison_page(found)
    assert "<script>alert" not in page
    assert "tuning.max_steps" in page
    assert "command line: tuning.max_steps=40" in page


def test_the_text_fits_on_a_screen(workspace, monkeypatch, capsys):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(workspace))
    page = workspace / "compare.html"
    assert main(["compare", RUN_ID, OTHER, "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "tuning.max_steps" in shown
    assert page.exists()


def test_one_run_alone_is_refused(workspace, monkeypatch):
    from llmops.errors import ConfigError

    monkeypatch.setenv("LLMOPS_WORKSPACE", str(workspace))
    with pytest.raises(ConfigError, match="one run cannot be compared"):
        main(["compare", RUN_ID])
