"""Fit a LoRA adapter to examples on this machine.

The loss is the mean over a batch's answer and end-of-text tokens, as in TRL's SFTTrainer on
prompt-completion rows; AdamW without weight decay, gradients clipped at norm 1. The learning rate
rises over ``warmup_steps`` and then falls linearly to zero. A run that was killed goes on from its
last checkpoint and ends with the same bytes. Never sees a test split, a warehouse or a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmops.adapters.model import checkpoint
from llmops.adapters.model.base import (
    ADAPTER_WEIGHTS,
    BaseModel,
    LoraSettings,
    load_base,
    save_adapter,
)
from llmops.adapters.model.batching import (
    ChatEncoder,
    Encoded,
    by_length,
    collate,
    steps_of_epochs,
)
from llmops.adapters.model.checkpoint import Checkpoint
from llmops.adapters.model.examples import ExampleSet, choose_rows, read_examples, row_count
from llmops.adapters.model.fused import answer_nll, mean_answer_loss
from llmops.adapters.model.sources import file_sha256
from llmops.artifacts import digest
from llmops.errors import ConfigError, DataError
from llmops.ports.model import CurvePoint, Tuned, TuningRequest
from llmops.ports.progress import TuningProgress

ADAPTER = "tuned"
LARGEST_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class TunerSettings:
    """The ``model.tuner`` block; see conf/model/smollm2.yaml for units."""

    max_tokens: int
    batch_rows: int
    learning_rate: float
    warmup_steps: int
    checkpoint_every_steps: int
    validate_every_steps: int
    validation_rows: int
    lora: LoraSettings


@dataclass(frozen=True)
class Data:
    """What one run trains and measures on, and how many steps it takes."""

    train: ExampleSet
    validation: tuple[Encoded, ...]
    steps: int


def open_tuner(config: Mapping[str, Any], cache: Path) -> LocalTuner:
    """Open the tuner of the ``model`` config group; the base model is loaded when it tunes."""
    return LocalTuner(config, cache)


class LocalTuner:
    """LoRA tuning with PyTorch; see the module's text."""

    def __init__(self, model: Mapping[str, Any], cache: Path) -> None:
        self.model = model
        self.cache = cache
        self.settings = _settings(model["tuner"])

    def tune(self, request: TuningRequest, progress: TuningProgress) -> Tuned:
        """Tune; see ``ports.model.Tuner``."""
        progress(0, None, "loading the base model")
        base = load_base(self.model, self.cache)
        progress(0, None, "encoding examples")
        data = _read(base, request, self.settings)
        run = TuningRun(base, data, self.settings, seed=request.seed)
        mark = self._mark(base, request, data)
        run.resume(checkpoint.read(request.scratch, belongs_to=mark))
        for step in range(run.step, data.steps):
            run.advance()
            loss = run.curve[-1].train_loss
            progress(run.step, data.steps, f"loss {loss:.2f}", loss=loss)
            if run.step % self.settings.checkpoint_every_steps == 0 and step + 1 < data.steps:
                checkpoint.write(request.scratch, run.state(), belongs_to=mark)
        save_adapter(base, ADAPTER, self.settings.lora, str(self.model["base"]), request.output)
        checkpoint.clear(request.scratch)
        name = f"lora-{file_sha256(request.output / ADAPTER_WEIGHTS)[:12]}"
        return Tuned(name, None, tuple(run.curve), run.facts())

    def _mark(self, base: BaseModel, request: TuningRequest, data: Data) -> str:
        """Return what a checkpoint must agree on to be gone on from."""
        return digest(
            {
                "base": base.cached.sha256,
                "device": asdict(base.device),
                "tuner": asdict(self.settings),
                "seed": request.seed,
                "steps": data.steps,
                "train": [example.ids for example in data.train.examples],
                "validation": [example.ids for example in data.validation],
            }
        )


class TuningRun:
    """The state of one run: adapter, optimiser, curve, and the number of steps done."""

    def __init__(self, base: BaseModel, data: Data, settings: TunerSettings, *, seed: int) -> None:
        self.base, self.data, self.settings, self.seed = base, data, settings, seed
        self.weights = base.add_lora(ADAPTER, settings.lora, seed=seed)
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=settings.learning_rate, weight_decay=0.0, fused=True
        )
        lengths = [len(example) for example in data.train.examples]
        self._batches = steps_of_epochs(lengths, settings.batch_rows, seed=seed)
        self.step = self.tokens = self.examples = 0
        self.curve: list[CurvePoint] = []

    def advance(self) -> None:
        """Do one optimiser step and add its point to the curve."""
        if not self.curve:
            self.curve.append(CurvePoint(0, 0, None, self.validation_loss()))
        loss = self._update([self.data.train.examples[i] for i in next(self._batches)])
        self.step += 1
        last = self.step == self.data.steps
        measured = last or self.step % self.settings.validate_every_steps == 0
        held_out = self.validation_loss() if measured else None
        self.curve.append(CurvePoint(self.step, self.tokens, loss, held_out))

    def _update(self, examples: Sequence[Encoded]) -> float:
        batch = collate(examples, pad=self.base.pad, device=self.base.device.name)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self.rate_factor()
        self.base.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + self.step)  # dropout, the same after a restart
            hidden = self.base.hidden(batch.ids, batch.positions, batch.layout)
            loss = mean_answer_loss(hidden[batch.at], self.base.head, batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, LARGEST_GRADIENT_NORM)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.tokens += batch.tokens
        self.examples += len(examples)
        return _finite(float(loss.detach()), self.step + 1)

    def rate_factor(self) -> float:
        """Return the learning rate's factor for the coming step: up linearly, then down to zero."""
        warmup, total = min(self.settings.warmup_steps, self.data.steps - 1), self.data.steps
        if self.step < warmup:
            return (self.step + 1) / (warmup + 1)
        return (total - self.step) / (total - warmup)

    def validation_loss(self) -> float | None:
        """Return nats per answer token over the validation examples; None without any."""
        if not self.data.validation:
            return None
        self.base.model.eval()
        total, count = 0.0, 0
        for rows in by_length([len(one) for one in self.data.validation], self.settings.batch_rows):
            batch = collate(
                [self.data.validation[i] for i in rows],
                pad=self.base.pad,
                device=self.base.device.name,
            )
            with torch.inference_mode():
                hidden = self.base.hidden(batch.ids, batch.positions, batch.layout)
            losses = answer_nll(hidden[batch.at], self.base.head, batch.targets)
            total += float(losses.double().sum())
            count += len(losses)
        return total / count

    def state(self) -> Checkpoint:
        """Return all that a later process needs to go on from here."""
        tensors = {
            f"weight.{i}": weight.detach().cpu().contiguous()
            for i, weight in enumerate(self.weights)
        }
        for i, weight in enumerate(self.weights):
            for name, value in self.optimiser.state[weight].items():
                tensors[f"optimiser.{i}.{name}"] = value.detach().cpu().contiguous()
        state = {
            "tokens": self.tokens,
            "examples": self.examples,
            "curve": [asdict(point) for point in self.curve],
        }
        return Checkpoint(self.step, tensors, state)

    def resume(self, found: Checkpoint | None) -> None:
        """Take over a checkpoint's state, if there is one, and skip the batches it has seen."""
        if found is None:
            return
        self.step = found.step
        self.tokens, self.examples = found.state["tokens"], found.state["examples"]
        self.curve = [CurvePoint(**point) for point in found.state["curve"]]
        with torch.no_grad():
            for i, weight in enumerate(self.weights):
                weight.copy_(found.tensors[f"weight.{i}"])
                self.optimiser.state[weight] = {
                    name: found.tensors[f"optimiser.{i}.{name}"].to(weight.device)
                    for name in ("step", "exp_avg", "exp_avg_sq")
                }
        for _ in islice(self._batches, self.step):
            pass

    def facts(self) -> dict[str, Any]:
        """Return what the record should keep; no times."""
        return {
            "steps": self.step,
            "tokens": self.tokens,
            "examples_seen": self.examples,
            "examples_used": len(self.data.train.examples),
            "truncated": self.data.train.truncated,
            "without_answer": self.data.train.without_answer,
            "validation_examples": len(self.data.validation),
            "trainable_parameters": sum(weight.numel() for weight in self.weights),
            "device": self.base.device.name,
            "precision": self.base.device.precision,
            "base_sha256": self.base.cached.sha256,
        }


def _read(base: BaseModel, request: TuningRequest, settings: TunerSettings) -> Data:
    encoder = ChatEncoder(base.tokenizer)
    rows = row_count(request.train)
    if not rows:
        raise DataError("there are no rows to tune on", hint="check split.train and the query")
    if request.max_examples is not None:
        rows = min(rows, request.max_examples)
    # Steps within one epoch touch few rows of a large data set: encode no others.
    wanted = request.max_steps * settings.batch_rows if request.max_steps else None
    train = read_examples(
        request.train,
        choose_rows(rows, wanted, seed=request.seed),
        encoder,
        system=request.system,
        max_tokens=settings.max_tokens,
    )
    return Data(train, _validation(request, settings, encoder), _steps(request, settings, rows))


def _validation(
    request: TuningRequest, settings: TunerSettings, encoder: ChatEncoder
) -> tuple[Encoded, ...]:
    rows = row_count(request.validation) if request.validation else 0
    rows = min(rows, settings.validation_rows)
    if request.validation is None or not rows:
        return ()
    return read_examples(
        request.validation,
        list(range(rows)),
        encoder,
        system=request.system,
        max_tokens=settings.max_tokens,
    ).examples


def _steps(request: TuningRequest, settings: TunerSettings, rows: int) -> int:
    """Return the number of optimiser steps: whichever of steps and epochs ends first."""
    by_epochs = request.epochs and request.epochs * math.ceil(rows / settings.batch_rows)
    limits = [limit for limit in (request.max_steps, by_epochs) if limit]
    if not limits:
        raise ConfigError(
            "tuning.max_steps and tuning.epochs are both null",
            hint="set one, e.g. tuning.max_steps=40",
        )
    return min(limits)


def _settings(block: Mapping[str, Any]) -> TunerSettings:
    lora = dict(block["lora"])
    return TunerSettings(
        **{name: value for name, value in block.items() if name != "lora"},
        lora=LoraSettings(**{**lora, "modules": tuple(lora["modules"])}),
    )


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise DataError(
            f"the loss of step {step} is {loss}", hint="lower model.tuner.learning_rate"
        )
    return loss
