"""What the page shows of Parquet artifacts, read once for each distinct artifact.

The small JSON drawn from an artifact is kept under the digests it was made from, so that a report
over the same artifacts opens no Parquet file. Reads in batches; long texts are cut and say so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmops.artifacts import Artifact, digest
from llmops.files import write_text
from llmops.ports.store import Store

REVISION = 2  # raise it when the JSON below changes its shape
MAX_ROWS = 5000  # answered rows that a page holds; the artifact has them all
MAX_TEXT = 4000  # characters of one text
MAX_EXAMPLES = 5  # quarantined rows shown for a rule
ATTRIBUTION = ("author", "licence", "url")


def answers(
    store: Store,
    cache: Path,
    responses: Artifact,
    test: Artifact | None,
    verdicts: Artifact | None = None,
) -> Any:
    """Return the side-by-side answers, in row-key order.

    ``{"total": rows, "contestants": [...], "rows": [{"key", "question", "reference", "source",
    "answers": {contestant: {"text", "notes", "tokens", "loss", "rouge", "judge", "reason"}}}]}``
    """
    others = {"test": test, "verdicts": verdicts}
    parts = {name: one.sha256 if one else None for name, one in others.items()}
    parts["answers"] = responses.sha256
    return _kept(cache, parts, lambda: _answers(store, responses, test, verdicts))


def curve(store: Store, cache: Path, model: Artifact) -> Any:
    """Return the training curve of a tuned model's folder, or null if the tuner kept none.

    Kept like the tables, since reading the folder means to verify all of its weights.
    """
    return _kept(cache, {"curve": model.sha256}, lambda: _curve(store.local_path(model)))


def _curve(folder: Path) -> Any:
    path = folder / "curve.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def quarantine(store: Store, cache: Path, quarantined: Artifact) -> Any:
    """Return ``{"rules": {rule: rows}, "examples": [{"rule", "column", "excerpt", ...}]}``."""
    parts = {"quarantine": quarantined.sha256}
    return _kept(cache, parts, lambda: _quarantine(store, quarantined))


def _kept(cache: Path, parts: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    path = cache / f"{digest({'revision': REVISION, 'parts': parts})}.json"
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        made = make()
        write_text(path, json.dumps(made, ensure_ascii=True))
        return made


def _answers(
    store: Store, responses: Artifact, test: Artifact | None, verdicts: Artifact | None
) -> dict[str, Any]:
    contestants: dict[str, None] = {}
    rows: dict[str, dict[str, Any]] = {}
    total: set[str] = set()
    for row in _read(store.local_path(responses), _RESPONSE_COLUMNS):
        contestants.setdefault(row["contestant"])
        key = row["row_key"]
        total.add(key)
        if key in rows or len(rows) < MAX_ROWS:
            shown = rows.setdefault(key, _empty(row))
            shown["answers"][row["contestant"]] = _answer(row)
    if verdicts is not None:
        _add_verdicts(rows, _read(store.local_path(verdicts), _VERDICT_COLUMNS))
    if test is not None:
        _add_questions(rows, _read(store.local_path(test), ("row_key", "input_text", *ATTRIBUTION)))
    ordered = [rows[key] for key in sorted(rows)]
    return {"total": len(total), "contestants": list(contestants), "rows": ordered}


_VERDICT_COLUMNS = ("contestant", "row_key", "score", "reason")
_RESPONSE_COLUMNS = (
    "row_key",
    "contestant",
    "prompt",
    "reference",
    "text",
    "finish_reason",
    "truncated",
    "blocked",
    "output_tokens",
    "nll",
    "nll_tokens",
    "error",
    "valid",
)


def _empty(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": row["row_key"],
        "question": _cut(row.get("prompt")),
        "reference": _cut(row.get("reference")),
        "source": "",
        "answers": {},
    }


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    from llmops.evaluation.metrics import rouge_l  # most reports have no answers to measure

    tokens, nll = row.get("nll_tokens"), row.get("nll")
    notes = [name for name in ("blocked", "truncated") if row.get(name)]
    if row.get("finish_reason") not in (None, "stop", "length"):
        notes.append(str(row["finish_reason"]))
    if row.get("valid") is False:
        notes.append("not of the prompt's format")
    if row.get("error"):
        notes.append(_cut(row["error"]))
    return {
        "text": _cut(row.get("text")),
        "notes": list(dict.fromkeys(notes)),
        "tokens": row.get("output_tokens"),
        "loss": round(nll / tokens, 4) if tokens and nll is not None else None,
        "rouge": round(rouge_l(row.get("text") or "", row.get("reference") or ""), 4),
    }


def _add_verdicts(
    rows: Mapping[str, dict[str, Any]], verdicts: Iterator[Mapping[str, Any]]
) -> None:
    for verdict in verdicts:
        answers = rows.get(verdict["row_key"], {}).get("answers", {})
        if verdict["contestant"] in answers:
            said = {"judge": verdict["score"], "reason": _cut(verdict["reason"])}
            answers[verdict["contestant"]].update(said)


def _add_questions(rows: Mapping[str, dict[str, Any]], test: Iterator[Mapping[str, Any]]) -> None:
    for row in test:
        shown = rows.get(row["row_key"])
        if shown is not None:
            shown["question"] = _cut(row["input_text"])
            shown["source"] = ", ".join(str(row[n]) for n in ATTRIBUTION if row.get(n))


def _quarantine(store: Store, quarantined: Artifact) -> dict[str, Any]:
    rules: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    columns = ("rule", "column", "excerpt", "position")
    for row in _read(store.local_path(quarantined), columns):
        rules[row["rule"]] += 1
        if rules[row["rule"]] <= MAX_EXAMPLES:
            examples.append({name: row.get(name) for name in columns})
    return {"rules": dict(rules.most_common()), "examples": examples}


def _read(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        known = set(file.schema_arrow.names)
        chosen = [name for name in columns if name in known]
        for batch in file.iter_batches(batch_size=1024, columns=chosen):
            yield from batch.to_pylist()


def _cut(text: str | None) -> str:
    if text is None or len(text) <= MAX_TEXT:
        return text or ""
    return f"{text[:MAX_TEXT]}\u2026 [{len(text) - MAX_TEXT:,} more characters]"
