"""Write a tuned local model as plain safetensors: the adapter merged into its base.

What comes out is a folder that transformers and vLLM load by its path: ``config.json``,
``model.safetensors``, the tokenizer's files. Merging is W + alpha / rank * B A (Hu et al. 2021,
"LoRA", section 4.1), kept in fp32: rounding to bf16 would lose most of a small update, and with it
the answers that were evaluated.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.model.weights import MANIFEST, WEIGHTS, CachedModel, find
from llmops.errors import BackendError, ConfigError
from llmops.files import disk_errors
from llmops.ports.exporter import Exported
from llmops.ports.model import ModelReference

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "base_model.model."
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
CONFIG = "config.json"


def open_exporter(config: Mapping[str, Any], cache: Path) -> LocalExporter:
    """Open the exporter of the ``model`` config group; nothing is loaded yet."""
    return LocalExporter(config, cache)


@dataclass(frozen=True)
class LocalExporter:
    """Merges adapters into the base model in ``cache``."""

    config: Mapping[str, Any]
    cache: Path

    def export(self, model: ModelReference, adapter: Path | None, target: Path) -> Exported:
        """Write the merged model into the new folder ``target``; see ``Exporter``."""
        base = find(self.config, self.cache, verify=True)
        if model.base_sha256 not in (None, base.sha256):
            raise BackendError(
                f"the model was tuned on other base weights ({str(model.base_sha256)[:12]}...) "
                f"than the cached ones ({base.sha256[:12]}...)",
                hint="python -m llmops models pull with the model group that it was tuned with",
            )
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(f"{target} is there already", hint="name a new folder: --out FOLDER")
        with disk_errors(target.parent, setting="--out"):
            return _written(base, adapter, target)


def _written(base: CachedModel, adapter: Path | None, target: Path) -> Exported:
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for file in base.files:
            if file.name not in (WEIGHTS, MANIFEST):
                shutil.copyfile(base.folder / file.name, partial / file.name)
        if adapter is None:
            shutil.copyfile(base.folder / WEIGHTS, partial / WEIGHTS)
        else:
            merge(base.folder / WEIGHTS, adapter, partial / WEIGHTS)
            _name_precision(partial / CONFIG)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = tuple(sorted(path.name for path in target.iterdir()))
    return Exported(target, files, sum((target / name).stat().st_size for name in files))


def merge(weights: Path, adapter: Path, target: Path) -> None:
    """Write a base's weights in fp32 with an adapter's change added; the others keep their values.

    Raises:
        BackendError: If the adapter does not fit the weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    try:
        config = json.loads((adapter / ADAPTER_CONFIG).read_text("utf-8"))
        scale = float(config["lora_alpha"]) / int(config["r"])
        changes = _pairs(load_file(adapter / ADAPTER_WEIGHTS))
        tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
        for name, (down, up) in changes.items():
            tensors[name] = _changed(tensors[name], down, up, scale)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        raise BackendError(
            f"{adapter} does not hold an adapter for this base ({exc})",
            hint="run the experiment again with --force tune",
        ) from exc
    save_file(tensors, target, metadata={"format": "pt"})


def _changed(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    return weight + scale * (up.float() @ down.float())


def _name_precision(path: Path) -> None:
    """Say in the model's config that its weights are fp32, so that loaders do not round them."""
    config = json.loads(path.read_text("utf-8"))
    config.pop("torch_dtype", None)  # what older versions of transformers wrote
    path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", "utf-8")


def _pairs(adapter: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A and B of each layer, by the name of the weight that they change."""
    found = {}
    for key, down in adapter.items():
        if key.endswith(".lora_A.weight"):
            layer = key.removesuffix(".lora_A.weight")
            up = adapter[f"{layer}.lora_B.weight"]
            found[f"{layer.removeprefix(PREFIX)}.weight"] = (down, up)
    if len(found) * 2 != len(adapter):
        raise KeyError("it changes more than linear layers")
    return found
