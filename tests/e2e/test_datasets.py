"""`llmops datasets` over real runs: versions, differences, and who holds a row."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from llmops.adapters.model.answers import Answer, Kept
from llmops.artifacts import reference

DATA = ["run", "+experiment=so_python", "--limit", "300"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    where = tmp_path_factory.mktemp("datasets")
    for choices in (
        ("pipeline=dataset", "split=group"),
        ("pipeline=dataset", "split=hash", "split.by=[]"),
        ("pipeline=dataset_in_one_pass", "split=hash", "split.by=[]"),
    ):
        llmops(where, *DATA, *choices)
    return where


def llmops(where, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "llmops", *arguments, "--json"],
        env={**os.environ, "LLMOPS_WORKSPACE": str(where)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def versions(workspace):
    return {each["method"]: each for each in llmops(workspace, "datasets", "list")}


def test_each_version_is_listed_with_the_runs_that_have_it(workspace):
    found = versions(workspace)
    assert len(found["group"]["runs"]) == 1
    assert len(found["hash"]["runs"]) == 2  # one pass gives the version of the separate steps


def test_a_difference_counts_rows_that_came_went_and_moved(workspace):
    found = versions(workspace)
    told = llmops(workspace, "datasets", "diff", found["group"]["name"], found["hash"]["name"])
    assert (told["added"], told["removed"]) == (0, 0)
    assert told["kept"] == sum(found["group"]["rows"].values())
    assert 0 < told["moved"] < told["kept"]
    assert sum(told["lengths"]["input_text"]["after"]) == told["kept"]
    assert told["changed"]["method"] == ["group", "hash"]


def test_a_run_compares_its_data_with_the_version_before(workspace):
    found = versions(workspace)
    first, (later, *_) = found["group"]["runs"][0], found["hash"]["runs"][::-1]
    assert record(workspace, first)["dataset_changes"] is None
    changes = record(workspace, later)["dataset_changes"]
    assert (changes["before"], changes["after"]) == (found["group"]["name"], found["hash"]["name"])
    assert changes["moved"] > 0
    page = next(workspace.glob(f"runs/so_python/{later}/report.html")).read_text()
    assert "Since the version before" in page
    assert "Questions" in page


def record(workspace, run):
    return json.loads((workspace / "runs" / "so_python" / run / "run.json").read_text())


def test_a_run_in_one_pass_names_its_data_too(workspace):
    found = versions(workspace)["hash"]
    kinds = {record(workspace, run)["steps"][0]["kind"] for run in found["runs"]}
    assert kinds == {"ingest", "prepare"}
    assert {record(workspace, run)["dataset_version"] for run in found["runs"]} == {found["name"]}
    assert {record(workspace, run)["source"]["name"] for run in found["runs"]} == {
        "duckdb://sample"
    }


def test_a_card_is_shown_by_the_beginning_of_its_name(workspace):
    name = versions(workspace)["group"]["name"]
    assert llmops(workspace, "datasets", "show", name[:-2])["card"]["dataset_version"] == name


def test_a_card_says_where_its_rows_are_from_and_what_became_of_them(workspace):
    for method in ("group", "hash"):
        name = versions(workspace)[method]["name"]
        card = llmops(workspace, "datasets", "show", name)["card"]
        origin = card["origin"]
        assert "posts_questions" in origin["query"]
        assert origin["source"]["licence"] == "PSF-2.0"
        assert len(origin["tables"]) == 2
        assert origin["rules"]["min_rows"] > 0
        counts = origin["rows"]
        assert counts["in"] == counts["good"] + counts["quarantined"] + counts["duplicates"]
        assert counts["good"] == sum(card["rows"].values())
        done = subprocess.run(
            [sys.executable, "-m", "llmops", "datasets", "show", name],
            env={**os.environ, "LLMOPS_WORKSPACE": str(workspace)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"| in | {counts['in']:,} |" in done.stdout


def test_a_row_to_be_erased_names_every_version_that_holds_it(workspace):
    record = llmops(workspace, "runs", "list")[-1]
    folder = next((workspace / "runs" / "so_python").glob(f"{record['run_id']}*"))
    steps = json.loads((folder / "run.json").read_text())["steps"]
    (split,) = [step for step in steps if step["name"] == "split"]
    path = workspace / reference(split["outputs"]["train"]).uri.removeprefix("file://")
    (row,) = pq.read_table(path).slice(0, 1).to_pylist()
    key, rendered = row["row_key"], row["input_text_instruct"]
    kept = Kept(workspace / ".llmops" / "answers.sqlite")
    kept.keep({n: Answer([["user", n]], {"text": "so"}) for n in (rendered, "another question")})
    told = llmops(workspace, "datasets", "erase", key)
    assert (told["answers"], told["removed"]) == (1, False)
    told = llmops(workspace, "datasets", "erase", key, "--answers")
    assert (told["answers"], told["removed"]) == (1, True)
    assert set(kept.find([rendered, "another question"])) == {"another question"}
    assert {each["method"] for each in told["datasets"]} == {"group", "hash"}
    absent = llmops(workspace, "datasets", "erase", "0" * 64)
    assert (absent["datasets"], absent["models"]) == ([], [])
