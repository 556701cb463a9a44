"""What every model registry must do. A registry joins by adding itself to ADAPTERS."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.dummy
from dataclasses import replace
from functools import partial

import pytest

from llmops.adapters import catalog
from llmops.errors import BackendError, ConfigError, Refused
from llmops.ports.model import ModelReference
from tests.fakes.loopback import cloud_on_loopback

ADAPTERS = [
    pytest.param({"kind": "files", "path": "the registry"}, id="files"),
    pytest.param({"kind": "vertex", "region": "us-central1"}, id="vertex"),
    pytest.param({"kind": "store", "store": {"kind": "folder", "path": "x"}}, id="store-on-disk"),
    pytest.param({"kind": "store", "store": {"kind": "gcs", "prefix": "above"}}, id="store-gcs"),
]
MODEL = ModelReference(
    provider="local", base="a base", tuned="a-1", adapter="ab" * 32, prompt_sha256="cd" * 32
)
LABELS = {"dataset_version": "v1-3f9c21ab", "step_key": "ef" * 32}


@pytest.fixture(params=ADAPTERS)
def config(request):
    return request.param


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with cloud_on_loopback(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def opened(config, tmp_path, request):
    """Return what opens the registry, in any process or thread."""
    if on_disk(config):
        return partial(catalog.adapter, "registry", config, tmp_path)
    cloud = request.getfixturevalue("cloud")
    cloud.fresh()
    if config["kind"] == "store":
        config = config | {"store": config["store"] | {"bucket": f"gs://{cloud.bucket}"}}
    return partial(catalog.adapter, "registry", config, tmp_path, environment=cloud.environment)


@pytest.fixture
def registry(opened):
    return opened()


@pytest.fixture
def writers(config):
    """Return what makes writers: processes, or threads where each would import for seconds."""
    here = on_disk(config)
    return multiprocessing.get_context("fork") if here else multiprocessing.dummy


def on_disk(config):
    return config["kind"] == "files" or config.get("store", {}).get("kind") == "folder"


def other(number):
    return replace(MODEL, adapter=f"{number:064}")


def register(registry, model=MODEL, name="so_python", run_id="run-1"):
    return registry.register(name, model, labels=LABELS, run_id=run_id)


def test_the_suite_covers_every_registry_of_the_catalog():
    assert {one.values[0]["kind"] for one in ADAPTERS} == set(catalog.ADAPTERS["registry"])


def test_an_empty_registry_lists_nothing_and_writes_nothing(registry, tmp_path):
    assert list(registry.list()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_registered_model_comes_back_as_it_was(registry):
    version = register(registry)
    assert registry.get("so_python", "1") == version
    assert (version.model, version.labels, version.registered_by) == (MODEL, LABELS, "run-1")
    assert version.aliases == ()


def test_registering_the_same_model_again_gives_the_same_version(registry):
    first = register(registry)
    assert register(registry, run_id="run-2") == first
    assert len(registry.list()) == 1


def test_another_model_gets_the_next_version(registry):
    register(registry)
    assert register(registry, other(2)).version == 2


def test_versions_are_listed_by_name_then_newest_first(registry):
    for number in range(11):
        register(registry, other(number), name="b")
    register(registry, name="a")
    listed = [(version.name, version.version) for version in registry.list()]
    assert listed == [("a", 1), *(("b", number) for number in range(11, 0, -1))]


def test_an_alias_points_at_one_version_at_a_time(registry):
    register(registry)
    register(registry, other(2))
    registry.set_alias("so_python", "champion", 1, reason="first")
    moved = registry.set_alias("so_python", "champion", 2, reason="better")
    assert (moved.version, moved.aliases) == (2, ("champion",))
    assert registry.get("so_python", "champion").version == 2
    assert registry.get("so_python", "1").aliases == ()


def test_a_version_may_have_several_aliases(registry):
    register(registry)
    registry.set_alias("so_python", "candidate", 1, reason="new")
    version = registry.set_alias("so_python", "champion", 1, reason="the gate passed")
    assert version.aliases == ("candidate", "champion")


def test_every_move_of_an_alias_is_kept_with_its_reason(registry):
    register(registry)
    register(registry, other(2))
    registry.set_alias("so_python", "champion", 1, reason="first")
    registry.set_alias("so_python", "champion", 2, reason='run 7: "größer"\nand more')
    moves = [(m.alias, m.before, m.version, m.reason) for m in registry.history("so_python")]
    assert moves == [
        ("champion", None, 1, "first"),
        ("champion", 1, 2, 'run 7: "größer"\nand more'),
    ]


def test_setting_an_alias_where_it_is_moves_nothing(registry):
    register(registry)
    for _ in range(3):
        registry.set_alias("so_python", "champion", 1, reason="again")
    assert len(registry.history("so_python")) == 1


@pytest.mark.parametrize(
    ("name", "wanted", "nearest"),
    [
        ("so_pyton", "1", "so_python"),
        ("so_python", "champoin", "champion"),
        ("so_python", "7", "valid: 1, champion"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(registry, name, wanted, nearest):
    register(registry)
    registry.set_alias("so_python", "champion", 1, reason="first")
    with pytest.raises(ConfigError) as caught:
        registry.get(name, wanted)
    assert nearest in caught.value.hint


def test_a_model_is_not_found_in_an_empty_registry(registry):
    with pytest.raises(ConfigError, match="is empty"):
        registry.get("so_python", "champion")


def test_an_alias_cannot_point_at_a_version_that_is_not_there(registry):
    register(registry)
    with pytest.raises(ConfigError, match="version or alias '2'"):
        registry.set_alias("so_python", "champion", 2, reason="too early")
    assert list(registry.history("so_python")) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "a\\b",
        "/etc",
        ".hidden",
        "a..b",
        "a\x00b",
        "a\n",
        "x" * 101,
        "ü",
    ],
)
def test_a_name_that_is_no_plain_name_is_refused(registry, tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be a model name"):
        register(registry, name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alias", ["12", "../x", "", "a b"])
def test_an_alias_that_is_no_plain_name_is_refused(registry, alias):
    register(registry)
    with pytest.raises(ConfigError):
        registry.set_alias("so_python", alias, 1, reason="odd")


def three_champions(registry):
    for number in (1, 2, 3):
        register(registry, other(number))
        registry.set_alias("so_python", "champion", number, reason=f"{number} was best")


def test_an_alias_moves_only_from_where_it_was_expected(registry):
    register(registry)
    register(registry, other(2))
    registry.set_alias("so_python", "champion", 1, reason="first", expected=None)
    with pytest.raises(Refused, match="somebody moved it"):
        registry.set_alias("so_python", "champion", 2, reason="late", expected=None)
    with pytest.raises(Refused, match="is version 1 now"):
        registry.set_alias("so_python", "champion", 2, reason="late", expected=2)
    assert registry.get("so_python", "champion").version == 1
    assert len(registry.history("so_python")) == 1
    moved = registry.set_alias("so_python", "champion", 2, reason="better", expected=1)
    assert moved.aliases == ("champion",)


def test_a_forced_move_stays_marked(registry):
    register(registry)
    registry.set_alias("so_python", "champion", 1, reason="the demo", forced=True)
    assert [(m.reason, m.forced) for m in registry.history("so_python")] == [("the demo", True)]


def test_a_rollback_goes_back_and_a_second_one_further(registry):
    three_champions(registry)
    back = [registry.rollback("so_python", "champion", reason="worse").version for _ in range(2)]
    assert back == [2, 1]
    assert registry.get("so_python", "champion").version == 1
    events = [(m.event, m.before, m.version) for m in registry.history("so_python")]
    assert events[3:] == [("rollback", 3, 2), ("rollback", 2, 1)]


def test_a_rollback_has_an_end(registry):
    register(registry)
    registry.set_alias("so_python", "champion", 1, reason="first")
    with pytest.raises(ConfigError, match="no version before"):
        registry.rollback("so_python", "champion", reason="worse")
    assert registry.get("so_python", "champion").version == 1


def test_a_move_after_a_rollback_is_rolled_back_to_where_that_went(registry):
    three_champions(registry)
    registry.rollback("so_python", "champion", reason="worse")
    registry.set_alias("so_python", "champion", 3, reason="better after all")
    assert registry.rollback("so_python", "champion", reason="no").version == 2


def test_a_rollback_passes_over_what_was_deleted(registry):
    three_champions(registry)
    registry.delete("so_python", 2, reason="its licence was withdrawn")
    assert registry.rollback("so_python", "champion", reason="worse").version == 1


@pytest.mark.parametrize("verb", ["rollback", "drop_alias"])
def test_an_alias_that_is_not_there_is_told_with_the_nearest(registry, verb):
    register(registry)
    registry.set_alias("so_python", "champion", 1, reason="first")
    with pytest.raises(ConfigError) as caught:
        getattr(registry, verb)("so_python", "champoin", reason="x")
    assert "champion" in caught.value.hint


def test_a_dropped_alias_is_gone_and_stays_in_the_history(registry):
    register(registry)
    registry.set_alias("so_python", "shadow", 1, reason="a trial")
    registry.drop_alias("so_python", "shadow", reason="over")
    assert registry.get("so_python", "1").aliases == ()
    last = registry.history("so_python")[-1]
    assert (last.event, last.alias, last.before, last.version) == ("drop", "shadow", 1, None)


def test_a_deleted_version_is_gone_and_its_number_is_never_given_again(registry):
    register(registry)
    register(registry, other(2))
    registry.delete("so_python", 2, reason="a trial")
    with pytest.raises(ConfigError, match="version or alias '2'"):
        registry.get("so_python", "2")
    assert [one.version for one in registry.list()] == [1]
    assert register(registry, other(2)).version == 3
    last = registry.history("so_python")[-1]
    assert (last.event, last.alias, last.before, last.reason) == ("delete", None, 2, "a trial")


def test_a_version_that_an_alias_points_at_is_not_deleted(registry):
    register(registry)
    registry.set_alias("so_python", "champion", 1, reason="first")
    with pytest.raises(Refused, match="is champion; nothing was deleted"):
        registry.delete("so_python", 1, reason="tidy")
    assert registry.get("so_python", "champion").version == 1


def _take_champion(opened, version, outcome):
    registry = opened()
    try:
        registry.set_alias("so_python", "champion", version, reason="mine", expected=None)
    except Refused:
        outcome.put("refused")
    else:
        outcome.put("moved")


def test_of_two_writers_that_expect_the_same_one_moves_the_alias(registry, opened, writers):
    for number in range(4):
        register(registry, other(number))
    outcome = writers.Queue()
    working = [
        writers.Process(target=_take_champion, args=(opened, version, outcome))
        for version in (1, 2, 3, 4)
    ]
    for writer in working:
        writer.start()
    said = sorted(outcome.get(timeout=60) for _ in working)
    for writer in working:
        writer.join()
    assert said == ["moved", "refused", "refused", "refused"]
    assert len(registry.history("so_python")) == 1


def _write_much(opened, writer, rounds):
    registry = opened()
    for number in range(rounds):
        mine = register(registry, other(writer * 100 + number), run_id=f"run-{writer}")
        registry.set_alias("so_python", "candidate", mine.version, reason=f"writer {writer}")
        register(registry, other(999_999), run_id=f"run-{writer}")


def test_many_writers_lose_nothing_and_tear_nothing(config, registry, opened, writers):
    count, rounds = (8, 6) if on_disk(config) else (3, 2)
    working = [
        writers.Process(target=_write_much, args=(opened, writer, rounds))
        for writer in range(count)
    ]
    for writer in working:
        writer.start()
    for writer in working:
        writer.join()
    assert [writer.exitcode for writer in working] == [0] * count

    versions = registry.list()
    made = count * rounds + 1  # the model that all of them registered is one version
    assert sorted(one.version for one in versions) == list(range(1, made + 1))
    moves = registry.history("so_python")
    assert [move.before for move in moves[1:]] == [move.version for move in moves[:-1]]
    assert registry.get("so_python", "candidate").version == moves[-1].version


class TestFiles:
    """What only the registry of files promises."""

    CONFIG = ADAPTERS[0].values[0]

    @pytest.fixture
    def registry(self, tmp_path):
        return catalog.adapter("registry", self.CONFIG, tmp_path)

    def test_a_crash_between_history_and_alias_is_mended_by_the_same_call(self, registry):
        register(registry)
        registry.set_alias("so_python", "champion", 1, reason="first")
        (registry.root / "so_python" / "aliases.json").unlink()
        assert registry.set_alias("so_python", "champion", 1, reason="first").aliases == (
            "champion",
        )

    def test_a_history_of_the_first_release_reads_on(self, registry):
        register(registry)
        old = {"alias": "champion", "before": None, "version": 1, "reason": "first", "at": "2026"}
        (registry.root / "so_python" / "history.jsonl").write_text(json.dumps(old) + "\n")
        move = registry.history("so_python")[0]
        assert (move.event, move.forced, move.version) == ("move", False, 1)

    def test_a_damaged_file_is_named(self, registry):
        register(registry)
        path = registry.root / "so_python" / "versions" / "1.json"
        path.write_text(path.read_text()[:40])
        with pytest.raises(BackendError, match=r"1\.json cannot be read"):
            registry.get("so_python", "1")

    def test_the_files_are_plain_json(self, registry):
        register(registry)
        registry.set_alias("so_python", "champion", 1, reason="first")
        folder = registry.root / "so_python"
        assert json.loads((folder / "aliases.json").read_text()) == {"champion": 1}
        stored = json.loads((folder / "versions" / "1.json").read_text())
        assert stored["model"]["adapter"] == MODEL.adapter
        assert len((folder / "history.jsonl").read_text().splitlines()) == 1

    def test_a_folder_that_cannot_be_written_is_told_with_the_key_to_change(self, tmp_path):
        (tmp_path / "the registry").write_text("a file is in the way")
        registry = catalog.adapter("registry", self.CONFIG, tmp_path)
        with pytest.raises(BackendError) as caught:
            register(registry)
        assert "deploy.registry.path" in caught.value.hint


class TestStore:
    """What only the registry in a store promises."""

    @pytest.fixture
    def config(self):
        return ADAPTERS[2].values[0]

    def test_every_state_of_a_model_stays_readable(self, registry, tmp_path):
        register(registry)
        registry.set_alias("so_python", "champion", 1, reason="first")
        states = sorted((tmp_path / "x" / "registry" / "so_python").iterdir())
        assert [path.name for path in states] == ["00000001.json", "00000002.json"]
        assert [json.loads(path.read_text())["aliases"] for path in states] == [{}, {"champion": 1}]

    def test_an_answer_that_was_lost_is_no_refusal(self, registry, monkeypatch):
        create = registry.blobs.create

        def loses_its_answer(name, data):
            create(
                name, data
            )  # done, and asked again by the client, which is told that it is there
            return create(name, data)

        monkeypatch.setattr(registry.blobs, "create", loses_its_answer)
        register(registry)
        registry.set_alias("so_python", "champion", 1, reason="first", expected=None)
        assert len(registry.history("so_python")) == 1

    def test_a_damaged_state_is_named(self, registry, tmp_path):
        register(registry)
        path = tmp_path / "x" / "registry" / "so_python" / "00000001.json"
        path.write_text(path.read_text()[:40])
        with pytest.raises(BackendError, match=r"00000001\.json cannot be read"):
            registry.get("so_python", "1")
