from __future__ import annotations

import json

import pytest

from llmops.adapters import catalog
from llmops.errors import ConfigError, DataError
from llmops.plan.kinds import Adapters, Work
from llmops.steps import tune
from tests.unit.model import tiny_llama

CARD = {
    "dataset_version": "v1-3f9c21ab",
    "prompt": {"name": "so_python", "sha256": "p" * 64},
    "rows": {"train": 20, "validation": 5, "test": 5},
    "source_terms": "psf-2.0",
    "acknowledged_terms": ["psf-2.0"],
}


def never(*_):
    raise AssertionError("the step may use no other seam")


def run(folder, card=None, **settings):
    model = tiny_llama.model_config()
    chosen = {"max_steps": 5, "epochs": None, "max_examples": None, "seed": 42, **settings}
    (folder / "card.json").write_text(json.dumps({**CARD, **(card or {})}), "utf-8")
    tiny_llama.write_examples(folder / "train.parquet", 20)
    tiny_llama.write_examples(folder / "validation.parquet", 5, 100)
    (folder / "scratch").mkdir(exist_ok=True)
    adapters = Adapters(
        warehouse=never,
        tuner=lambda: catalog.adapter("tuner", model, folder / "cache"),
        generator=never,
        scorer=never,
        registry=never,
        encoder=never,
    )
    sides = ("train", "validation")
    inputs = {"card": folder / "card.json", **{s: folder / f"{s}.parquet" for s in sides}}
    work = Work(
        step="tune",
        key="0" * 64,
        run_id="run",
        settings=tune.Settings(model=model, **chosen),
        inputs=inputs,
        digests=dict.fromkeys(inputs, "0" * 64),
        outputs={"model": folder / "model"},
        adapters=adapters,
        progress=lambda *_, **__: None,
        scratch=folder / "scratch",
    )
    return tune.run(work)


@pytest.fixture
def folder(tmp_path):
    tiny_llama.install(tmp_path / "cache")
    return tmp_path


def test_the_model_folder_says_what_it_was_made_of(folder):
    run(folder)
    tuned = json.loads((folder / "model" / "tuned.json").read_text("utf-8"))
    names = ("provider", "base", "prompt_sha256", "dataset_version")
    assert [tuned[name] for name in names] == ["local", "tiny llama", "p" * 64, "v1-3f9c21ab"]
    assert tuned["base_sha256"] == tuned["facts"]["base_sha256"]


def test_the_model_folder_holds_the_adapter_and_its_curve(folder):
    run(folder)
    names = {path.name for path in (folder / "model").iterdir()}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    assert names == {"curve.json", "tuned.json", *adapter}


def test_the_facts_hold_the_held_out_loss_before_and_after(folder):
    facts = run(folder).facts
    assert facts["last_validation_loss"] < facts["first_validation_loss"]


def test_terms_that_are_not_acknowledged_stop_the_step_before_any_work(folder):
    with pytest.raises(ConfigError, match=r"psf-2\.0"):
        run(folder, card={"acknowledged_terms": []})
    assert not (folder / "model").exists()


def test_neither_steps_nor_epochs_is_a_config_error(folder):
    with pytest.raises(ConfigError, match="both null"):
        run(folder, max_steps=None)


def test_an_empty_training_split_is_refused_as_data(folder):
    with pytest.raises(DataError, match="no rows"):
        run(folder, card={"rows": {"train": 0, "validation": 0, "test": 0}})


def test_the_step_is_never_given_the_test_split():
    assert {port.name for port in tune.KIND.takes} == {"train", "validation", "card"}
