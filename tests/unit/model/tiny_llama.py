"""A randomly initialised Llama of two layers, with a tokenizer trained on the spot, in a cache.

It answers nonsense, but by the very code that serves a real model, and in milliseconds.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmops.adapters.model import weights

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = [
    "how",
    "do",
    "i",
    "sort",
    "read",
    "write",
    "open",
    "close",
    "count",
    "a",
    "list",
    "file",
    "dict",
    "string",
    "in",
    "python",
    "please",
    "answer",
    "use",
    "the",
    "method",
    "function",
    "module",
    "return",
    "value",
    "key",
    "index",
    "line",
]


def model_config(**tuner):
    """Return a ``model`` config group that names the tiny model."""
    return {
        "kind": "local",
        "base": "tiny llama",
        "source": {
            "kind": "huggingface",
            "repository": "nobody/tiny-llama",
            "revision": "0" * 40,
            "licence": "Apache-2.0",
        },
        "device": "cpu",
        "precision": "fp32",
        "tuner": {
            "max_tokens": 64,
            "batch_rows": 4,
            "learning_rate": 0.01,
            "warmup_steps": 2,
            "checkpoint_every_steps": 3,
            "validate_every_steps": 4,
            "validation_rows": 6,
            "lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "modules": ["q_proj", "down_proj"]},
            **tuner,
        },
    }


def install(cache: Path) -> Path:
    """Put the tiny model into ``cache`` as ``models pull`` would; return its folder."""
    converted = cache / "making"
    _write_tokenizer(converted)
    _write_model(converted)
    return weights.install(model_config(), converted, cache, lambda *_: None).folder


def question(number: int) -> str:
    """Return the user text of row ``number``; all begin alike."""
    picked = [WORDS[(number * step) % len(WORDS)] for step in range(2, 4 + number % 5)]
    return "please answer how do i " + " ".join(picked)


def answer(number: int) -> str:
    """Return the answer of row ``number``."""
    return "use the " + " ".join(
        WORDS[(number + step) % len(WORDS)] for step in range(number % 7 + 1)
    )


def write_examples(path: Path, rows: int, first: int = 0, *, system: str | None = None) -> Path:
    """Write ``rows`` examples in the columns of a split."""
    numbers = range(first, first + rows)
    table = pa.table(
        {
            "row_key": pa.array([f"{number:064x}" for number in numbers], pa.string()),
            "input_text_instruct": pa.array([question(n) for n in numbers], pa.string()),
            "system": pa.array([system] * rows, pa.string()),
            "output_text": pa.array([answer(n) for n in numbers], pa.string()),
        }
    )
    pq.write_table(table, path)
    return path


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


def _write_model(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=400,
                hidden_size=64,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=256,
                initializer_range=0.3,
                tie_word_embeddings=True,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=0,
            )
        )
    model.save_pretrained(folder)
