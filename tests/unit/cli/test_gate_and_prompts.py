"""``gate check`` on a finished run, and the prompts as a command line shows them."""

from __future__ import annotations

import json

import pytest

from llmops import cli
from llmops.config.project import packaged_conf, using
from tests.fakes.run_folder import make_run


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A workspace with one finished run of the example."""
    made = make_run(tmp_path)
    from llmops.config.compose import compose

    config = compose(["+experiment=so_python"]).config
    (made.folder / "config.yaml").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    return made


def test_another_gate_judges_a_finished_run_and_ends_with_3(finished, capsys):
    code = cli.main(["gate", "check", str(finished.folder), "--gate", "strict"])
    printed = capsys.readouterr().out
    assert code == 3
    assert "FAILED  the difference in rouge_l from untuned" in printed
    assert printed.splitlines()[-1].startswith("gate refused: ")


def test_the_runs_own_gate_is_the_default_and_json_has_every_reason(finished, capsys):
    cli.main(["gate", "check", str(finished.folder), "--json"])
    decision = json.loads(capsys.readouterr().out)
    assert decision["contestant"] == "tuned"
    assert {"leakage exact", "safety"} <= {reason["rule"] for reason in decision["reasons"]}


def test_a_gate_that_does_not_exist_is_a_usage_error(finished, capsys):
    assert cli.main(["gate", "check", str(finished.folder), "--gate", "strickt"]) == 2


def test_every_prompt_is_listed_with_its_digest(capsys):
    with using(None, packaged_conf()):
        assert cli.main(["prompts", "list", "--json"]) == 0
    found = {row["name"]: row["digest"] for row in json.loads(capsys.readouterr().out)}
    assert found["so_python"] == "eeb2076beb2a"
    assert {"brief", "plain", "similar"} <= found.keys()


def test_a_prompt_is_tried_and_an_answer_out_of_format_ends_with_3(capsys):
    with using(None, packaged_conf()):
        assert cli.main(["prompts", "test", "so_python"]) == 0
        wanted = ["+prompt.output={kind: choice, choices: [a, b]}", "--answer", "c"]
        assert cli.main(["prompts", "test", "plain", *wanted]) == 3
    assert "FAILED  answer 'c': refused" in capsys.readouterr().out


def test_two_prompts_are_compared_part_by_part(capsys):
    with using(None, packaged_conf()):
        cli.main(["prompts", "diff", "plain", "so_python", "--json"])
    parts = {one["what"] for one in json.loads(capsys.readouterr().out)}
    assert parts == {"name", "instruction", "template"}


def test_an_unknown_prompt_is_told_with_the_nearest_name(capsys):
    with using(None, packaged_conf()):
        assert cli.main(["prompts", "show", "breif"]) == 2
    assert "did you mean 'brief'?" in capsys.readouterr().err
