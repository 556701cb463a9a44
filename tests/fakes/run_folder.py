"""Run folders as a finished, a failed and a small run leave them, over a real store.

The figures are made by the product's own evaluation, safety and gate code from the rows below, so
that a changed shape shows here first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.adapters.store.folder import FolderStore
from llmops.artifacts import Artifact, ArtifactKind

CONTESTANTS = ("untuned", "untuned_with_examples", "tuned")
LOSSES = {"untuned": 3.3, "untuned_with_examples": 3.1, "tuned": 2.7}
SCORER = {
    "kind": "profanity",
    "description": "a classifier of profane words, trained on comments",
    "is_safety_evaluation": False,
    "categories": ["profanity"],
}
EXPERIMENT = "so_python"
RUN_ID = "20261123-101502-7b1e"


@dataclass(frozen=True)
class MadeRun:
    """A run folder, the store its artifacts are in, and what its ``run.json`` holds."""

    folder: Path
    store: FolderStore
    run: dict[str, Any]

    def rewrite(self, **changes: Any) -> MadeRun:
        """Write ``run.json`` again with some fields changed."""
        run = {**self.run, **changes}
        _write_json(self.folder / "run.json", run)
        return MadeRun(self.folder, self.store, run)


def make_run(
    root: Path, *, rows: int = 24, text: str = "", names: Sequence[str] = CONTESTANTS
) -> MadeRun:
    """Make a run that succeeded; ``text`` is put into every question, answer and tag."""
    made = _Maker(root)
    key = [_sha(f"row {i}") for i in range(rows)]
    questions = [f"How do I use function_{i} of the standard library? {text}" for i in range(rows)]
    references = [
        f"Return item {i} of the sequence, or raise IndexError. {text}" for i in range(rows)
    ]
    test = sorted(
        (
            {"row_key": k, "input_text": q, "output_text": r, "author": "Guido", "url": "urn:1"}
            for k, q, r in zip(key, questions, references, strict=True)
        ),
        key=lambda row: str(row["row_key"]),
    )
    responses = [_response(row, name, i, text) for name in names for i, row in enumerate(test)]
    made.step("ingest", {}, rows=made.parquet(test, rows=rows + 9))
    made.step(
        "validate",
        {"rows": "ingest.rows"},
        rows=made.parquet(test),
        quarantined=made.parquet(_quarantined(text)),
        profile=made.json(_profile(test, text)),
    )
    made.step("transform", {"rows": "validate.rows"}, examples=made.parquet(test))
    made.step(
        "split",
        {"examples": "transform.examples"},
        train=made.parquet(test, rows=193),
        validation=made.parquet(test, rows=24),
        test=made.parquet(test),
        files=made.folder({"train-v1-3f9c21ab.chat.jsonl": "{}\n"}),
        card=made.json(_card(rows)),
    )
    curve = [
        {
            "step": step,
            "tokens": step * 900,
            "train_loss": 3.4 - step * 0.015,
            "validation_loss": 3.3 - step * 0.01 if step % 10 == 0 else None,
        }
        for step in range(1, 41)
    ]
    facts = {
        "tuned": "so_python-1a2b",
        "steps": 40,
        "tokens": 36000,
        "examples_seen": 320,
        "examples_used": 193,
        "truncated": 3,
        "device": "cpu",
        "precision": "bf16",
        "last_validation_loss": 2.9,
    }
    tuned = {"tuned": "so_python-1a2b", "facts": facts, "base": "SmolLM2"}
    files = {
        "curve.json": json.dumps(curve),
        "tuned.json": json.dumps(tuned),
        "adapter_model.safetensors": "weights",
    }
    made.step(
        "tune",
        {"train": "split.train", "validation": "split.validation", "card": "split.card"},
        facts=facts,
        seconds=63.2,
        model=made.folder(files),
    )
    made.step("deploy", {"model": "tune.model"}, model=made.json({"provider": "local"}))
    made.step(
        "predict",
        {"test": "split.test", "train": "split.train", "model": "deploy.model"},
        seconds=41.7,
        responses=made.parquet(responses),
    )
    metrics, safety = _metrics(responses), _safety(responses)
    decision = _decision(metrics, safety, _card(rows), names[-1])
    made.step("evaluate", {"responses": "predict.responses"}, metrics=made.json(metrics))
    made.step("safety", {"responses": "predict.responses"}, report=made.json(safety))
    made.step(
        "gate",
        {"metrics": "evaluate.metrics", "safety": "safety.report", "card": "split.card"},
        decision=made.json(decision),
    )
    return made.finish(
        status="succeeded",
        overrides=["tuning.max_steps=40"],
        metrics=metrics,
        safety=safety,
        gate=decision,
        dataset_version="v1-3f9c21ab",
        prompt={"name": "so_python", "sha256": _sha("prompt")},
        model={
            "provider": "local",
            "base": "SmolLM2-135M-Instruct, Q4_1 dequantised",
            "base_sha256": _sha("base"),
            "tuned": "so_python-1a2b",
            "adapter": _sha("adapter"),
        },
        champion={
            "name": "so_python",
            "version": 3,
            "promoted": decision["passed"],
            "reason": "the gate passed",
        },
        source={
            "title": "docstrings of the Python standard library",
            "licence": "PSF-2.0",
            "terms": "psf-2.0",
            "terms_url": None,
            "name": "duckdb://sample",
        },
    )


def make_failed_run(root: Path) -> MadeRun:
    """Make a run whose second step failed, so that the third was not reached."""
    made = _Maker(root)
    made.step("ingest", {}, rows=made.parquet([{"row_key": "a", "input_text": "b"}]))
    made.step("validate", {"rows": "ingest.rows"}, status="failed")
    made.step("transform", {"rows": "validate.rows"}, status="not_reached", seconds=None)
    error = {
        "step": "validate",
        "problem": "1 good row, and dataset.rules.min_rows asks for 20",
        "hint": "lower dataset.rules.min_rows or widen the query",
        "exit_code": 4,
    }
    return made.finish(status="failed", error=error)


def make_hello_run(root: Path) -> MadeRun:
    """Make a run of the two-step pipeline, which has no data, model or metrics."""
    made = _Maker(root, "hello")
    made.step("say_hello", {}, greeting=made.json({"text": "Hello, Erwin!"}))
    made.step(
        "how_are_you",
        {"greeting": "say_hello.greeting"},
        question=made.json({"text": "Hello, Erwin! How are you?"}),
    )
    return made.finish(status="succeeded")


class _Maker:
    def __init__(self, root: Path, experiment: str = EXPERIMENT) -> None:
        self.experiment = experiment
        self.store = FolderStore(root / ".llmops" / "store", uri=".llmops/store")
        self.run_folder = root / "runs" / experiment / RUN_ID
        self.run_folder.mkdir(parents=True)
        self.steps: list[dict[str, Any]] = []

    def json(self, value: Any) -> Artifact:
        return self._put(json.dumps(value), "json")

    def folder(self, files: Mapping[str, str]) -> Artifact:
        folder = self.store.temporary() / "folder"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
        return self.store.put(folder, "folder")

    def parquet(self, content: Sequence[Mapping[str, Any]], *, rows: int | None = None) -> Artifact:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.store.temporary() / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(list(content)), path)
        return self.store.put(path, "parquet", rows=rows or len(content))

    def _put(self, text: str, kind: ArtifactKind) -> Artifact:
        path = self.store.temporary() / "file"
        path.write_text(text, "utf-8")
        return self.store.put(path, kind)

    def step(
        self,
        kind: str,
        takes: Mapping[str, str],
        *,
        status: str = "done",
        seconds: float | None = 0.2,
        facts: Mapping[str, Any] | None = None,
        **outputs: Artifact,
    ) -> None:
        known = {step["name"]: step["outputs"] for step in self.steps}
        inputs = {}
        for name, edge in takes.items():
            source, _, output = edge.partition(".")
            if output in known[source]:
                inputs[name] = known[source][output]["sha256"]
        self.steps.append(
            {
                "name": kind,
                "kind": kind,
                "key": _sha(f"key {kind}"),
                "status": status,
                "reason": "first run",
                "seconds": seconds,
                "inputs": inputs,
                "takes": dict(takes),
                "outputs": {name: asdict(artifact) for name, artifact in outputs.items()},
                "facts": dict(facts or {}),
                "log": None if status == "not_reached" else f"logs/{kind}.log",
            }
        )

    def finish(self, **fields: Any) -> MadeRun:
        run = {
            "schema": 1,
            "run_id": RUN_ID,
            "experiment": self.experiment,
            "version": "v1",
            "started": "2026-11-23T10:15:02Z",
            "finished": "2026-11-23T10:17:11Z",
            "seconds": 129.0,
            "config_digest": _sha("config"),
            "overrides": [],
            "git": {"commit": "4be1" * 10, "branch": "main", "dirty": True},
            "packages": {"duckdb": "2.0.0", "torch": "2.13.0"},
            "python": "3.11.7",
            "machine": {"cores": 2, "memory_bytes": 25_000_000_000, "platform": "Linux x86_64"},
            "llmops": "0.1.0",
            "source": None,
            "dataset_version": None,
            "prompt": None,
            "model": None,
            "champion": None,
            "engine": {"kind": "local", "started": True},
            "error": None,
            "steps": self.steps,
            "counts": {},
            "metrics": None,
            "safety": None,
            "gate": None,
            **fields,
        }
        _write_json(self.run_folder / "run.json", run)
        _write_json(self.run_folder / "provenance.json", _provenance(self.experiment))
        _write_json(self.run_folder / "plan.json", {"notes": ["a LIMIT without ORDER BY"]})
        return MadeRun(self.run_folder, self.store, run)


def _provenance(experiment: str) -> dict[str, Any]:
    return {
        "name": {"value": experiment, "set_by": f"conf/experiment/{experiment}.yaml:17:7"},
        "dataset.query": {
            "value": 'SELECT title AS input_text\nFROM `posts`\nWHERE tags LIKE "%python%"',
            "set_by": "conf/experiment/so_python.yaml:22:10",
            "shadowed": ["conf/dataset/stackoverflow.yaml:4:8"],
            "written": "${llmops.sql:so_python}",
        },
        "tuning.max_steps": {
            "value": 40,
            "set_by": "command line: tuning.max_steps=40",
            "shadowed": ["conf/experiment/so_python.yaml:26:14", "conf/tuning/short.yaml:3:12"],
        },
        "tuning.epochs": {"value": None, "set_by": "conf/tuning/short.yaml:4:9"},
    }


def _response(row: Mapping[str, Any], name: str, place: int, text: str) -> dict[str, Any]:
    wobble = int(str(row["row_key"])[:4], 16) / 65535
    tokens = 20 + place % 7
    words = str(row["output_text"]).split()
    kept = words[: 5 if name == "tuned" else 3]
    return {
        "row_key": row["row_key"],
        "contestant": name,
        "group": row["row_key"],
        "prompt": f"Please answer the question.\n\n{row['input_text']}",
        "reference": row["output_text"],
        "text": f"{' '.join(kept)} as {name} says. {text}",
        "finish_reason": "length" if place % 5 == 0 else "stop",
        "truncated": place % 5 == 0,
        "blocked": False,
        "safety": [{"category": "profanity", "score": round(wobble * 0.4, 4)}],
        "citations": [],
        "prompt_tokens": 60,
        "output_tokens": 48,
        "nll": tokens * (LOSSES.get(name, 3.0) + 0.4 * wobble),
        "nll_tokens": tokens,
        "error": None,
    }


def _quarantined(text: str) -> list[dict[str, Any]]:
    rules = ["null_question", "short_answer", "short_answer", "duplicate_bytes"]
    return [
        {
            "row_key": None,
            "rule": rule,
            "column": "output_text",
            "excerpt": f"ok {text}",
            "position": i,
        }
        for i, rule in enumerate(rules)
    ]


def _profile(rows: Sequence[Mapping[str, Any]], text: str) -> dict[str, Any]:
    import pyarrow as pa

    from llmops.data.profile import Counts, Profile
    from llmops.data.settings import Tokens
    from llmops.data.tokens import Counter
    from llmops.data.treatment import Tally

    profile = Profile(Counter(Tokens()), None, Tally())
    tagged = [{**row, "tags": f"python|re{text.split()[0] if text else ''}"} for row in rows]
    profile.add_table(pa.Table.from_pylist(tagged))
    counts = Counts(given=len(rows) + 9, good=len(rows), quarantined=4, duplicates=5)
    return profile.to_json(counts, {"null_question": 1, "short_answer": 2, "duplicate_bytes": 1})


def _card(rows: int) -> dict[str, Any]:
    return {
        "dataset_version": "v1-3f9c21ab",
        "version": "v1",
        "digest": _sha("dataset"),
        "prompt": {"name": "so_python", "sha256": _sha("prompt")},
        "rows": {"train": 193, "validation": 24, "test": rows},
        "method": "group",
        "by": ["question", "answer", "near_duplicate"],
        "groups": 210,
        "leakage": {
            "exact": {"rows": 0, "share": 0.0},
            "near": {"rows": 0, "share": 0.0, "threshold": 0.85},
        },
    }


def _metrics(responses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from llmops.evaluation.metrics import find
    from llmops.evaluation.summary import Settings, summarise
    from llmops.evaluation.table import contestants

    names = ("loss", "perplexity", "chrf", "exact_match", "truncated", "blocked")
    chosen = [find(name) for name in names]
    columns = {name: [row[name] for row in responses] for name in responses[0]}
    table = contestants([columns], chosen)
    document = summarise(table, chosen, Settings(table[0].name, 0.95, 200, 42))
    return {**document, "test_rows_available": 80}


def _safety(responses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from llmops.safety.judging import Rated, judge
    from llmops.safety.policy import Limits
    from tests.fakes.safety_policies import answer, policy

    rated = [
        Rated(
            row["row_key"],
            row["contestant"],
            row["group"],
            row["prompt"],
            answer(row["text"], blocked=row["blocked"]),
            {one["category"]: one["score"] for one in row["safety"]},
        )
        for row in responses
    ]
    strict = policy(thresholds={"profanity": 0.3})
    return judge(rated, strict, Limits(0.5, 0.2, 0.95), SCORER)


def _decision(
    metrics: Mapping[str, Any], safety: Mapping[str, Any], card: Mapping[str, Any], name: str
) -> dict[str, Any]:
    from llmops.evaluation.decision import Evidence, Policy, Rule, decide

    rule = Rule("loss", better_than=str(metrics["baseline"]))
    policy = Policy(contestant=name, max_leakage=0.0, safety=True, rules=(rule,))
    return asdict(decide(Evidence(metrics, safety, card), policy))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")
