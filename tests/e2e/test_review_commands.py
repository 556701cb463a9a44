"""Plan writes nothing, budgets stop runs before they start, and a run can be made again."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.fakes.toy_project import ToyProject


@pytest.fixture
def toy(tmp_path):
    project = ToyProject(tmp_path)
    project.chain("chain", "say", "pass_on")
    return project


def tree(root: Path) -> dict[str, str]:
    """Return every file and folder of a workspace, with the digests of the files."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(root.rglob("*"))
        if "__pycache__" not in path.parts
    }


def test_plan_writes_nothing_into_an_empty_workspace(toy):
    before = tree(toy.root)
    for arguments in (["+experiment=so_python"], ["+experiment=chain", "--json"]):
        done = toy.llmops("plan", *arguments)
        assert done.returncode == 0, done.stderr
    assert tree(toy.root) == before


def test_plan_writes_nothing_into_a_used_workspace(toy):
    assert toy.llmops("run", "+experiment=chain").returncode == 0
    assert toy.llmops("warehouse", "tables").returncode == 0  # fills the sample
    before = tree(toy.root)
    assert any(name.endswith(".duckdb") for name in before)
    for arguments in (
        ["+experiment=chain"],
        ["+experiment=so_python"],
        ["+experiment=so_python", "--limit", "7"],
    ):
        done = toy.llmops("plan", *arguments)
        assert done.returncode == 0, done.stderr
    assert tree(toy.root) == before


def test_where_the_store_is_empty_the_lock_says_what_is_unchanged(toy):
    record = toy.record(toy.llmops("run", "+experiment=chain", "--json"))
    assert toy.llmops("accept", record["run_id"]).returncode == 0
    shutil.rmtree(toy.root / ".llmops")
    shutil.rmtree(toy.root / "runs" / "chain")
    overrides = ["+experiment=chain", "pipeline.steps.s1.with.text=other"]
    plan = json.loads(toy.llmops("plan", *overrides, "--json").stdout)
    assert plan["against"] == f"runs/chain.lock.yaml (run {record['run_id']})"
    assert [step["status"] for step in plan["steps"]] == ["unchanged", "run"]
    assert plan["steps"][1]["reason"] == "with.text pass_on1 -> other"
    against_store = json.loads(
        toy.llmops("plan", *overrides, "--json", "--against", "store").stdout
    )
    assert [step["status"] for step in against_store["steps"]] == ["run", "waits"]


def test_a_plan_is_compared_with_a_named_run(toy):
    first = toy.record(toy.llmops("run", "+experiment=chain", "--json"))
    toy.llmops("run", "+experiment=chain", "pipeline.steps.s1.with.text=x")
    plan = json.loads(
        toy.llmops("plan", "+experiment=chain", "pipeline.steps.s1.with.text=x", "--json",
                   "--against", first["run_id"]).stdout
    )  # fmt: skip
    assert [step["status"] for step in plan["steps"]] == ["unchanged", "run"]
    assert plan["steps"][1]["reason"] == "with.text pass_on1 -> x"


def priced(toy, price: str) -> None:
    prices = toy.root / "conf" / "knowledge" / "prices.yaml"
    prices.parent.mkdir()
    prices.write_text(
        "dated: 2026-11-23\ncurrency: EUR\nprices:\n"
        f"  - {{port: engine, kind: local, unit: run, price: {price}, "
        "dated: 2026-11-23, source: me}\n"
    )


@pytest.mark.parametrize(
    ("price", "arguments", "why"),
    [
        ("2.0", ["--budget", "1"], "it would cost up to 2.00 EUR, the budget is 1"),
        ("2.0", ["env.budget=1"], "it would cost up to 2.00 EUR, the budget is 1"),
        ("null", ["--budget", "100"], "a budget of 100 EUR cannot be guaranteed"),
        ("2.0", ["-m", "pipeline.steps.s1.with.text=a,b", "--budget", "3"], "up to 4.00 EUR"),
        ("2.0", ["-m", "pipeline.steps.s1.with.text=a,b", "env.budget=1"], "up to 2.00 EUR"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_what_is_not_certainly_within_the_budget_does_not_start(price, arguments, why, verb, toy):
    priced(toy, price)
    done = toy.llmops(verb, "+experiment=chain", *arguments)
    assert done.returncode == 3
    assert why in done.stderr
    assert toy.did() == []
    assert not (toy.root / "runs").exists()


def test_what_is_within_the_budget_runs_and_is_told_of_afterwards(toy):
    priced(toy, "2.0")
    record = toy.record(toy.llmops("run", "+experiment=chain", "--budget", "2", "--json"))
    assert record["status"] == "succeeded"
    assert record["estimates"]["total"]["estimated"]["money"] == {"value": 2.0, "unknown": []}
    again = toy.llmops("run", "+experiment=chain", "--budget", "0")  # cached: nothing is paid
    assert again.returncode == 0


# -------------------------------------------------------------------- reproduce


def drifts(done) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for check in json.loads(done.stdout)["checks"]:
        if not check["same"]:
            found.setdefault(check["what"], []).append(check["name"])
    return found


@pytest.fixture
def ran(toy):
    record = toy.record(
        toy.llmops("run", "+experiment=chain", "pipeline.steps.s0.with.text=hey", "--json")
    )
    return record["run_id"]


def test_a_run_is_made_again_from_its_folder_alone(toy, ran):
    shutil.rmtree(toy.root / "conf")
    shutil.rmtree(toy.root / ".llmops")
    done = toy.llmops("reproduce", ran, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["reproduced"], drifts(done)) == (0, True, {})
    assert {check["what"] for check in found["checks"]} == {
        "config", "pipeline", "code", "packages", "output",
    }  # fmt: skip
    assert toy.did() == ["s0 said", "s1 passed"] * 2


def test_a_reproduction_works_again_although_everything_is_cached(toy, ran):
    assert toy.llmops("reproduce", ran).returncode == 0
    assert toy.did() == ["s0 said", "s1 passed"] * 2


def test_a_changed_config_file_is_refused_before_anything_runs(toy, ran):
    path = toy.root / "runs" / "chain" / ran / "config.yaml"
    path.write_text(path.read_text().replace("hey", "hay"))
    done = toy.llmops("reproduce", ran)
    assert done.returncode == 3
    assert "is not the config that ran" in done.stderr
    assert toy.did() == ["s0 said", "s1 passed"]


def edit_record(toy, ran, edit) -> None:
    path = toy.root / "runs" / "chain" / ran / "run.json"
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


def test_other_packages_python_and_llmops_are_drifts(toy, ran):
    def edit(record):
        record["packages"]["kfp"] = "1.0"
        record["python"] = "3.9.0"
        record["llmops"] = "0.0.1"

    edit_record(toy, ran, edit)
    done = toy.llmops("reproduce", ran, "--json")
    assert done.returncode == 3
    assert drifts(done) == {"code": ["llmops"], "packages": ["Python", "kfp"]}


def test_another_pipeline_and_uncommitted_changes_are_drifts(toy, ran):
    def edit(record):
        record["pipeline_digest"] = "0" * 64
        record["git"] = {"commit": "a" * 40, "branch": "main", "dirty": True}

    edit_record(toy, ran, edit)
    done = toy.llmops("reproduce", ran)
    assert done.returncode == 3
    assert "pipeline: DRIFTED  digest: 0000000000000000 -> " in done.stdout
    assert "code: DRIFTED  commit: aaaaaaaaaaaa with uncommitted changes" in done.stdout


def test_a_step_that_gives_other_bytes_is_a_drift(toy, ran):
    steps = toy.site / "toy_steps.py"
    steps.write_text(steps.read_text().replace('{"text": text}', '{"text": text + "!"}'))
    done = toy.llmops("reproduce", ran, "--json")
    assert done.returncode == 3
    assert drifts(done) == {"output": ["s0.out"]}  # s1 only follows


def test_a_run_that_is_not_there_is_refused(toy):
    done = toy.llmops("reproduce", "20260101")
    assert done.returncode == 2
    assert "there is no run" in done.stderr


def test_a_finished_run_is_compared_with_the_experiment_as_it_is(toy, ran):
    done = toy.llmops("diff", ran, "--format", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["experiments"]
    (leaf,) = found["leaves"]
    assert leaf["key"] == "pipeline.steps.s0.with.text"
    assert leaf["before"]["set_by"] == "command line: pipeline.steps.s0.with.text=hey"
    assert [step["status"] for step in found["steps"]] == ["run", "waits"]


def test_two_runs_are_compared(toy, ran):
    other = toy.record(toy.llmops("run", "+experiment=chain", "--json"))["run_id"]
    done = toy.llmops("diff", ran, other)
    assert "pipeline.steps.s0.with.text  hey -> say0" in done.stdout
    assert toy.llmops("diff", ran, ran).stdout.endswith("1 experiment: 1 unchanged\n")


def test_limit_stands_in_the_provenance_with_what_it_hides():
    from llmops.api.opening import adjustments
    from llmops.api.running import _origins
    from llmops.config.provenance import provenance, to_json
    from llmops.config.remembered import Checked
    from llmops.config.validate import validate

    composed = validate(["+experiment=so_python"])
    known = Checked(composed.config, composed.overrides, to_json(provenance(composed)), {})
    origin = _origins(known, adjustments(known.config, 7, "test"))["dataset.max_rows"]
    assert (origin["value"], origin["set_by"]) == (7, "command line: --limit 7")
    assert "conf/dataset/stackoverflow.yaml:" in origin["shadowed"][0]
