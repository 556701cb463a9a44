"""Tune more models like the one that is judged: with other seeds, or on shuffled answers.

With ``answers: shuffled`` every answer goes to a question of another group: what such a model
gains is style and length, never knowledge, so it is the control that learning must beat. Uses the
same tuner, rows and settings as ``tune``. Knows no provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.artifacts import digest
from llmops.data import columns
from llmops.errors import ConfigError, DataError
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf
from llmops.ports.model import Tuned
from llmops.ports.progress import TuningProgress
from llmops.steps.tune import Settings as TuneSettings
from llmops.steps.tune import read_card, request_of, write_tuned

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

AS_THEY_ARE, SHUFFLED = "as_they_are", "shuffled"


@dataclass(frozen=True)
class Settings(TuneSettings):
    """What ``tune`` reads, which seeds, and which answers."""

    answers: str = leaf("with.answers")
    seeds: tuple[int, ...] | None = leaf("evaluation.seeds", optional=True)


def seeds_of(answers: str, seed: int, seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds to tune with: the control also has that of the tuned model itself."""
    others = tuple(one for one in dict.fromkeys(seeds) if one != seed)
    return (seed, *others) if answers == SHUFFLED else others


def run(work: Work[Settings]) -> Outcome:
    """Write ``models``: a folder ``seed-<n>`` for each seed, as ``tune`` leaves one.

    Raises:
        ConfigError: If ``with.answers`` is unknown, or there is no seed to tune with.
        DataError: If the rows cannot be shuffled, for all belong to one group.
    """
    settings = work.settings
    if settings.answers not in (AS_THEY_ARE, SHUFFLED):
        raise ConfigError(
            f"step {work.step}: with.answers is '{settings.answers}'",
            hint=f"valid: {AS_THEY_ARE}, {SHUFFLED}",
        )
    seeds = seeds_of(settings.answers, settings.seed, settings.seeds or ())
    if not seeds:
        raise ConfigError(
            "evaluation.seeds names no seed besides tuning.seed",
            hint="e.g. evaluation.seeds=[43,44], or leave the step out of the pipeline",
        )
    card, folder = read_card(work.inputs["card"]), work.outputs["models"]
    folder.mkdir(parents=True, exist_ok=True)
    tuned = {
        seed: _tune(work, seed, card, _share(work.progress, place, len(seeds)))
        for place, seed in enumerate(seeds)
    }
    totals = [one.facts["tokens"] for one in tuned.values() if "tokens" in one.facts]
    tokens = sum(totals) if len(totals) == len(tuned) else None
    return Outcome(facts={"seeds": list(tuned), "answers": settings.answers, "tokens": tokens})


def _tune(
    work: Work[Settings], seed: int, card: Mapping[str, Any], progress: TuningProgress
) -> Tuned:
    """Tune one model, unless an attempt before a crash has left it whole."""
    settings, scratch = work.settings, work.scratch / f"seed-{seed}"
    output = work.outputs["models"] / f"seed-{seed}"
    output.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    train = work.inputs["train"]
    if settings.answers == SHUFFLED:
        train = shuffle_answers(train, scratch / "shuffled.parquet", seed)
    request = request_of(
        settings,
        {**work.inputs, "train": train},
        seed=seed,
        output=output,
        scratch=scratch,
        key=digest([work.key, seed]),  # a job's name begins with its key: each has its own
    )
    tuned = work.adapters.tuner().tune(request, progress)
    write_tuned(output, tuned, settings.model, card)
    return tuned


def _share(progress: TuningProgress, place: int, count: int) -> TuningProgress:
    def told(
        done: float, total: float | None, note: str = "", *, loss: float | None = None
    ) -> None:
        whole = None if total is None else total * count
        said = f"model {place + 1} of {count}, {note}"
        progress(done + (total or 0) * place, whole, said, loss=loss)

    return told


def shuffle_answers(train: Path, target: Path, seed: int) -> Path:
    """Write the rows of ``train`` with each answer moved to a row of another group.

    Raises:
        DataError: If one group has more than half of the rows, so that no such order exists.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(train)
    order = derangement(table.column(columns.GROUP).to_pylist(), seed)
    answers = table.column(columns.ANSWER).take(pa.array(order))
    place = table.schema.get_field_index(columns.ANSWER)
    shuffled: pa.Table = table.set_column(place, columns.ANSWER, answers)
    pq.write_table(shuffled, target)
    return target


def derangement(groups: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return for each row another row, each once, whose group is a different one.

    Rows in random order, those of a group side by side, are moved along by the size of the largest
    group: none can land in its own.

    Raises:
        DataError: If one group has more than half of the rows.
    """
    import numpy as np

    _, number, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(number) == 0 or int(sizes.max()) * 2 > len(number):
        raise DataError(
            "the answers cannot be shuffled: one group has more than half of the train rows",
            hint="give more rows, or leave the contestant tuned_on_shuffled out",
        )
    generator = np.random.default_rng(seed)
    chance = generator.permutation(len(sizes))[number], generator.random(len(number))
    row = np.lexsort((chance[1], chance[0]))
    found = np.empty(len(number), dtype=np.int64)
    found[row] = np.roll(row, int(sizes.max()))
    return found


KIND = StepKind(
    name="tune_again",
    revision=1,
    run=run,
    settings=Settings,
    takes=(
        Port("train", "parquet"),
        Port("validation", "parquet", optional=True),
        Port("card", "json"),
    ),
    gives=(Port("models", "folder"),),
    uses=("tuner",),
    code=("llmops.steps.tune", "llmops.data.terms"),
    summary="tune again with other seeds, or on shuffled answers as a control",
)
