"""A base model in memory: load, verify, attach adapters, run a layout through it.

One loaded model serves the untuned and every tuned contestant: adapters are switched, never
merged, so that what is predicted with is exactly what was tuned (merging into bf16 weights rounds
much of a small adapter away). Knows nothing of examples or optimisers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmops.adapters.model.attention import NAME, Layout, register
from llmops.adapters.model.convert import ANSWERS
from llmops.adapters.model.device import Device, choose_device
from llmops.adapters.model.fused import LoraLinear, fuse_norms
from llmops.adapters.model.quiet import quietly
from llmops.adapters.model.weights import PULL, CachedModel, find
from llmops.errors import BackendError, ConfigError

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class LoraSettings:
    """LoRA's shape: the update is alpha / rank * B A on each of ``modules``."""

    rank: int
    alpha: float
    dropout: float
    modules: tuple[str, ...]


class BaseModel:
    """A frozen Llama model with its tokenizer; at most one adapter is active at a time."""

    def __init__(self, cached: CachedModel, device: Device) -> None:
        self.cached = cached
        self.device = device
        self.lock = threading.RLock()
        self._peft: Any = None
        try:
            with quietly():
                self._load(cached.folder)
        except (OSError, ValueError, KeyError, RuntimeError) as exc:
            raise BackendError(f"{cached.folder} cannot be loaded: {exc}", hint=PULL) from exc

    def _load(self, folder: Path) -> None:
        from transformers import AutoTokenizer, LlamaForCausalLM

        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
        if kind != ANSWERS:
            raise BackendError(
                f"{folder} holds a model of type '{kind}': only a '{ANSWERS}' answers and is tuned",
                hint="choose it as a guard, as conf/safety/shieldgemma_here.yaml does",
            )
        register()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = LlamaForCausalLM.from_pretrained(
            folder,
            dtype=self.device.dtype,
            attn_implementation=NAME,
            use_safetensors=True,
            local_files_only=True,
        )
        model.requires_grad_(False)
        fuse_norms(model)
        self.model = model.to(self.device.name).eval()

    @property
    def head(self) -> Tensor:
        """The output layer's weight, (vocabulary, size)."""
        return self.model.lm_head.weight  # type: ignore[no-any-return]

    @property
    def pad(self) -> int:
        """A token id for padding; no real token ever looks at it."""
        return int(self.tokenizer.pad_token_id or self.tokenizer.eos_token_id)

    def hidden(self, ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Return the last layer's states, (tokens, size), for one sequence of tokens."""
        out = self.model.model(
            input_ids=ids, position_ids=positions, use_cache=False, layout=layout
        )
        return out.last_hidden_state[0]  # type: ignore[no-any-return]

    def add_lora(self, name: str, settings: LoraSettings, *, seed: int) -> list[nn.Parameter]:
        """Attach a new adapter drawn from ``seed`` and return its weights, all fp32."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._attach(name, settings)
        return list(self.adapter_weights(name).values())

    def load_adapter(self, folder: Path) -> str:
        """Attach the adapter in ``folder`` unless it is attached already; return its name.

        Raises:
            BackendError: If the folder holds no adapter that fits this model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            name = f"adapter_{_content_name(folder)}"
            if name not in self._names():
                config = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
                self._attach(name, _lora_settings(config))
                self.set_weights(name, load_file(folder / ADAPTER_WEIGHTS))
                for weight in self.adapter_weights(name).values():
                    weight.requires_grad_(False)
                    weight.data = weight.data.to(self.device.dtype)  # once, not at every token
        except (OSError, ValueError, KeyError, SafetensorError) as exc:
            raise BackendError(
                f"{folder} does not hold an adapter for this model ({exc})",
                hint="run the experiment again with --force tune",
            ) from exc
        return name

    def adapter_weights(self, name: str) -> dict[str, nn.Parameter]:
        """Return an adapter's parameters by the names that its file uses, sorted."""
        mark = f".{name}."
        found = {
            f"base_model.model.{key.replace(mark, '.')}": weight
            for key, weight in self.model.named_parameters()
            if mark in key
        }
        return dict(sorted(found.items()))

    def set_weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Copy ``tensors`` into an attached adapter.

        Raises:
            ValueError: If their names or shapes are not the adapter's.
        """
        weights = self.adapter_weights(name)
        if set(weights) != set(tensors):
            raise ValueError("its weights have other names than this model's layers")
        with torch.no_grad():
            for key, weight in weights.items():
                if weight.shape != tensors[key].shape:
                    raise ValueError(f"{key} has shape {tuple(tensors[key].shape)}")
                weight.copy_(tensors[key])

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Hold the model with the named adapter active, or none."""
        with self.lock:
            if self._peft is None:
                yield
            elif name is None:
                with self._peft.disable_adapter():
                    yield
            else:
                self._peft.set_adapter(name)
                yield

    def _names(self) -> Sequence[str]:
        return list(self._peft.peft_config) if self._peft is not None else []

    def _attach(self, name: str, settings: LoraSettings) -> None:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a float will do as well
            lora_dropout=settings.dropout,
            target_modules=list(settings.modules),
            task_type="CAUSAL_LM",
        )
        config._register_custom_module({nn.Linear: LoraLinear})  # PEFT's hook for own layers
        try:
            with quietly():
                if self._peft is None:
                    self._peft = get_peft_model(self.model, config, adapter_name=name)
                else:
                    self._peft.add_adapter(name, config)
        except ValueError as exc:
            raise ConfigError(
                f"model.tuner.lora does not fit the model: {str(exc).splitlines()[0]}",
                hint="modules are layer names such as q_proj, v_proj, up_proj",
            ) from exc


def save_adapter(
    base: BaseModel, name: str, settings: LoraSettings, base_name: str, folder: Path
) -> None:
    """Write an adapter as PEFT reads it: the same weights give the same bytes."""
    from safetensors.torch import save_file

    tensors = {key: weight.detach().cpu() for key, weight in base.adapter_weights(name).items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = {
        "base_model_name_or_path": base_name,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": sorted(settings.modules),
        "task_type": "CAUSAL_LM",
    }
    text = json.dumps(config, indent=1, sort_keys=True) + "\n"
    (folder / ADAPTER_CONFIG).write_text(text, "utf-8")


def load_base(model: Mapping[str, Any], cache: Path) -> BaseModel:
    """Load the configured base model; every file's digest is checked first.

    Raises:
        BackendError: If the model is missing, damaged or cannot be loaded.
    """
    return BaseModel(find(model, cache, verify=True), choose_device(model))


_shared: dict[tuple[str, Device], BaseModel] = {}
_shared_lock = threading.Lock()


def shared_base(model: Mapping[str, Any], cache: Path) -> BaseModel:
    """Return this process's one copy of the configured base model, loading it on first use."""
    device = choose_device(model)
    with _shared_lock:
        key = (find(model, cache).sha256, device)
        if key not in _shared:
            _shared.clear()  # one base at a time: memory is for one
            _shared[key] = load_base(model, cache)
        return _shared[key]


def _lora_settings(config: Mapping[str, Any]) -> LoraSettings:
    return LoraSettings(
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        dropout=float(config["lora_dropout"]),
        modules=tuple(config["target_modules"]),
    )


def _content_name(folder: Path) -> str:
    from llmops.adapters.model.sources import file_sha256

    return file_sha256(folder / ADAPTER_WEIGHTS)[:16] + file_sha256(folder / ADAPTER_CONFIG)[:8]
