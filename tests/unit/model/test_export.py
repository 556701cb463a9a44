"""A merged model answers as the adapter on its base does, in programs other than llmops."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from llmops.adapters.model import weights  # noqa: E402
from llmops.adapters.model.export import LocalExporter, merge  # noqa: E402
from llmops.adapters.model.quiet import quietly  # noqa: E402
from llmops.errors import BackendError, ConfigError  # noqa: E402
from llmops.ports.model import ModelReference  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small Llama and an adapter on it, written by transformers and PEFT themselves."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    root = tmp_path_factory.mktemp("model")
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    base = LlamaForCausalLM(config)
    base.save_pretrained(root / "base")
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    with quietly():
        tuned = get_peft_model(base, settings)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn_like(weight) * 0.1
    tuned.save_pretrained(root / "adapter")
    ids = torch.arange(10)[None, :]
    with torch.no_grad():
        return root, ids, tuned.eval()(ids).logits


def test_transformers_loads_it_and_it_answers_as_with_the_adapter(made, tmp_path):
    from transformers import LlamaForCausalLM

    root, ids, expected = made
    (tmp_path / "config.json").write_text((root / "base" / "config.json").read_text())
    merge(root / "base" / "model.safetensors", root / "adapter", tmp_path / "model.safetensors")
    merged = LlamaForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, expected, atol=1e-4)


def test_tensors_that_the_adapter_does_not_touch_keep_their_values(made, tmp_path):
    from safetensors.torch import load_file

    root, _, _ = made
    merge(root / "base" / "model.safetensors", root / "adapter", tmp_path / "merged.safetensors")
    before = load_file(root / "base" / "model.safetensors")
    after = load_file(tmp_path / "merged.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.rsplit(".", 2)[1] for name in changed} == {"q_proj", "down_proj"}
    assert len(changed) == 4


def test_a_small_change_of_bf16_weights_is_not_rounded_away(made, tmp_path, monkeypatch):
    """The base is kept in bf16; an update of a few steps is smaller than its last digit."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    root, _, _ = made
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir(), adapter.mkdir()
    config = json.loads((root / "base" / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    half = {n: w.bfloat16() for n, w in load_file(root / "base" / "model.safetensors").items()}
    save_file(half, base / "model.safetensors", metadata={"format": "pt"})
    (adapter / "adapter_config.json").write_text(
        (root / "adapter" / "adapter_config.json").read_text()
    )
    small = {n: w * 0.01 for n, w in load_file(root / "adapter/adapter_model.safetensors").items()}
    save_file(small, adapter / "adapter_model.safetensors")
    file = weights.ModelFile("model.safetensors", 1, "ab" * 32)
    files = (file, weights.ModelFile("config.json", 1, "cd" * 32))
    cached = weights.CachedModel(base, "source", "licence", files)
    monkeypatch.setattr("llmops.adapters.model.export.find", lambda *a, **k: cached)
    LocalExporter({}, tmp_path).export(ModelReference("local", "b"), adapter, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    after = dict(loaded.named_parameters())
    name = "model.layers.0.self_attn.q_proj"
    key = f"base_model.model.{name}"
    change = 2.0 * small[f"{key}.lora_B.weight"] @ small[f"{key}.lora_A.weight"]
    found = after[f"{name}.weight"] - half[f"{name}.weight"].float()
    assert torch.allclose(found, change, atol=1e-7)
    assert change.abs().max() > 1e-6


def test_an_adapter_of_another_model_is_refused(made, tmp_path):
    root, _, _ = made
    foreign = tmp_path / "adapter"
    foreign.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (foreign / name).write_bytes((root / "adapter" / name).read_bytes())
    (foreign / "adapter_config.json").write_text(json.dumps({"r": 4}))
    with pytest.raises(BackendError, match="does not hold an adapter"):
        merge(root / "base" / "model.safetensors", foreign, tmp_path / "out.safetensors")


def test_a_folder_that_is_there_is_left_alone_and_other_base_weights_are_refused(
    made, tmp_path, monkeypatch
):
    root, _, _ = made
    file = weights.ModelFile("model.safetensors", 1, "ab" * 32)
    files = (file, weights.ModelFile("config.json", 1, "cd" * 32))
    cached = weights.CachedModel(root / "base", "source", "licence", files)
    monkeypatch.setattr("llmops.adapters.model.export.find", lambda *a, **k: cached)
    exporter = LocalExporter({}, tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("keep")
    with pytest.raises(ConfigError, match="is there already"):
        exporter.export(ModelReference("local", "b"), None, tmp_path / "there")
    with pytest.raises(BackendError, match="other base weights"):
        exporter.export(ModelReference("local", "b", base_sha256="cd"), None, tmp_path / "new")
    done = exporter.export(ModelReference("local", "b"), root / "adapter", tmp_path / "new")
    assert "model.safetensors" in done.files
    assert (tmp_path / "there" / "mine").read_text() == "keep"
    assert not list(tmp_path.glob("*.partial"))
