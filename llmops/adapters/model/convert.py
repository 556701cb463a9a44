"""Turn fetched weights into what is loaded ever after: bf16 safetensors and tokenizer files.

Reading a quantised GGUF takes half a minute and cannot be saved as it is, so it is done once.
Knows nothing of where the files come from or end up.
"""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from llmops.adapters.model.quiet import quietly
from llmops.errors import BackendError

ANSWERS = "llama"  # the architecture that is tuned and asked here
GUARDS = ("gemma2",)  # those that only rate texts, as guard models


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF file's model and tokenizer to the new folder ``target``, dequantised to bf16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, name = str(gguf.parent), gguf.name
    # The reader draws a bar of its own on stderr, whatever its libraries are told.
    with quietly(), redirect_stderr(StringIO()):
        model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        _save(model, target)
        tokenizer.save_pretrained(target)


def _save(model: Any, target: Path) -> None:
    """Save a copy without the memory of its quantisation, with which it cannot be saved."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config.to_dict()
    config.pop("quantization_config", None)
    plain: Any = LlamaForCausalLM(LlamaConfig(**config))
    plain.to(torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(target)


def convert_snapshot(snapshot: Path, target: Path) -> None:
    """Write a Hugging Face snapshot to the new folder ``target`` as one model in bf16.

    Raises:
        BackendError: If it is neither a Llama nor of a guard model's architecture.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with quietly():
        config = AutoConfig.from_pretrained(
            snapshot, local_files_only=True, trust_remote_code=False
        )
        if config.model_type not in (ANSWERS, *GUARDS):
            raise BackendError(
                f"the repository holds a model of type '{config.model_type}', not '{ANSWERS}'",
                hint="choose a causal model of the Llama architecture, e.g. a SmolLM2 model",
            )
        model = AutoModelForCausalLM.from_pretrained(
            snapshot, dtype=torch.bfloat16, use_safetensors=True, local_files_only=True
        )
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(snapshot, local_files_only=True).save_pretrained(target)
    for licence in snapshot.glob("LICENSE*"):
        shutil.copy(licence, target)
