"""Tuning speed: our loop against TRL's SFTTrainer and the machine's matrix-multiply limit.

    python benchmarks/tuning.py [--runs 5] [--steps 6] [--only ours|trl]

Both tune the same LoRA on the same rows of the standard library's docstrings, in bf16 where the
processor is fast at it, each run in a fresh process, the two in turn. TRL has its best settings:
bf16 weights and autocast (faster than bf16 weights alone), batches by length, the loss on answer
tokens only, no checkpointing of activations, no saving, no reporting; padding-free batches need
flash attention, which a CPU has not. Tokens are those of the examples, padding not counted, however
they are computed. Loading and encoding are not timed; the first step, which warms up, is left out
on both sides.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from llmops.adapters.catalog import model_cache

OUT = Path(__file__).parent / "out"
MODULES = [
    "argparse",
    "ast",
    "asyncio",
    "bisect",
    "collections",
    "csv",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "glob",
    "heapq",
    "itertools",
    "json",
    "logging",
    "math",
    "os",
    "pathlib",
    "random",
    "re",
    "shutil",
    "socket",
    "sqlite3",
    "statistics",
    "string",
    "subprocess",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "typing",
    "unittest",
    "urllib.request",
    "uuid",
    "zipfile",
]
INSTRUCTION = (
    "Please answer the following Stackoverflow question on Python. Answer it like you are a "
    "developer answering Stackoverflow questions.\n\nStackoverflow question:\n"
)
BATCH_ROWS, MAX_TOKENS, SEED = 8, 192, 42


def rows(count):
    """Return ``count`` questions and answers about functions of the standard library."""
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute in sorted(dir(module)):
            text = inspect.getdoc(getattr(module, attribute)) if attribute[0] != "_" else None
            if text and len(text) > 40 and inspect.isroutine(getattr(module, attribute)):
                found.append((f"How do I use {name}.{attribute} in Python?", text[:600]))
    return found[:: max(1, len(found) // count)][:count]


def model():
    from llmops.config.compose import group

    return group("model")


def encoded(tokenizer, steps):
    from llmops.adapters.model.batching import ChatEncoder
    from llmops.ports.model import Message

    encoder = ChatEncoder(tokenizer)
    return [
        encoder.example((Message("user", INSTRUCTION + question),), answer, max_tokens=MAX_TOKENS)
        for question, answer in rows((steps + 1) * BATCH_ROWS)
    ]


def order(examples, steps):
    """Return the batches of both sides: rows of like length together, batches in seeded order."""
    from itertools import islice

    from llmops.adapters.model.batching import steps_of_epochs

    lengths = [len(example) for example in examples]
    return list(islice(steps_of_epochs(lengths, BATCH_ROWS, seed=SEED), steps + 1))


def ours(steps):
    from llmops.adapters.model.base import load_base
    from llmops.adapters.model.examples import ExampleSet
    from llmops.adapters.model.local_tuner import Data, TuningRun, open_tuner

    base = load_base(model(), model_cache())
    examples = tuple(encoded(base.tokenizer, steps))
    data = Data(ExampleSet(examples, len(examples), 0, 0), (), steps + 1)
    run = TuningRun(base, data, open_tuner(model(), model_cache()).settings, seed=SEED)
    run.advance()
    tokens, started = run.tokens, time.perf_counter()
    for _ in range(steps):
        run.advance()
    seconds = time.perf_counter() - started
    return {"tokens": run.tokens - tokens, "seconds": seconds, "loss": run.curve[-1].train_loss}


def trl(steps, folder):
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, LlamaForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from llmops.adapters.model.device import choose_device
    from llmops.adapters.model.weights import find

    where = find(model(), model_cache()).folder
    tokenizer = AutoTokenizer.from_pretrained(where)
    examples = encoded(tokenizer, steps)
    lora = model()["tuner"]["lora"]
    device = choose_device(model())
    in_order = [examples[i] for batch in order(examples, steps) for i in batch]
    table = [
        {
            "input_ids": list(example.ids),
            "completion_mask": [0] * len(example.prompt) + [1] * len(example.answer),
        }
        for example in in_order
    ]

    class Clock(TrainerCallback):
        started = 0.0

        def on_step_end(self, args, state, control, **_):
            if state.global_step == 1:
                self.started = time.perf_counter()

    clock = Clock()
    trainer = SFTTrainer(
        model=LlamaForCausalLM.from_pretrained(where, dtype=device.dtype),
        args=SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH_ROWS,
            max_steps=steps + 1,
            max_length=MAX_TOKENS,
            completion_only_loss=True,
            learning_rate=model()["tuner"]["learning_rate"],
            train_sampling_strategy="sequential",  # the rows are in order of length already
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=device.name == "cpu",
            bf16=device.precision == "bf16",
            gradient_checkpointing=False,
            disable_tqdm=True,
            seed=SEED,
        ),
        train_dataset=Dataset.from_list(table),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=lora["rank"],
            lora_alpha=lora["alpha"],
            target_modules=list(lora["modules"]),
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    trainer.train()
    seconds = time.perf_counter() - clock.started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = sum(len(example) for example in in_order[BATCH_ROWS:])
    return {"tokens": tokens, "seconds": seconds, "loss": losses[-1]}


def limit(steps):
    """Measure the matrix product, and say what tokens/s it would allow if nothing else took time.

    Multiply-adds count as two. Per token: the base's layers forwards (2 P) and the gradient of
    their inputs (2 P; their weights are frozen), LoRA's factors forwards, their inputs' gradient
    and their own (6 A). Per answer token: the output layer forwards and backwards (4 V H).
    Attention is left out. There is no credit for computing a shared prefix once: a loop that does
    so may come above what this formula allows one that does not.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from llmops.adapters.model.device import choose_device
    from llmops.adapters.model.weights import find

    dtype = choose_device(model()).dtype
    size, repeats = 2048, 10
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    flops = 2 * size**3 / best

    where = find(model(), model_cache()).folder
    c = AutoConfig.from_pretrained(where)
    head = c.hidden_size // c.num_attention_heads
    shapes = {
        "q_proj": (c.hidden_size, c.hidden_size),
        "k_proj": (c.hidden_size, c.num_key_value_heads * head),
        "v_proj": (c.hidden_size, c.num_key_value_heads * head),
        "o_proj": (c.hidden_size, c.hidden_size),
        "gate_proj": (c.hidden_size, c.intermediate_size),
        "up_proj": (c.hidden_size, c.intermediate_size),
        "down_proj": (c.intermediate_size, c.hidden_size),
    }
    lora = model()["tuner"]["lora"]
    base = c.num_hidden_layers * sum(a * b for a, b in shapes.values())
    added = c.num_hidden_layers * sum(lora["rank"] * sum(shapes[name]) for name in lora["modules"])
    examples = encoded(AutoTokenizer.from_pretrained(where), steps)
    timed = [examples[i] for batch in order(examples, steps)[1:] for i in batch]
    tokens = sum(len(one) for one in timed)
    answers = sum(len(one.answer) for one in timed)
    work = tokens * (4 * base + 6 * added) + answers * 4 * c.vocab_size * c.hidden_size
    return {
        "tokens": tokens,
        "seconds": work / flops,
        "gflops": flops / 1e9,
        "flop_per_token": work / tokens,
    }


def fresh(what, steps):
    command = [sys.executable, "-W", "ignore", __file__, "--measure", what, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(what, steps):
    import tempfile

    from llmops.adapters.model.quiet import quietly

    with quietly(), tempfile.TemporaryDirectory() as folder:
        found = {"ours": ours, "limit": limit}[what](steps) if what != "trl" else trl(steps, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({**found, "rate": found["tokens"] / found["seconds"], "peak_mb": peak}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--measure", choices=("ours", "trl", "limit"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.steps)
        return
    results = {"ours": [], "trl": [], "limit": []}
    for _ in range(arguments.runs):
        for what, found in results.items():
            found.append(fresh(what, arguments.steps))
            print(f"{what:<6} {found[-1]['rate']:8.0f} tokens/s", file=sys.stderr)
    report(results)


def report(results):
    rates = {what: statistics.median(run["rate"] for run in runs) for what, runs in results.items()}
    ratio = statistics.median(
        mine["rate"] / other["rate"]
        for mine, other in zip(results["ours"], results["trl"], strict=True)
    )
    share = statistics.median(
        mine["rate"] / other["rate"]
        for mine, other in zip(results["ours"], results["limit"], strict=True)
    )
    print(f"{'':<8}{'tokens/s':>10}{'lowest':>10}{'highest':>10}{'peak MB':>10}{'last loss':>11}")
    for what, runs in results.items():
        each = [run["rate"] for run in runs]
        peak = f"{max(run['peak_mb'] for run in runs):10.0f}" if what != "limit" else " " * 10
        loss = f"{runs[-1]['loss']:11.3f}" if what != "limit" else ""
        print(f"{what:<8}{rates[what]:10.0f}{min(each):10.0f}{max(each):10.0f}{peak}{loss}")
    print(f"ours is {ratio:.2f} times TRL and {share:.0%} of the limit (medians of the pairs)")
    OUT.mkdir(exist_ok=True)
    machine = {"processor": platform.processor(), "cores": len(os.sched_getaffinity(0))}
    summary = {"machine": machine, "rates": rates, "ratio": ratio, "share_of_limit": share}
    (OUT / "tuning.json").write_text(json.dumps({**summary, "runs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
