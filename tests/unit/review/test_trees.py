"""Which experiments a change of files can touch, and that nothing else is composed."""

from __future__ import annotations

import shutil

import pytest

from llmops import api
from llmops.config import project
from llmops.config.compose import compose
from llmops.review.trees import Tree, affected, changed_files
from tests.unit.review.conftest import SHIPPED, of


@pytest.fixture
def two(workspace):
    """Two equal config folders and their trees; write to the second one."""
    for name in ("before", "after"):
        shutil.copytree(SHIPPED, workspace / name / "conf")

    def trees():
        folders = [workspace / name / "conf" for name in ("before", "after")]
        return [Tree(folder.parent.name, folder, folder) for folder in folders]

    return workspace / "after" / "conf", trees


@pytest.mark.parametrize("experiment", project.names("experiment"))
def test_every_file_that_hydra_reads_counts_as_used(experiment, workspace):
    tree = Tree("shipped", SHIPPED, SHIPPED)
    read = {
        path.relative_to(SHIPPED).as_posix()
        for path in compose([f"+experiment={experiment}"]).documents
    }
    assert len(read) >= 5
    assert read - tree.may_use(experiment) == set()


def test_a_query_file_counts_as_used():
    tree = Tree("shipped", SHIPPED, SHIPPED)
    assert "sql/so_python.sql" in tree.may_use("so_python")
    assert "sql/so_python.sql" not in tree.may_use("hello")


def touched(base, head):
    """Return which of two experiments are affected: one that chooses no dataset, one that does."""
    return tuple(name for name in affected(base, head) if name in ("hello", "so_python"))


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_order_and_layout_are_no_change(two):
    conf, trees = two
    tuning = conf / "tuning" / "short.yaml"
    lines = [line.split(" #")[0] for line in tuning.read_text().splitlines() if line[0] != "#"]
    tuning.write_text("# Another comment.\n\n" + "\n".join(reversed(lines)) + "\n")
    assert changed_files(*trees()) == frozenset()
    assert affected(*trees()) == ()


def test_a_changed_group_file_touches_those_who_choose_it(two):
    conf, trees = two
    change(conf / "tuning" / "short.yaml", "max_steps: 40", "max_steps: 80")
    assert touched(*trees()) == ("so_python",)


def test_a_changed_file_that_no_experiment_chooses_touches_none(two):
    conf, trees = two
    for folder in (conf, conf.parents[1] / "before/conf"):
        shutil.copy(SHIPPED / "split" / "random_80_20.yaml", folder / "split" / "unchosen.yaml")
    change(conf / "split" / "unchosen.yaml", "seed: 42", "seed: 43")
    assert affected(*trees()) == ()


def test_a_changed_root_touches_all(two):
    conf, trees = two
    change(conf / "config.yaml", "seed: 42", "seed: 43")
    assert affected(*trees()) == project.names("experiment")


def test_a_changed_query_touches_those_who_read_it(two):
    conf, trees = two
    change(conf / "sql" / "so_python.sql", "SELECT", "SELECT DISTINCT")
    assert touched(*trees()) == ("so_python",)


def test_a_changed_base_of_a_chosen_file_touches_its_chooser(two):
    conf, trees = two
    change(
        conf / "experiment" / "so_python.yaml",
        "override /dataset: stackoverflow",
        "override /dataset: stackoverflow_attributed",
    )
    shutil.copy(conf / "experiment" / "so_python.yaml", conf.parents[1] / "before/conf/experiment/")
    change(conf / "dataset" / "stackoverflow.yaml", "min_rows: 20", "min_rows: 10")
    assert touched(*trees()) == ("so_python",)


def test_a_file_that_shadows_a_shipped_one_touches_its_choosers(workspace):
    (workspace / "conf" / "tuning").mkdir(parents=True)
    own = Tree("own", workspace / "conf", SHIPPED)
    (workspace / "conf" / "tuning" / "short.yaml").write_text("max_steps: 3\n")
    assert touched(Tree("shipped", None, SHIPPED), own) == ("so_python",)


def test_a_choice_that_is_interpolated_may_be_any(two):
    conf, trees = two
    change(conf / "experiment" / "hello.yaml", "/pipeline: hello", "/pipeline: ${name}")
    shutil.copy(conf / "experiment" / "hello.yaml", conf.parents[1] / "before/conf/experiment/")
    change(conf / "split" / "random_80_20.yaml", "seed: 42", "seed: 43")
    assert touched(*trees()) == ("hello",)


def test_a_key_that_moves_to_another_file_is_no_difference(two, workspace):
    conf, _ = two
    change(conf / "experiment" / "so_python.yaml", "  max_steps: 40 #", "  epochs: null #")
    found = api.diff("before", "after")
    assert (found.experiments, found.unchanged) == ((), len(project.names("experiment")))


def test_a_value_that_is_written_otherwise_is_shown_but_reruns_nothing(two, workspace):
    conf, _ = two
    change(conf / "split" / "group.yaml", "seed: ${seed}", "seed: 42")
    found = of(api.diff("before", "after"), "so_python")
    (leaf,) = found.leaves
    assert (leaf.key, leaf.same_value) == ("split.seed", True)
    assert (leaf.before.written, leaf.after.written) == ("${seed}", None)
    assert found.reruns == ()
