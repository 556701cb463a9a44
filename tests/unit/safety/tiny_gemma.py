"""A randomly initialised Gemma 2 of two layers in a cache, out of files as a repository has them.

Its output layer knows Yes and No only, so that it gives a verdict on anything.
"""

from __future__ import annotations

from pathlib import Path

from llmops.adapters.model import weights
from llmops.adapters.model.convert import convert_snapshot
from tests.unit.model.tiny_llama import WORDS, model_config

TEMPLATE = (
    "{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def install(cache: Path) -> Path:
    """Put the tiny model into ``cache`` by the way of `models pull`; return its folder."""
    return _installed(cache, says="Yes")


def install_speechless(cache: Path) -> Path:
    """The same, but for one that always says another word."""
    return _installed(cache, says="list")


def folder(cache: Path) -> Path:
    """Return where it lies."""
    return weights.find(model_config(), cache).folder


def _installed(cache: Path, says: str) -> Path:
    snapshot, converted = cache / "snapshot", cache / "making"
    tokenizer = _write_tokenizer(snapshot)
    _write_model(snapshot, tokenizer, says)
    convert_snapshot(snapshot, converted)
    return weights.install(model_config(), converted, cache, lambda *_: None).folder


def _write_tokenizer(folder: Path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join([*WORDS, "Yes", "No"])], trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
    )
    made.save_pretrained(folder)
    return made


def _write_model(folder: Path, tokenizer, says: str) -> None:
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=1024,
        sliding_window=64,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = Gemma2ForCausalLM(config)
        direction = torch.randn(config.hidden_size) / 8
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokenizer(says).input_ids[0]] = direction
        other = "No" if says == "Yes" else "file"
        model.lm_head.weight[tokenizer(other).input_ids[0]] = -direction
    model.save_pretrained(folder)
