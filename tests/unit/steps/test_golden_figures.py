"""The three documents of judgement on a small fixed set of responses, compared as data.

After a change that is meant: LLMOPS_WRITE_GOLDEN=1 pytest tests/unit/steps/test_golden_figures.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from judging import Bench, write_responses

from llmops.steps import evaluate, gate, safety

GOLDEN = Path(__file__).parents[2] / "golden" / "evaluation"
METRICS = "[loss,perplexity,rouge_l,chrf,bleu,exact_match,length,truncated,blocked]"
SENTENCE = "open the file with a context manager and read its lines one by one"
WORDS = SENTENCE.split()


def response(number, contestant):
    better = contestant == "tuned"
    said = WORDS[: 4 + (number + 5 * better) % 9]
    unscored = number == 7 and not better
    return {
        "row_key": f"{number:04}",
        "contestant": contestant,
        "group": f"{number // 2:04}" if number < 8 else f"{number:04}",
        "reference": " ".join(WORDS[: 6 + number % 7]),
        "text": " ".join(said),
        "truncated": number % 5 == 0,
        "blocked": number == 3 and not better,
        "safety": None
        if unscored
        else [{"category": "profanity", "score": (0.9 if number == 11 else 0.05) - 0.04 * better}],
        "output_tokens": len(said) + number % 3,
        "nll": 2.5 * len(WORDS[: 6 + number % 7]) - (4 + number % 4) * better,
        "nll_tokens": 7 + number % 7,
    }


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    rows = [response(number, name) for name in ("untuned", "tuned") for number in range(24)]
    path = write_responses(folder / "responses.parquet", rows)
    card = folder / "card.json"
    leakage = {"exact": {"rows": 0, "share": 0.0}, "near": {"rows": 1, "share": 1 / 24}}
    card.write_text(json.dumps({"leakage": leakage}))
    bench = Bench(folder)
    bench.run(evaluate.KIND, {"responses": path}, f"evaluation.metrics={METRICS}")
    bench.run(safety.KIND, {"responses": path})
    inputs = {"metrics": bench.output("metrics"), "safety": bench.output("report"), "card": card}
    bench.run(gate.KIND, inputs)
    names = ("metrics", "report", "decision")
    return {name: json.loads(bench.output(name).read_text()) for name in names}


def leaves(value, path=""):
    if isinstance(value, dict):
        return {
            k: v for name in sorted(value) for k, v in leaves(value[name], f"{path}.{name}").items()
        }
    if isinstance(value, list):
        return {k: v for i, one in enumerate(value) for k, v in leaves(one, f"{path}[{i}]").items()}
    return {path: value}


@pytest.mark.parametrize("name", ["metrics", "report", "decision"])
def test_a_document_is_what_it_was(documents, name):
    path = GOLDEN / f"{name}.json"
    if os.environ.get("LLMOPS_WRITE_GOLDEN"):
        path.write_text(json.dumps(documents[name], indent=1, sort_keys=True) + "\n")
    found, golden = leaves(documents[name]), leaves(json.loads(path.read_text()))
    assert list(found) == list(golden)
    for place, value in golden.items():
        same = pytest.approx(value, rel=1e-9) if isinstance(value, int | float) else value
        assert found[place] == same, place
