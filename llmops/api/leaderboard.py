"""The leaderboard of a sweep: members by the figure it decides by, and what is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmops.artifacts import reference
from llmops.config.knowledge import lacks
from llmops.errors import ConfigError, LlmopsError
from llmops.evaluation.metrics import METRICS, Metric
from llmops.evaluation.ranking import Measured, Ranking, rank, sentence
from llmops.lineage.run_folder import find_run
from llmops.lineage.sweep import ENDED, Member

if TYPE_CHECKING:
    from pathlib import Path

    from llmops.ports.store import Store

SEEDS = ("seed", "tuning.seed")  # members that differ in these alone are one setting


@dataclass(frozen=True)
class Decides:
    """What a sweep decides by: one metric of one contestant."""

    metric: str
    contestant: str
    confidence: float

    @property
    def definition(self) -> Metric:
        """The metric's unit, direction and formula."""
        return METRICS[self.metric]


@dataclass(frozen=True)
class Row:
    """One member on the board; ``varies`` are the overrides that not all members share."""

    place: int | None
    member: Member
    setting: str
    varies: Mapping[str, str]
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Board:
    """Members from best to worst, those without a figure last, and what the figures show."""

    decides: Decides
    rows: tuple[Row, ...]
    ranking: Ranking | None
    sentence: str
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> Row | None:
        """The best member of the best setting."""
        if self.ranking is None:
            return next((row for row in self.rows if row.place == 1), None)
        best = self.ranking.best.setting
        return next((row for row in self.rows if row.setting == best and row.place), None)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "metric": self.decides.metric,
            "contestant": self.decides.contestant,
            "better": self.decides.definition.better,
            "unit": self.decides.definition.unit,
            "confidence": self.decides.confidence,
            "sentence": self.sentence,
            "notes": list(self.notes),
            "rows": [
                {
                    "place": row.place,
                    "member": row.member.id,
                    "setting": row.setting,
                    "varies": dict(row.varies),
                    "value": row.value,
                    "low": row.low,
                    "high": row.high,
                }
                for row in self.rows
            ],
            "settings": [asdict(one) for one in self.ranking.standings] if self.ranking else [],
            "seed_deviation": self.ranking.seed_deviation if self.ranking else None,
        }


def decides(
    config: Mapping[str, Any], metric: str | None, contestant: str | None
) -> Decides | None:
    """Return what a sweep of this config decides by; None where nothing is evaluated.

    By default the gate's first rule names the metric, and the gate the contestant.

    Raises:
        ConfigError: If the metric is none of ``evaluation.metrics``, or has no direction.
    """
    evaluation, gate = config.get("evaluation"), config.get("gate") or {}
    if not evaluation or not config.get("predict"):
        if metric:
            raise ConfigError(f"--metric {metric}: this experiment evaluates nothing")
        return None
    kind = (config.get("model") or {}).get("kind")
    measured = [one for one in evaluation["metrics"] if not lacks(one, kind)]
    rules = gate.get("rules") or ()
    ruled = [one for rule in rules for one in (rule["metric"], rule.get("instead"))]
    directed = [one for one in [*ruled, *measured] if one in measured and _direction(one)]
    chosen = metric or (directed[0] if directed else None)
    if metric and metric not in measured:
        raise ConfigError(
            f"--metric {metric} is not measured",
            hint=f"measured are {', '.join(measured)}",
        )
    if chosen is None or not _direction(chosen):
        raise ConfigError(
            "nothing says which member is better: no metric with a direction is measured",
            hint="name one: --metric loss, and put it into evaluation.metrics",
        )
    who = contestant or gate.get("contestant") or config["predict"]["contestants"][-1]
    if who not in config["predict"]["contestants"]:
        raise ConfigError(
            f"contestant '{who}' answers nothing",
            hint=f"predict.contestants has {', '.join(config['predict']['contestants'])}",
        )
    return Decides(chosen, who, evaluation["confidence"])


def _direction(metric: str) -> str | None:
    return METRICS[metric].better if metric in METRICS else None


def figure_of(record: Mapping[str, Any] | None, by: Decides | None) -> Mapping[str, Any]:
    """Return the figure that a run record has of it; empty if it has none."""
    if record is None or by is None:
        return {}
    found = ((record.get("metrics") or {}).get("contestants") or {}).get(by.contestant) or {}
    figure: Mapping[str, Any] = found.get(by.metric) or {}
    return figure


def leaderboard(members: Sequence[Member], by: Decides, workspace: Path, store: Store) -> Board:
    """Order the members by their figure and say which differences are more than noise."""
    varying = _varying([member.overrides for member in members])
    measured, rows, notes = [], [], []
    for member, varies in zip(members, varying, strict=True):
        setting = " ".join(f"{key}={value}" for key, value in varies.items() if key not in SEEDS)
        record = _record(member, workspace)
        figure = figure_of(record, by)
        row = Row(
            None,
            member,
            setting,
            varies,
            figure.get("value"),
            figure.get("low"),
            figure.get("high"),
        )
        rows.append(row)
        if row.value is None or record is None:
            continue
        try:
            measured.append(_measured(member.id, setting, record, by, store))
        except (LlmopsError, OSError, KeyError, ValueError) as exc:
            notes.append(f"{member.id}: its answers cannot be read ({exc})")
    metric = by.definition
    ranking = None
    if measured:
        ranking = rank(
            measured,
            lower_is_better=metric.better == "lower",
            exponential=metric.exponential,
            confidence=by.confidence,
        )
    said = sentence(ranking, {"": "the one setting"}) if ranking else "No member has a figure."
    return Board(by, _placed(rows, metric), ranking, said, tuple(notes))


def _placed(rows: Sequence[Row], metric: Metric) -> tuple[Row, ...]:
    sign = 1 if metric.better == "lower" else -1
    known = [row for row in rows if row.value is not None]
    known.sort(key=lambda row: (sign * float(row.value or 0), row.member.number))
    placed = [
        Row(place, row.member, row.setting, row.varies, row.value, row.low, row.high)
        for place, row in enumerate(known, 1)
    ]
    return (*placed, *(row for row in rows if row.value is None))


def _varying(members: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Return of each member the overrides that not every member has, by key."""
    split = [dict(_pair(text) for text in overrides) for overrides in members]
    keys = dict.fromkeys(key for one in split for key in one)
    varying = [key for key in keys if len({one.get(key) for one in split}) > 1]
    return [{key: one[key] for key in varying if key in one} for one in split]


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.lstrip("+").partition("=")
    return key, value


def _record(member: Member, workspace: Path) -> Mapping[str, Any] | None:
    if member.run_id is None or member.status not in ENDED:
        return None
    try:
        return find_run(workspace, f"{member.experiment}/{member.run_id}").record()
    except ConfigError:  # its folder was removed
        return None


def _measured(
    name: str, setting: str, record: Mapping[str, Any], by: Decides, store: Store
) -> Measured:
    import pyarrow.parquet as pq

    from llmops.evaluation.metrics import columns_read
    from llmops.evaluation.table import contestants

    metric = by.definition
    responses = next(
        step["outputs"]["responses"] for step in record["steps"] if "responses" in step["outputs"]
    )
    columns = ["contestant", "row_key", "group", *columns_read([metric])]
    answers = pq.read_table(
        store.local_path(reference(responses)),
        columns=columns,
        filters=[("contestant", "==", by.contestant)],
    )
    one = contestants([answers.to_pydict()], [metric])[0]
    return Measured(name, setting, one.keys, one.groups, one.rows[metric.name])
