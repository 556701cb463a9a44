"""What ``diff`` takes: git refs, folders, experiment files; and what it says of each."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from llmops import api, cli
from llmops.config import project
from llmops.errors import ConfigError
from llmops.plan.diff import CONDITIONS as CONDITION_NAMES
from llmops.plan.diff import matches
from tests.unit.review.conftest import of
from tests.unit.review.test_trees import change


def test_the_working_tree_is_compared_with_a_commit(repository):
    change(repository.root / "conf/experiment/so_python.yaml", "max_steps: 40", "max_steps: 80")
    changed = of(api.diff("main"), "so_python")
    (leaf,) = changed.leaves
    assert (leaf.key, leaf.before.value, leaf.after.value) == ("tuning.max_steps", 40, 80)
    line = _line(repository.root / "conf/experiment/so_python.yaml", "max_steps:")
    assert leaf.before.set_by == leaf.after.set_by == f"conf/experiment/so_python.yaml:{line}:14"
    assert [step.name for step in changed.reruns] == [
        "tune", "deploy", "predict", "evaluate", "safety", "gate",
    ]  # fmt: skip
    assert changed.reruns[0].reason == "tuning.max_steps 40 -> 80"
    assert changed.cost.before.tokens.value * 2 == changed.cost.after.tokens.value


def test_two_commits_are_compared_whatever_lies_in_the_working_tree(repository):
    path = repository.root / "conf/safety/profanity.yaml"
    change(path, "max_violation_rate: 0.2", "max_violation_rate: 0.5")
    repository.commit()
    path.unlink()
    changed = of(api.diff("HEAD~1", "HEAD"), "so_python")
    assert [one.key for one in changed.loosened] == ["safety.max_violation_rate"]
    assert of(api.diff("HEAD", "HEAD~1"), "so_python").loosened == ()


def test_nothing_is_written_into_the_project(repository):
    before = sorted(path for path in repository.root.rglob("*") if ".git" not in path.parts)
    api.diff("HEAD")
    assert sorted(p for p in repository.root.rglob("*") if ".git" not in p.parts) == before


def test_experiments_come_and_go(repository):
    folder = repository.root / "conf/experiment"
    text = (folder / "so_python.yaml").read_text()
    (folder / "one.yaml").write_text(text.replace("name: so_python", "name: one"))
    repository.commit()
    (folder / "one.yaml").rename(folder / "two.yaml")
    found = api.diff("HEAD")
    changes = {one.name: one.change for one in found.experiments}
    assert changes == {"one": "removed", "two": "added"}
    assert of(found, "two").cost.after.tokens.value == 40 * 8 * 192


def test_a_project_without_config_at_that_commit_has_only_new_experiments(repository):
    repository.git("checkout", "-q", "--orphan", "empty")
    repository.git("rm", "-rq", "--cached", ".")
    repository.git("commit", "-q", "--allow-empty", "-m", "nothing")
    repository.git("checkout", "-q", "-f", "main")
    found = api.diff("empty")
    # the shipped experiments are there on both sides: the project's own are copies of them
    assert found.experiments == ()
    assert found.unchanged == len(project.names("experiment"))


def test_an_experiment_that_is_not_valid_is_told_of_and_ends_with_2(repository, capsys):
    change(repository.root / "conf/experiment/so_python.yaml", "max_steps: 40", "max_stepz: 40")
    code = cli.main(["diff", "HEAD", "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    (one,) = (one for one in found["experiments"] if one["name"] == "so_python")
    assert code == 2
    assert one["change"] == "invalid"
    line = _line(repository.root / "conf/experiment/so_python.yaml", "max_stepz:")
    assert f"conf/experiment/so_python.yaml:{line}:3: tuning.max_stepz" in one["problems"][0]


def _line(path, text):
    lines = path.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_two_experiment_files_are_compared_whatever_their_names(own):
    text = (own / "conf/experiment/so_python.yaml").read_text()
    other = own / "conf/experiment/longer.yaml"
    other.write_text(text.replace("max_steps: 40", "max_steps: 80"))
    (found,) = api.diff("conf/experiment/so_python.yaml", "conf/experiment/longer.yaml").experiments
    assert [leaf.key for leaf in found.leaves] == ["tuning.max_steps"]


@pytest.mark.parametrize("text", ["nonsense", "--output=x", "main..HEAD~99"])
def test_what_names_nothing_is_refused(text, repository):
    with pytest.raises(ConfigError, match="is no folder, no file, no run and no git ref"):
        api.diff(text)


def test_an_unknown_condition_is_refused_with_the_nearest(repository, capsys):
    assert cli.main(["diff", "HEAD", "--fail-on", "loosened-safty"]) == 2
    assert "did you mean 'loosened-safety'?" in capsys.readouterr().err


CONDITIONS = [
    ("safety/profanity.yaml", "max_blocked_rate: 0.1", "max_blocked_rate: 0.2", {"safety"}),
    ("gate/standard.yaml", "safety: true", "safety: false", {"safety", "gate"}),
    ("gate/standard.yaml", "better_than: untuned", "not_worse_than: untuned", {"gate"}),
    ("dataset/stackoverflow.yaml", "threshold: 0.85", "threshold: 0.9", {"leakage"}),
    ("dataset/stackoverflow.yaml", "max_bytes: 20000000000", "max_bytes: null", {"budget"}),
    ("dataset/stackoverflow.yaml", "min_rows: 20", "min_rows: 2", {"data"}),
    ("tuning/short.yaml", "max_examples: null", "max_examples: 10", set()),
]


@pytest.mark.parametrize(("file", "old", "new", "categories"), CONDITIONS)
def test_exactly_the_conditions_of_a_loosening_hold(file, old, new, categories, repository):
    change(repository.root / "conf" / file, old, new)
    found = api.diff("HEAD")
    found = replace(found, experiments=(of(found, "so_python"),))
    holding = {name for name in CONDITION_NAMES if matches(found, [name])}
    loosened = {f"loosened-{category}" for category in categories}
    reruns = set() if "max_bytes" in old and not found.experiments[0].reruns else {"rerun"}
    assert holding == loosened | ({"loosened"} if loosened else set()) | reruns | {"changed"}


def test_a_lowered_margin_of_a_rule_is_a_loosening_of_the_gate(repository):
    gate = repository.root / "conf/gate/standard.yaml"
    change(gate, "by: 0.0", "by: 0.1")
    assert matches(api.diff("HEAD"), ["loosened"]) == []
    repository.commit()
    change(gate, "by: 0.1", "by: 0.0")
    (loosening,) = of(api.diff("HEAD"), "so_python").loosened
    assert loosening.categories == ("gate",)
    assert loosening.why == "the rule is easier to meet"


def test_a_condition_that_holds_ends_with_3_and_another_with_0(repository, capsys):
    change(repository.root / "conf/gate/standard.yaml", "safety: true", "safety: false")
    assert cli.main(["diff", "HEAD", "--fail-on", "loosened-budget,model"]) == 0
    assert cli.main(["diff", "HEAD", "--fail-on", "loosened-budget,loosened-safety"]) == 3
    why = "gate.safety, the gate does not ask the safety step"
    refused = capsys.readouterr().err.splitlines()
    assert f"refused: loosened-safety: so_python: {why}" in refused
    assert all(
        line.startswith("refused: loosened-safety: ") and line.endswith(f": {why}")
        for line in refused
    )


def test_a_budget_that_does_not_hold_is_a_condition(repository):
    prices = repository.root / "conf/knowledge/prices.yaml"
    change(
        prices,
        "tuner, kind: local, unit: million_tokens, price: 0.0",
        "tuner, kind: local, unit: million_tokens, price: 100.0",
    )
    change(repository.root / "conf/env/dev.yaml", "budget: null", "budget: 5")
    assert cli.main(["diff", "HEAD", "--fail-on", "over-budget"]) == 0  # nothing reruns
    change(repository.root / "conf/experiment/so_python.yaml", "max_steps: 40", "max_steps: 80")
    assert cli.main(["diff", "HEAD", "--fail-on", "over-budget"]) == 3


def test_a_lowered_price_is_a_loosening_of_the_budget_and_a_raised_one_is_not(repository):
    prices = repository.root / "conf/knowledge/prices.yaml"
    change(prices, "unit: call, price: 0.0", "unit: call, price: 1.0")
    assert api.diff("HEAD").cheaper == ()
    repository.commit()
    change(prices, "unit: call, price: 1.0", "unit: call, price: 0.5")
    found = api.diff("HEAD")
    assert (found.tables, found.experiments) == (("knowledge/prices.yaml",), ())
    assert matches(found, ["loosened-budget"]) == [
        "loosened-budget: knowledge/prices.yaml: scorer profanity call, a budget lets more pass"
    ]
