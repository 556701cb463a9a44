"""A component file as a step kind: what is read of it, and what its container must leave."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from llmops.errors import BackendError, ConfigError, DataError
from llmops.steps.component import Made, component_kind
from tests.fakes.container_component import IMAGE, SHOUT


def changed(**container) -> str:
    spec = yaml.safe_load(SHOUT)
    spec["deploymentSpec"]["executors"]["exec-shout"]["container"] |= container
    return yaml.safe_dump(spec)


def test_a_container_component_says_its_ports_image_and_results():
    kind = component_kind("shout.yaml", SHOUT)
    assert [(port.name, port.any_kind) for port in kind.takes] == [("greeting", True)]
    assert [port.name for port in kind.gives] == ["loud"]
    assert (kind.own_image.image, kind.own_image.results) == (IMAGE, {"length": "NUMBER_INTEGER"})


@pytest.mark.parametrize("change", [{"image": "alpine:4"}, {"command": ["sh"]}, {"args": []}])
def test_another_image_or_command_is_another_revision(change):
    before, after = component_kind("c.yaml", SHOUT), component_kind("c.yaml", changed(**change))
    assert before.revision != after.revision


def test_an_image_that_brings_its_own_command_needs_none():
    spec = yaml.safe_load(SHOUT)
    del spec["deploymentSpec"]["executors"]["exec-shout"]["container"]["command"]
    assert component_kind("c.yaml", yaml.safe_dump(spec)).own_image is not None


def test_a_component_of_kfp_1_is_told_how_it_becomes_one_of_kfp_2():
    old = "name: x\nimplementation: {container: {image: alpine, command: [sh]}}\n"
    with pytest.raises(ConfigError, match="is a component of KFP 1") as caught:
        component_kind("components/x.yaml", old)
    assert "load_component_from_file('components/x.yaml')" in caught.value.hint


def test_a_worker_never_pretends_to_be_the_container():
    with pytest.raises(BackendError, match="in a container image of its own"):
        component_kind("c.yaml", SHOUT).run(SimpleNamespace(step="s1"))


class TestWhatTheContainerMade:
    """The files that a container left become the step's outputs."""

    def taken(self, tmp_path, made, kind="json"):
        target = tmp_path / "out" / f"loud.{kind}"
        (tmp_path / "out").mkdir()
        work = SimpleNamespace(step="s1", outputs={"loud": target})
        outcome = Made({"loud": str(made)}, {"length": 3}).take(work)
        return target, outcome.facts

    def test_files_and_folders_are_taken_whole(self, tmp_path):
        (tmp_path / "model" / "deep").mkdir(parents=True)
        (tmp_path / "model" / "deep" / "weights").write_text("1")
        target, facts = self.taken(tmp_path, tmp_path / "model", "folder")
        assert (target / "deep" / "weights").read_text() == "1"
        assert facts == {"length": 3}

    def test_an_output_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(DataError, match="did not write its output 'loud'"):
            self.taken(tmp_path, tmp_path / "nothing")

    @pytest.mark.parametrize(("folder", "kind"), [(True, "json"), (False, "folder")])
    def test_a_folder_for_a_file_is_refused(self, tmp_path, folder, kind):
        made = tmp_path / "made"
        made.mkdir() if folder else made.write_text("x")
        with pytest.raises(DataError, match="wrote its output 'loud' as a"):
            self.taken(tmp_path, made, kind)
