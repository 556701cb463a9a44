"""The shared prefix, the fused layers and our own decoding change speed, not results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from llmops.adapters.model.base import LoraSettings, load_base, save_adapter
from llmops.adapters.model.batching import ChatEncoder, collate
from llmops.adapters.model.decoding import complete, greedy
from llmops.adapters.model.fused import answer_nll, mean_answer_loss
from llmops.adapters.model.quiet import quietly
from llmops.ports.model import Message
from tests.unit.model import tiny_llama

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA = LoraSettings(rank=4, alpha=12, dropout=0.0, modules=MODULES)
CHATS = [(Message("user", tiny_llama.question(number)),) for number in range(9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama.install(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def base(folder):
    return load_base(tiny_llama.model_config(), folder.parent.parent)


@pytest.fixture
def plain(folder):
    return LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )


@pytest.fixture
def examples(folder):
    encoder = ChatEncoder(AutoTokenizer.from_pretrained(folder))
    return [encoder.example(chat, tiny_llama.answer(n)) for n, chat in enumerate(CHATS)]


def stirred(base, name):
    """Give a new adapter weights that matter: LoRA's second factor begins at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in base.adapter_weights(name).values():
            weight.data = 0.1 * torch.randn_like(weight)


def plain_loss(model, examples):
    """Return the mean answer loss by transformers' own code, row by row."""
    losses = []
    for example in examples:
        logits = model(input_ids=torch.tensor([example.ids])).logits[0]
        first = len(example.prompt) - 1
        targets = torch.tensor(example.answer)
        rows = logits[first : first + len(targets)].float()
        losses.append(torch.nn.functional.cross_entropy(rows, targets, reduction="none"))
    return torch.cat(losses).mean()


def our_loss(base, examples):
    batch = collate(examples, pad=base.pad)
    hidden = base.hidden(batch.ids, batch.positions, batch.layout)
    return mean_answer_loss(hidden[batch.at], base.head, batch.targets)


def test_the_examples_share_a_prefix(examples):
    assert collate(examples, pad=0).layout.prefix > 5


def test_the_loss_is_that_of_transformers_row_by_row(base, plain, examples):
    with torch.inference_mode():
        ours, theirs = our_loss(base, examples), plain_loss(plain, examples)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_the_loss_and_every_gradient_are_those_of_peft(base, plain, examples, tmp_path):
    base.add_lora("tuned", LORA, seed=5)
    stirred(base, "tuned")
    save_adapter(base, "tuned", LORA, "tiny llama", tmp_path)
    with quietly():
        theirs = PeftModel.from_pretrained(plain, tmp_path, is_trainable=True)
    expected = plain_loss(theirs, examples)
    expected.backward()
    found = our_loss(base, examples)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    gradients = {
        name.replace(".default", ""): weight.grad
        for name, weight in theirs.named_parameters()
        if weight.requires_grad
    }
    for name, weight in base.adapter_weights("tuned").items():
        expected_grad = gradients[name]
        scale = float(expected_grad.abs().max())  # rounding differs from processor to processor
        torch.testing.assert_close(weight.grad, expected_grad, rtol=1e-3, atol=1e-4 * scale)


def test_a_new_adapter_changes_nothing(base, examples):
    with torch.inference_mode():
        before = float(our_loss(base, examples))
    base.add_lora("tuned", LORA, seed=5)
    with torch.inference_mode():
        assert float(our_loss(base, examples)) == pytest.approx(before, rel=1e-6)


def test_the_untuned_model_is_untouched_by_an_adapter_beside_it(base, examples):
    with base.using(None), torch.inference_mode():
        before = float(our_loss(base, examples))
    base.add_lora("tuned", LORA, seed=5)
    stirred(base, "tuned")
    with base.using(None), torch.inference_mode():
        assert float(our_loss(base, examples)) == before
    with base.using("tuned"), torch.inference_mode():
        assert float(our_loss(base, examples)) != before


def test_peft_reads_our_adapter(base, plain, tmp_path):
    base.add_lora("tuned", LORA, seed=5)
    stirred(base, "tuned")
    save_adapter(base, "tuned", LORA, "tiny llama", tmp_path)
    with quietly():
        loaded = PeftModel.from_pretrained(plain, tmp_path)
    names = {
        name.replace(".default", "") for name, _ in loaded.named_parameters() if "lora" in name
    }
    assert names == set(load_file(tmp_path / "adapter_model.safetensors"))


def test_a_fresh_adapter_begins_as_pefts_own_does(base, plain):
    base.add_lora("tuned", LORA, seed=5)
    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=list(MODULES), task_type="CAUSAL_LM")
    with quietly():
        theirs = get_peft_model(plain, config)
    expected = {name.replace(".default", ""): w for name, w in theirs.named_parameters()}
    for name, weight in base.adapter_weights("tuned").items():
        assert torch.equal(weight, expected[name])


def test_batched_answers_are_those_of_transformers_one_by_one(base, plain):
    encoder = ChatEncoder(base.tokenizer)
    prompts = [encoder.prompt(chat) for chat in CHATS]
    found = complete(base, prompts, greedy, end=encoder.end, max_new_tokens=15)
    for prompt, completion in zip(prompts, found, strict=True):
        with quietly():
            out = plain.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=15,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=encoder.end,
            )[0, len(prompt) :].tolist()
        assert list(completion.ids) == [token for token in out if token != encoder.end]


def test_scores_add_up_to_the_loss(base, examples):
    batch = collate(examples, pad=base.pad)
    with torch.inference_mode():
        hidden = base.hidden(batch.ids, batch.positions, batch.layout)[batch.at]
        mean = float(mean_answer_loss(hidden, base.head, batch.targets))
    assert float(answer_nll(hidden, base.head, batch.targets).mean()) == pytest.approx(
        mean, rel=1e-5
    )


def test_the_same_weights_are_saved_as_the_same_bytes(base, tmp_path):
    base.add_lora("tuned", LORA, seed=5)
    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save_adapter(base, "tuned", LORA, "tiny llama", tmp_path / name)
        written.append({p.name: Path(p).read_bytes() for p in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
