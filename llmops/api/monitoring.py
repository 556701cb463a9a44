"""Hold the newest traffic against training rows or earlier traffic, and act on what alerts."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.posting import post
from llmops.api.answering import serve_config
from llmops.config.project import workspace
from llmops.errors import BackendError, ConfigError, DataError
from llmops.monitoring.watch import Answered, Asked, Limits, watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmops.engines.vertex_schedule import Scheduled

SCHEDULE = "llmops-monitor"  # the one of that name in a project and region
_SQL = """
SELECT strftime(answers.time, '%Y-%m-%d') AS day, question, question_characters, answer, blocked,
       finish_reason = 'error' AS failed, latency_s, cost, scores, said.rating AS rating
FROM answers LEFT JOIN (
  SELECT answer_id, rating FROM feedback WHERE rating IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY answer_id ORDER BY time DESC) = 1
) AS said ON said.answer_id = answers.id
WHERE answers.time >= TIMESTAMP '{start}' AND answers.time < TIMESTAMP '{end}' {model}
ORDER BY answers.time, answers.id
"""


@dataclass(frozen=True)
class Watched:
    """A window that was looked at: its document, the page about it, and the run it started."""

    report: Mapping[str, Any]
    page: Path
    run_id: str | None

    @property
    def alerts(self) -> Sequence[str]:
        """What went past its limit."""
        alerts: Sequence[str] = self.report["alerts"]
        return alerts


def monitor(overrides: Sequence[str] = (), *, until: datetime | None = None) -> Watched:
    """Judge the newest window of the log, write its page, and act on alerts.

    Args:
        overrides: ``monitor=FILE``, ``monitor.KEY=VALUE``, ``serve.KEY=VALUE``.
        until: The window's end; null for now.

    Raises:
        ConfigProblems: If the config is wrong.
        ConfigError: If the dataset version is unknown, or a model is given that the log lacks.
        DataError: If there is nothing to compare with.
        BackendError: If the webhook cannot be reached; the page is written by then.
    """
    config = monitor_config(overrides)
    end = until or datetime.now(UTC)
    folder = workspace() / str(serve_config(overrides)["log"]["path"])
    found = _report(config, folder, end)
    report = found | {"model": config["model"], "until": end.isoformat(timespec="seconds")}
    page = _written(report, end, workspace() / config["pages"])
    run_id = _acted(config["alert"], report, page) if report["alerts"] else None
    return Watched(report, page, run_id)


def monitor_config(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose and check the ``monitor`` group: ``monitor=FILE`` chooses it.

    Raises:
        ConfigProblems: With every mistake at once.
        ConfigError: If an override is for another group.
    """
    from llmops.config import schemas
    from llmops.config.compose import group
    from llmops.config.problems import Problem, dotted, raise_all

    for text in overrides:
        if not text.startswith(("monitor.", "monitor=", "serve.", "serve=")):
            raise ConfigError(f"monitor takes no '{text}'", hint="monitor.KEY=VALUE or serve=FILE")
    own = [text for text in overrides if text.startswith("monitor.")]
    chosen = [f"+{text}" for text in overrides if text.startswith("monitor=")]
    config = group("monitor", [*(chosen or ["+monitor=standard"]), *own])
    raise_all(
        Problem("monitor", dotted(("monitor", *one.path)), one.expected, one.got, one.hint)
        for one in schemas.mistakes(config, name="monitor")
    )
    return config


def schedule_monitor(cron: str, overrides: Sequence[str] = ()) -> Scheduled:
    """Have Vertex AI start ``llmops monitor`` by the clock, in a container of ``engine.image``.

    Args:
        cron: Five fields, in UTC.
        overrides: Those of ``monitor``, which the container's command is given, and those of
            ``env`` and ``engine``, which say where it runs.

    Raises:
        ConfigError: If the config is wrong, or the container could not see the log.
        BackendError: If Vertex does not answer, or refuses.
    """
    from llmops.config.compose import group
    from llmops.engines.vertex_schedule import schedule

    check_cron(cron)
    where = [text for text in overrides if _is_of(text, "env", "engine")]
    what = [text for text in overrides if text not in where]
    config = monitor_config(what)
    _check_reachable(config, what)
    chosen = {name: group(name, where) for name in ("env", "engine")}
    return schedule(chosen, SCHEDULE, cron, ["python", "-m", "llmops", "monitor", *what])


def check_cron(times: str) -> None:
    """Refuse what is not five fields.

    Raises:
        ConfigError: See above.
    """
    if len(times.split()) != 5:
        raise ConfigError(f"'{times}': five fields are needed", hint='e.g. "0 6 * * *"')


def _is_of(override: str, *groups: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return key.partition(".")[0] in groups


def _check_reachable(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse what a container has not: this machine's log, its data, and its environment."""
    path = str(serve_config(overrides)["log"]["path"])
    if not path.startswith("/gcs/"):
        raise ConfigError(
            f"a container of Vertex does not see the log at {path}",
            hint="copy the log to a bucket, and name it: serve.log.path=/gcs/BUCKET/logs",
        )
    if config["against"] == "training":
        raise ConfigError(
            "a container of Vertex does not see the training rows of this workspace",
            hint="compare with earlier traffic: monitor.against=window",
        )


# ------------------------------------------------------------------ the two sides


def _report(config: Mapping[str, Any], folder: Path, end: datetime) -> dict[str, Any]:
    start = end - timedelta(days=config["window_days"])
    rows = _rows(folder, start, end, config["model"])
    now = _asked(f"traffic of {_days(config['window_days'])} to {end:%Y-%m-%d}", rows, config)
    before = _before(config, folder, start)
    return watch(
        _with_vectors(now, config),
        _with_vectors(before, config),
        [_answered(row) for row in rows],
        Limits(**config["limits"]),
        confidence=config["confidence"],
        min_rows=config["min_rows"],
        days=config["window_days"],
        seed=config["seed"],
    )


def _before(config: Mapping[str, Any], folder: Path, start: datetime) -> Asked:
    if config["against"] == "window":
        earlier = start - timedelta(days=config["baseline_days"])
        rows = _rows(folder, earlier, start, config["model"])
        return _asked(f"traffic of {_days(config['baseline_days'])} before", rows, config)
    return _training(config)


def _days(days: float) -> str:
    return f"{days:g} day{'' if days == 1 else 's'}"


def _training(config: Mapping[str, Any]) -> Asked:
    import pyarrow.parquet as pq

    from llmops.api.past import datasets
    from llmops.data import columns
    from llmops.lineage.datasets import pick

    known = [one for one in datasets() if "train" in one.sides]
    if not known:
        raise DataError(
            "there is no training data to compare with: no run of this workspace kept rows",
            hint="run an experiment, or compare with earlier traffic: monitor.against=window",
        )
    chosen = pick(known, config["training"]) if config["training"] else known[0]
    texts = pq.read_table(chosen.sides["train"], columns=[columns.QUESTION])[0].to_pylist()
    picked = _drawn([text for text in texts if text], config)
    return Asked(f"training rows of {chosen.name}", [len(text) for text in picked], picked)


def _rows(folder: Path, start: datetime, end: datetime, model: str | None) -> list[dict[str, Any]]:
    from llmops.traffic.query import rows

    told = "" if model is None else "AND model = '" + model.replace("'", "''") + "'"
    sql = _SQL.format(start=_moment(start), end=_moment(end), model=told)
    return list(rows(folder, sql)[1])


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _asked(name: str, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Asked:
    picked = _drawn(rows, config)
    texts = [row["question"] for row in picked if row["question"] is not None]
    scores: dict[str, list[float]] = {}
    for row in picked:
        for category, score in (row["scores"] or {}).items():
            if score is not None:
                scores.setdefault(category, []).append(score)
    lengths = [row["question_characters"] or 0 for row in picked]
    return Asked(name, lengths, texts or None, scores)


def _drawn(rows: Sequence[Any], config: Mapping[str, Any]) -> list[Any]:
    """Return the rows, or as many as are compared, drawn by seed, in their order."""
    if len(rows) <= config["max_rows"]:
        return list(rows)
    places = random.Random(config["seed"]).sample(range(len(rows)), config["max_rows"])
    return [rows[place] for place in sorted(places)]


def _with_vectors(side: Asked, config: Mapping[str, Any]) -> Asked:
    from dataclasses import replace

    if config["encoder"] is None or not side.texts:
        return side
    return replace(side, vectors=_vectors(side.texts, config["encoder"]))


def _vectors(texts: Sequence[str], encoder: str) -> NDArray[Any]:
    from llmops.adapters.catalog import model_cache, open_encoder
    from llmops.config.compose import group

    chosen = group("encoder", [f"encoder={encoder}"])
    return open_encoder({"encoder": chosen}, model_cache()).encode(texts, _quiet)


def _answered(row: Mapping[str, Any]) -> Answered:
    return Answered(
        day=row["day"],
        answer=row["answer"],
        blocked=bool(row["blocked"]),
        failed=bool(row["failed"]),
        latency_s=row["latency_s"] or 0.0,
        cost=row["cost"],
        rating=row["rating"],
    )


# ------------------------------------------------------------------ what follows


def _written(report: Mapping[str, Any], end: datetime, folder: Path) -> Path:
    from llmops.files import write_text
    from llmops.report.monitor_page import monitor_page

    folder.mkdir(parents=True, exist_ok=True)
    stem = end.astimezone(UTC).strftime("%Y%m%d-%H%M%S")
    write_text(folder / f"{stem}.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    page = folder / f"{stem}.html"
    write_text(page, monitor_page(report, folder / "figures"))
    return page


def _acted(alert: Mapping[str, Any], report: Mapping[str, Any], page: Path) -> str | None:
    run_id = None
    if alert["retrain"]:
        from llmops.api.running import run

        run_id = run(list(alert["retrain"])).record["run_id"]
    if alert["webhook"]:
        _tell(
            alert["webhook"],
            {
                "alerts": report["alerts"],
                "now": report["now"],
                "against": report["against"],
                "page": str(page),
                "run": run_id,
            },
        )
    return run_id


def _tell(address: str, message: Mapping[str, Any]) -> None:
    try:
        post(address, message)
    except BackendError as exc:
        raise BackendError(
            f"the alert could not be sent: {exc.problem}",
            hint=f"the page is written: {message['page']}",
            retryable=True,
        ) from exc


def _quiet(done: float, total: float | None, note: str = "") -> None:
    """Report progress to nobody."""
