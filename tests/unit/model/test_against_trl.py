"""The first losses of our loop are those of TRL's SFTTrainer on the same rows.

In fp32 both loops compute the same sums in another order, so that they differ by rounding only:
about 1e-6 of the loss at the first step, growing as the weights drift apart. 1e-4 leaves room for
other processors; a wrong mask, schedule, clipping or scale differs by 1e-2 or more.
"""

from __future__ import annotations

import importlib

import pytest
import torch

from llmops.adapters.catalog import model_cache
from llmops.adapters.model import weights
from llmops.adapters.model.base import LoraSettings, load_base
from llmops.adapters.model.batching import ChatEncoder, steps_of_epochs
from llmops.adapters.model.examples import ExampleSet
from llmops.adapters.model.local_tuner import Data, TunerSettings, TuningRun
from llmops.adapters.model.quiet import quietly
from llmops.errors import BackendError
from llmops.ports.model import Message

STEPS, ROWS, SEED = 5, 2, 11
TOLERANCE = 1e-4  # relative
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SETTINGS = TunerSettings(
    max_tokens=96,
    batch_rows=ROWS,
    learning_rate=5e-4,
    warmup_steps=0,
    checkpoint_every_steps=100,
    validate_every_steps=100,
    validation_rows=0,
    lora=LoraSettings(rank=16, alpha=32, dropout=0.0, modules=MODULES),
)


def small_model():
    from llmops.config.compose import group

    return {**group("model"), "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def model():
    config = small_model()
    try:
        weights.find(config, model_cache())
    except BackendError as exc:
        pytest.skip(f"{exc} ({exc.hint})")
    return config


@pytest.fixture(scope="module")
def examples(model):
    from transformers import AutoTokenizer

    folder = weights.find(model, model_cache()).folder
    encoder = ChatEncoder(AutoTokenizer.from_pretrained(folder))
    docs = [getattr(importlib.import_module("math"), name).__doc__ for name in _functions()]
    return tuple(
        encoder.example((Message("user", f"What does math.{name} do?"),), doc, max_tokens=96)
        for name, doc in zip(_functions(), docs, strict=True)
    )


def _functions():
    names = [name for name in dir(importlib.import_module("math")) if not name.startswith("_")]
    return [name for name in names if name not in ("e", "pi", "tau", "inf", "nan")][: STEPS * ROWS]


def our_losses(model, examples):
    base = load_base(model, model_cache())
    data = Data(ExampleSet(examples, len(examples), 0, 0), (), STEPS)
    run = TuningRun(base, data, SETTINGS, seed=SEED)
    for _ in range(STEPS):
        run.advance()
    return [point.train_loss for point in run.curve if point.train_loss is not None]


def trl_losses(model, examples, folder):
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    where = weights.find(model, model_cache()).folder
    plain = LlamaForCausalLM.from_pretrained(where, dtype=torch.float32)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=list(MODULES), task_type="CAUSAL_LM")
    torch.manual_seed(SEED)
    tuned = get_peft_model(plain, config)
    batches = steps_of_epochs([len(one) for one in examples], ROWS, seed=SEED)
    order = [row for _ in range(STEPS) for row in next(batches)]
    rows = [
        {
            "input_ids": list(examples[i].ids),
            "completion_mask": [0] * len(examples[i].prompt) + [1] * len(examples[i].answer),
        }
        for i in order
    ]
    trainer = SFTTrainer(
        model=tuned,
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=ROWS,
            max_steps=STEPS,
            max_length=96,
            completion_only_loss=True,
            learning_rate=5e-4,
            train_sampling_strategy="sequential",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(where),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TRL's and its peers' own deprecations
def test_the_first_losses_are_those_of_trl(model, examples, tmp_path):
    with quietly():
        expected = trl_losses(model, examples, tmp_path)
    assert our_losses(model, examples) == pytest.approx(expected, rel=TOLERANCE)
