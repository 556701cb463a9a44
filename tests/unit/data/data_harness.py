"""Runs one step outside a pipeline: real settings from plain config, real files in a folder."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from llmops.plan.kinds import Adapters, Outcome, StepKind, Work
from llmops.steps import split, transform, validate

CONFIG: Mapping[str, Any] = {
    "version": "v1",
    "dataset": {
        "columns": {"question": "input_text", "answer": "output_text"},
        "rules": {
            "min_question_characters": 3,
            "max_question_characters": 20000,
            "min_answer_characters": 3,
            "max_answer_characters": 20000,
            "max_bad_fraction": 1.0,
            "min_rows": 1,
        },
        "texts": {"html": "keep", "role_tags": "escape", "control_characters": "escape"},
        "personal": dict.fromkeys(("email", "phone", "ip", "card", "iban", "keys"), "count"),
        "tokens": {"tokenizer": None, "sample": 1000},
        "expectations": [],
        "memory_limit": "1GB",
        "near_duplicates": {"threshold": 0.85, "shingle_words": 3, "permutations": 64},
        "formats": ["text_bison", "gemini", "chat"],
        "licence": "PSF-2.0",
        "source_terms": "psf-2.0",
        "acknowledged_terms": ["psf-2.0"],
    },
    "prompt": {
        "name": "plain",
        "instruction": "Answer:",
        "template": "{{ instruction }}\n{{ question }}",
        "system": None,
        "examples": [],
    },
    "split": {
        "method": "group",
        "train": 0.8,
        "validation": 0.1,
        "test": 0.1,
        "seed": 42,
        "by": ["question", "answer", "near_duplicate", "id"],
    },
}


@dataclass(frozen=True)
class Ran:
    """What a step left: its outcome and the paths of its outputs."""

    outcome: Outcome
    outputs: Mapping[str, Path]


def config(**changes: Any) -> dict[str, Any]:
    """Return CONFIG with leaves changed: ``split__seed=3`` sets ``split.seed``."""
    changed = _copy(CONFIG)
    for path, value in changes.items():
        *groups, last = path.split("__")
        node = changed
        for group in groups:
            node = node[group]
        node[last] = value
    return changed


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def settings(kind: StepKind, values: Mapping[str, Any]) -> Any:
    read = {}
    for field in dataclasses.fields(kind.settings):
        node: Any = values
        for part in field.metadata["leaf"].split("."):
            node = node.get(part, {}) if field.metadata["optional"] else node[part]
        if not (field.metadata["optional"] and node == {}):
            read[field.name] = node
    return msgspec.convert(read, kind.settings)


def run_step(
    kind: StepKind, values: Mapping[str, Any], inputs: Mapping[str, Path], to: Path
) -> Ran:
    to.mkdir(parents=True, exist_ok=True)
    outputs = {port.name: to / port.name for port in kind.gives}
    work = Work(
        step=kind.name,
        key="0" * 64,
        run_id="test",
        settings=settings(kind, values),
        inputs=inputs,
        digests={},
        outputs=outputs,
        adapters=Adapters(*[_closed] * 6),
        progress=lambda done, total, note="": None,
        scratch=to / "scratch",
    )
    return Ran(kind.run(work), outputs)


def _closed(*_: Any) -> NoReturn:
    raise AssertionError("a data step opens no adapter")


def prepare(rows: Path, values: Mapping[str, Any], to: Path) -> Mapping[str, Ran]:
    """Run validate, transform and split."""
    good = run_step(validate.KIND, values, {"rows": rows}, to / "validate")
    examples = run_step(transform.KIND, values, {"rows": good.outputs["rows"]}, to / "transform")
    sides = run_step(split.KIND, values, {"examples": examples.outputs["examples"]}, to / "split")
    return {"validate": good, "transform": examples, "split": sides}


def as_rows(rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows as a query's result."""
    return pa.Table.from_pylist(rows)


def card_of(ran: Mapping[str, Ran]) -> dict[str, Any]:
    """Return the dataset card that ``prepare`` left."""
    card: dict[str, Any] = json.loads(ran["split"].outputs["card"].read_text())
    return card


def side_of(ran: Mapping[str, Ran], name: str) -> pa.Table:
    """Return the rows of one side."""
    return pq.read_table(ran["split"].outputs[name])


def limits_of_a_project(folder, monkeypatch, at_most):
    """Make ``folder`` a project, the current one, whose table of limits is ``at_most``."""
    monkeypatch.chdir(folder)
    (folder / "conf" / "knowledge").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "config.yaml").write_text("{}\n")
    dated = {"dated": "2026-09-25"}
    entries = [
        {"kind": "gemini", "bases": [], "quantity": name, "at_most": most, "source": "a page"}
        for name, most in at_most.items()
    ]
    table = dated | {"limits": [entry | dated for entry in entries]}
    (folder / "conf" / "knowledge" / "limits.yaml").write_text(json.dumps(table))
