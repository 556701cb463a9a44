"""Whether a registered model may take an alias: what its runs and the holder's runs show.

A model may, if a gate passed it on a test set, and whoever holds the alias answered the same test
rows, in a run of its own or as ``champion`` in the candidate's, and is not shown to be better on
them. Knows run records and responses; moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from llmops.artifacts import digest, reference
from llmops.errors import Refused
from llmops.evaluation.decision import CHAMPION
from llmops.evaluation.intervals import Interval
from llmops.evaluation.metrics import METRICS, Metric
from llmops.ports.model import ModelReference
from llmops.ports.registry import ModelVersion
from llmops.ports.store import Store

FORCE = "or promote it all the same: --force --reason WHY, which is kept forever"


@dataclass(frozen=True)
class Evidence:
    """A run whose gate judged a model; ``rows`` names the test set and how much of it."""

    run_id: str
    passed: bool
    contestant: str
    rows: tuple[str, Any]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Why a model may take the alias, in a sentence for the history."""

    reason: str
    run_id: str


def evidence(version: ModelVersion, records: Iterable[Mapping[str, Any]]) -> list[Evidence]:
    """Return the runs that judged this version on test rows, in the order of ``records``."""
    found = []
    for record in records:
        gate, rows = record.get("gate"), _test_rows(record)
        if gate and rows and record.get("scored_on", "test") == "test" and _is_of(version, record):
            contestant = str(gate["contestant"])
            passed = bool(gate["passed"])
            found.append(Evidence(str(record["run_id"]), passed, contestant, rows, record))
    return found


def judge(
    candidate: ModelVersion,
    holder: ModelVersion | None,
    records: Sequence[Mapping[str, Any]],
    store: Store,
) -> Verdict:
    """Say why ``candidate`` may take the alias that ``holder`` has.

    Args:
        candidate: The version that is to have it.
        holder: The version that has it; None if the alias is new.
        records: Run records, the newest first.
        store: Where the runs' answers lie.

    Raises:
        Refused: If no gate passed it, if the two were not scored on the same test rows, or if the
            holder is shown to be better on them.
    """
    own = evidence(candidate, records)
    name = f"{candidate.name}:{candidate.version}"
    if not own:
        raise Refused(
            f"no gate has judged {name} on test rows",
            hint=f"run its experiment again, {FORCE}",
        )
    if not own[0].passed:
        raise Refused(
            f"the gate of run {own[0].run_id} refused {name}",
            hint=f"python -m llmops runs show {own[0].run_id}; {FORCE}",
        )
    if holder is None or holder.version == candidate.version:
        return Verdict(f"gate passed in run {own[0].run_id}", own[0].run_id)
    return _against(name, [one for one in own if one.passed], holder, records, store)


def _against(
    name: str,
    own: Sequence[Evidence],
    holder: ModelVersion,
    records: Sequence[Mapping[str, Any]],
    store: Store,
) -> Verdict:
    theirs = {one.rows: one for one in reversed(evidence(holder, records))}
    both = ((one, _beside(one, holder) or theirs.get(one.rows)) for one in own)
    pair = next(((one, other) for one, other in both if other), None)
    if pair is None:
        raise Refused(
            f"{holder.name}:{holder.version} holds the alias and was not scored on the test rows "
            f"of {name}",
            hint="let it answer them beside the candidate: run the experiment with champion added "
            f"to predict.contestants; tuning is in the store, {FORCE}",
        )
    one, other = pair
    metric = _metric(one.record)
    found = _difference(one, other, metric, store)
    against = f"version {holder.version} on the same {found.n} test rows"
    if found.low is None or found.high is None or found.value is None:
        raise Refused(
            f"{metric.name} of {name} cannot be compared with {against}: {found.why}", hint=FORCE
        )
    worse = found.low > 0 if metric.better == "lower" else found.high < 0
    said = f"{metric.name} {found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"
    if worse:
        raise Refused(f"{name} is worse than {against}: {said}", hint=FORCE)
    return Verdict(f"gate passed in run {one.run_id}; {said} against {against}", one.run_id)


def _beside(one: Evidence, holder: ModelVersion) -> Evidence | None:
    """Return the holder's answers in the candidate's own run, if it was asked as champion there."""
    source = (_predict(one.record) or {}).get("source") or {}
    asked = (source.get("registered") or {}).get(CHAMPION)
    if asked is None or digest(asdict(ModelReference(**asked))) != holder.digest:
        return None
    return replace(one, contestant=CHAMPION)


def _is_of(version: ModelVersion, record: Mapping[str, Any]) -> bool:
    for step in record["steps"]:
        if (step.get("facts") or {}).get("digest") == version.digest:
            return True
    model = record.get("model")
    return model is not None and digest(asdict(ModelReference(**model))) == version.digest


def _predict(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = (step for step in record["steps"] if "responses" in (step.get("outputs") or {}))
    return next(found, None)


def _test_rows(record: Mapping[str, Any]) -> tuple[str, Any] | None:
    step = _predict(record)
    if step is None or "test" not in (step.get("inputs") or {}):
        return None
    return step["inputs"]["test"], (step.get("settings") or {}).get("evaluation.max_rows")


def _metric(record: Mapping[str, Any]) -> Metric:
    """Return what the gate judged first, or the first metric that has a direction."""
    ruled = [str(reason["rule"]).partition(" ")[0] for reason in record["gate"]["reasons"]]
    measured = list((record["metrics"] or {}).get("contestants", {}).get("tuned") or METRICS)
    for name in [*ruled, *measured]:
        if name in METRICS and METRICS[name].better is not None:
            return METRICS[name]
    return METRICS["loss"]


def _difference(one: Evidence, other: Evidence, metric: Metric, store: Store) -> Interval:
    from llmops.evaluation.summary import Settings, difference

    documents = one.record["metrics"] or {}
    settings = Settings(
        baseline=other.contestant,
        confidence=documents.get("confidence", 0.95),
        bootstrap_samples=2000,
        seed=0,
    )
    mine, theirs = (_answers(each, metric, store) for each in (one, other))
    if list(mine.keys) != list(theirs.keys):
        return Interval(None, None, None, 0, "none", why="they answered other rows")
    return difference(mine, theirs, metric, settings)


def _answers(one: Evidence, metric: Metric, store: Store) -> Any:
    import pyarrow.parquet as pq

    from llmops.evaluation.metrics import columns_read
    from llmops.evaluation.table import contestants

    step = _predict(one.record)
    assert step is not None  # evidence has one
    answers = pq.read_table(
        store.local_path(reference(step["outputs"]["responses"])),
        columns=["contestant", "row_key", "group", *columns_read([metric])],
        filters=[("contestant", "==", one.contestant)],
    )
    return contestants([answers.to_pydict()], [metric])[0]
