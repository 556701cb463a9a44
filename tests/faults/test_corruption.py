"""Bytes that change behind our back are seen on read, set aside, and made again."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops import cli
from llmops.adapters.store.folder import FolderStore
from llmops.errors import DamagedObject
from llmops.execute import Task, execute
from llmops.plan.graph import Node
from llmops.plan.kinds import Adapters, Outcome, Port, StepKind, leaf

CLOSED = Adapters(*(lambda *_: pytest.fail("no seam should be opened") for _ in range(6)))


@dataclass(frozen=True)
class Settings:
    text: str = leaf("text")


def write(work):
    work.outputs["one"].write_text(json.dumps({"text": work.settings.text}))
    work.outputs["many"].mkdir()
    for number in range(3):
        (work.outputs["many"] / f"{number}.txt").write_text(f"{number} {work.settings.text}")
    return Outcome()


WRITE = StepKind("write", 1, write, Settings, gives=(Port("one", "json"), Port("many", "folder")))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return FolderStore(tmp_path / ".llmops" / "store", uri=".llmops/store")


def do(store, text="said"):
    return execute(
        Task(Node("step", WRITE, {}), {"name": "x", "text": text}, "run", {}),
        store,
        CLOSED,
        _silent,
    )


def _silent(done, total, note=""):
    pass


def path_of(store, sha256):
    return store.root / "objects" / sha256[:2] / sha256


def rewrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def flip(path, bit=0):
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    rewrite(path, bytes(content))


DAMAGES = {
    "a flipped bit": flip,
    "a truncated object": lambda path: rewrite(path, path.read_bytes()[:-1]),
    "an empty object": lambda path: rewrite(path, b""),
    "another's content": lambda path: rewrite(path, b"what another object holds"),
}


def verify(capsys, *options):
    code = cli.main(["store", "verify", *options, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("which", ["a file", "a part of a folder"])
def test_damage_is_found_mended_and_made_again(store, capsys, damage, which):
    made = do(store).entry
    one = made.outputs["one"].sha256
    part = sorted(store.parts(made.outputs["many"]) - {made.outputs["many"].sha256})[0]
    damaged = one if which == "a file" else part
    damage(path_of(store, damaged))
    code, found = verify(capsys)
    assert (code, found["damaged"]) == (1 + 2, [damaged])
    code, found = verify(capsys, "--repair")
    assert (code, found["repaired"]) == (0, True)
    assert path_of(store, damaged).with_suffix(".bad").exists()
    assert verify(capsys)[0] == 0
    again = do(store)
    assert not again.cached
    assert again.entry.outputs == made.outputs
    assert verify(capsys)[0] == 0


def test_a_missing_object_is_an_entry_that_leads_nowhere(store, capsys):
    made = do(store).entry
    path_of(store, made.outputs["one"].sha256).unlink()
    code, found = verify(capsys)
    assert code == 2
    assert [(lost["step"], lost["output"]) for lost in found["lost"]] == [("step", "one")]
    assert store.entry(made.key) is None  # and so the step is due without any mending
    assert not do(store).cached
    assert verify(capsys)[0] == 0


def test_a_torn_index_entry_is_told_and_forgotten(store, capsys):
    made = do(store).entry
    place = store.root / "index" / f"{made.key}.json"
    place.write_text(place.read_text()[:40])
    code, found = verify(capsys)
    assert (code, found["torn"]) == (2, [made.key])
    assert verify(capsys, "--repair")[0] == 0
    assert not place.exists()
    assert do(store).entry.outputs == made.outputs


def test_swapped_objects_are_both_damaged(store, capsys):
    one, other = (do(store, text).entry.outputs["one"].sha256 for text in ("a", "b"))
    first, second = path_of(store, one), path_of(store, other)
    contents = second.read_bytes(), first.read_bytes()
    for path, content in zip((first, second), contents, strict=True):
        rewrite(path, content)
    assert sorted(verify(capsys)[1]["damaged"]) == sorted([one, other])


def test_a_whole_store_is_said_to_be_whole(store, capsys):
    do(store)
    assert cli.main(["store", "verify"]) == 0
    said = capsys.readouterr().out
    assert "1 finished step" in said
    assert "all is what its name says" in said


def test_damage_is_told_with_what_to_do(store, capsys):
    flip(path_of(store, do(store).entry.outputs["one"].sha256))
    assert cli.main(["store", "verify"]) == 3
    assert "llmops store verify --repair" in capsys.readouterr().out


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bit=st.integers(0, 10_000))
def test_any_flipped_bit_is_seen_on_read_and_set_aside(store, bit):
    made = do(store).entry.outputs["one"]
    flip(path_of(store, made.sha256), bit)
    with pytest.raises(DamagedObject, match="set aside"):
        store.local_path(made)
    with pytest.raises(DamagedObject, match="lost"):
        store.local_path(made)
    assert not do(store).cached
    path_of(store, made.sha256).with_suffix(".bad").unlink()
