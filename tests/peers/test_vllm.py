"""An exported model in vLLM: it loads the folder and answers as transformers does from it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from llmops.adapters.catalog import model_cache
from llmops.adapters.model import weights
from llmops.adapters.model.export import LocalExporter
from llmops.adapters.model.quiet import quietly
from llmops.config.compose import group
from llmops.errors import BackendError
from llmops.ports.model import ModelReference

torch = pytest.importorskip("torch")

PYTHON = Path(__file__).parents[2] / ".venv-peers" / "vllm" / "bin" / "python"
TOKENS = 24
QUESTIONS = ("What does os.path.join do?", "How do I sort a list?", "Read a file line by line.")
ANSWERING = """
import json, sys
from vllm import LLM, SamplingParams

model = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=256)
prompts = [{"prompt_token_ids": ids} for ids in json.load(open(sys.argv[2]))]
settings = SamplingParams(temperature=0, max_tokens=int(sys.argv[4]))
answers = model.generate(prompts, settings, use_tqdm=False)
json.dump([list(answer.outputs[0].token_ids) for answer in answers], open(sys.argv[3], "w"))
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.skipif(
        not PYTHON.exists(),
        reason="vLLM is not installed in .venv-peers/vllm: see tests/peers/vllm.txt",
    ),
]


@pytest.fixture(scope="module")
def base():
    config = {**group("model"), "device": "cpu", "precision": "fp32"}
    try:
        return config, weights.find(config, model_cache())
    except BackendError as exc:
        pytest.skip(f"{exc} ({exc.hint})")


@pytest.fixture(scope="module")
def exported(base, tmp_path_factory):
    """A tuned model as `models export` writes it, with an adapter that changes what it says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config, cached = base
    root = tmp_path_factory.mktemp("vllm")
    torch.manual_seed(3)
    settings = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    with quietly():
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(cached.folder), settings)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn_like(weight) * 0.01
    tuned.save_pretrained(root / "adapter")
    reference = ModelReference("local", config["base"], base_sha256=cached.sha256)
    return (
        LocalExporter(config, model_cache())
        .export(reference, root / "adapter", root / "model")
        .folder
    )


def prompts(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    chats = [[{"role": "user", "content": text}] for text in QUESTIONS]
    texts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def answers_of_transformers(folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for ids in prompts(folder):
        given = torch.tensor([ids])
        made = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=TOKENS, do_sample=False
        )
        found.append(made[0, len(ids) :].tolist())
    return found


def test_vllm_answers_as_transformers_does(exported, base, tmp_path):
    asked, answered = tmp_path / "prompts.json", tmp_path / "answers.json"
    asked.write_text(json.dumps(prompts(exported)), "utf-8")
    done = subprocess.run(
        [PYTHON, "-c", ANSWERING, exported, asked, answered, str(TOKENS)],
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(answered.read_text("utf-8"))
    assert found == answers_of_transformers(exported)
    assert found != answers_of_transformers(base[1].folder)
