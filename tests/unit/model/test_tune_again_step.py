"""Models of other seeds and controls on shuffled answers, with a real tuner over a tiny model."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmops.adapters import catalog
from llmops.errors import ConfigError
from llmops.plan.kinds import Adapters, Work
from llmops.steps import tune_again
from llmops.steps.deploy import tuned_reference
from tests.unit.model import tiny_llama
from tests.unit.model.test_tune_step import CARD, never


def run(folder, answers, seeds=(43,)):
    model = tiny_llama.model_config()
    (folder / "card.json").write_text(json.dumps(CARD), "utf-8")
    for name, count, first in (("train", 20, 0), ("validation", 5, 100)):
        path = folder / f"{name}.parquet"
        tiny_llama.write_examples(path, count, first)
        table = pq.read_table(path)
        if "group" not in table.column_names:
            groups = pa.array([f"g{i}" for i in range(table.num_rows)])
            pq.write_table(table.append_column("group", groups), path)
    (folder / "scratch").mkdir(exist_ok=True)
    closed = dict.fromkeys(("warehouse", "generator", "scorer", "registry", "encoder"), never)
    tuner = catalog.adapter("tuner", model, folder / "cache")
    inputs = {"card": folder / "card.json"} | {
        side: folder / f"{side}.parquet" for side in ("train", "validation")
    }
    work = Work(
        step="control",
        key="0" * 64,
        run_id="run",
        settings=tune_again.Settings(
            max_steps=3,
            epochs=None,
            max_examples=None,
            seed=42,
            model=model,
            answers=answers,
            seeds=seeds,
        ),
        inputs=inputs,
        digests=dict.fromkeys(inputs, "0" * 64),
        outputs={"models": folder / "models"},
        adapters=Adapters(**closed, tuner=lambda: tuner),
        progress=lambda *_, **__: None,
        scratch=folder / "scratch",
    )
    return tune_again.run(work)


@pytest.fixture
def folder(tmp_path):
    tiny_llama.install(tmp_path / "cache")
    return tmp_path


def test_each_seed_leaves_a_model_that_can_be_opened(folder):
    outcome = run(folder, "shuffled")
    assert outcome.facts["seeds"] == [42, 43]
    assert outcome.facts["tokens"] > 0
    weights = set()
    for seed in (42, 43):
        place = folder / "models" / f"seed-{seed}"
        reference = tuned_reference(place, f"digest/seed-{seed}")
        assert reference.prompt_sha256 == CARD["prompt"]["sha256"]
        generator = catalog.adapter(
            "generator", tiny_llama.model_config(), reference, place, folder / "cache"
        )
        assert generator.can_score
        weights.add((place / "adapter_model.safetensors").read_bytes())
    assert len(weights) == 2


def test_without_another_seed_there_is_nothing_to_repeat(folder):
    with pytest.raises(ConfigError, match="no seed besides"):
        run(folder, "as_they_are", seeds=(42,))


def test_answers_that_are_unknown_are_told(folder):
    with pytest.raises(ConfigError, match=r"with\.answers is 'mixed'"):
        run(folder, "mixed")
