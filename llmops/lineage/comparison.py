"""What differs between runs: config, figures, and the answers that changed most.

Reads run folders and the answers they name; decides nothing. Figures are compared row by row where
two runs answered the same rows, and side by side where they did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmops.artifacts import reference
from llmops.errors import LlmopsError
from llmops.evaluation.intervals import Interval
from llmops.evaluation.metrics import METRICS, Metric, columns_read
from llmops.evaluation.summary import Settings, difference
from llmops.evaluation.table import contestants
from llmops.lineage.run_folder import RunFolder
from llmops.ports.store import Store

MOST_ANSWERS = 10
MOST_TEXT = 2000  # characters of one answer
NOT_SET = "(not set)"


@dataclass(frozen=True)
class Leaf:
    """A leaf of the config that differs: its value, and who set it, in each run."""

    path: str
    values: tuple[Any, ...]
    set_by: tuple[str | None, ...]


@dataclass(frozen=True)
class FigureRow:
    """One metric of one contestant in each run, and how each differs from the first run's."""

    contestant: str
    metric: str
    unit: str
    better: str | None
    figures: tuple[Mapping[str, Any] | None, ...]
    differences: tuple[Interval | None, ...]  # null for the first run


@dataclass(frozen=True)
class AnswerRow:
    """One question, and what one contestant answered in each run; ``changed`` is in [0, 1]."""

    row_key: str
    contestant: str
    prompt: str
    reference: str
    answers: tuple[str | None, ...]
    changed: float


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other; the first is what the others are compared with."""

    runs: tuple[Mapping[str, Any], ...]
    leaves: tuple[Leaf, ...]
    figures: tuple[FigureRow, ...]
    answers: tuple[AnswerRow, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def compare(folders: Sequence[RunFolder], store: Store, *, most: int = MOST_ANSWERS) -> Comparison:
    """Compare runs with the first of them.

    Raises:
        ConfigError: If a run's record or config cannot be read.
    """
    records = [folder.record() for folder in folders]
    notes: list[str] = []
    answers = [_answers(record, store, notes) for record in records]
    return Comparison(
        runs=tuple(_run(record) for record in records),
        leaves=tuple(_leaves(folders)),
        figures=tuple(_figures(records, answers)),
        answers=tuple(_changed(answers, most)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _run(record: Mapping[str, Any]) -> dict[str, Any]:
    names = ("run_id", "experiment", "status", "started", "seconds", "dataset_version")
    found = {name: record.get(name) for name in names}
    git = record.get("git") or {}
    side = record.get("scored_on", "test")
    return {**found, "commit": git.get("commit"), "dirty": git.get("dirty"), "scored_on": side}


def _leaves(folders: Sequence[RunFolder]) -> Iterator[Leaf]:
    configs = [dict(_flat(folder.config())) for folder in folders]
    origins = [folder.origins() for folder in folders]
    for path in sorted({path for config in configs for path in config}):
        values = tuple(config.get(path, NOT_SET) for config in configs)
        if any(value != values[0] for value in values[1:]):
            set_by = tuple((origin.get(path) or {}).get("set_by") for origin in origins)
            yield Leaf(path, values, set_by)


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        path = f"{above}{key}"
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{path}.")
        else:
            yield path, item


def _answers(record: Mapping[str, Any], store: Store, notes: list[str]) -> Any:
    """Return the table of a run's responses, or None with a note."""
    import pyarrow.parquet as pq

    for step in record["steps"]:
        if "responses" in (step.get("outputs") or {}):
            try:
                found = reference(step["outputs"]["responses"])
                return pq.read_table(store.local_path(found))
            except (LlmopsError, OSError, ValueError) as exc:
                notes.append(f"the answers of {record['run_id']} cannot be read: {exc}")
    return None


def _figures(records: Sequence[Mapping[str, Any]], answers: Sequence[Any]) -> Iterator[FigureRow]:
    measured = [((record["metrics"] or {}).get("contestants") or {}) for record in records]
    pairs = dict.fromkeys(
        (who, metric) for one in measured for who, figures in one.items() for metric in figures
    )
    for who, metric in pairs:
        figures = tuple((one.get(who) or {}).get(metric) for one in measured)
        known = next(figure for figure in figures if figure)
        definition = METRICS.get(metric)
        differences: list[Interval | None] = [None]
        for place in range(1, len(records)):
            both = answers[0] is not None and answers[place] is not None
            whole = bool(figures[0] and figures[place])
            found = None
            if definition and both and whole:
                confidence = (records[0]["metrics"] or {}).get("confidence", 0.95)
                found = _paired(answers[place], answers[0], who, definition, confidence)
            differences.append(found)
        yield FigureRow(
            who,
            metric,
            known.get("unit", ""),
            known.get("better"),
            figures,
            tuple(differences),
        )


def _paired(one: Any, first: Any, who: str, metric: Metric, confidence: float) -> Interval | None:
    columns = ["contestant", "row_key", "group", *columns_read([metric])]
    if not set(columns) <= set(one.column_names) & set(first.column_names):
        return None
    tables = []
    for table in (one, first):
        own = table.select(columns).to_pydict()
        chosen = [place for place, name in enumerate(own["contestant"]) if name == who]
        batch = {name: [values[place] for place in chosen] for name, values in own.items()}
        tables.append(contestants([batch], [metric])[0])
    if list(tables[0].keys) != list(tables[1].keys):
        return Interval(None, None, None, 0, "none", why="they answered other rows")
    settings = Settings(who, confidence, bootstrap_samples=1000, seed=0)
    return difference(tables[0], tables[1], metric, settings)


def _changed(answers: Sequence[Any], most: int) -> list[AnswerRow]:
    """Return the rows whose answers differ most from the first run's, the most changed first."""
    if any(table is None for table in answers):
        return []
    from rapidfuzz.distance import Indel

    texts = [_texts(table) for table in answers]
    rows = []
    for key in texts[0]:
        said = tuple(one.get(key, {}).get("text") for one in texts)
        known = [text for text in said[1:] if text is not None]
        if not known:
            continue
        first = said[0] or ""
        change = max(Indel.normalized_distance(first, text) for text in known)
        if change > 0:
            row = texts[0][key]
            cut = tuple(None if text is None else text[:MOST_TEXT] for text in said)
            asked, wanted = row["prompt"][:MOST_TEXT], row["reference"][:MOST_TEXT]
            rows.append(AnswerRow(key[1], key[0], asked, wanted, cut, round(change, 4)))
    rows.sort(key=lambda row: (-row.changed, row.contestant, row.row_key))
    return rows[:most]


def _texts(table: Any) -> dict[tuple[str, str], dict[str, str]]:
    names = ("contestant", "row_key", "prompt", "reference", "text")
    known = [name for name in names if name in table.column_names]
    return {
        (row["contestant"], row["row_key"]): {
            name: row.get(name) or "" for name in ("prompt", "reference", "text")
        }
        for row in table.select(known).to_pylist()
    }
