"""Pieces of work that are no commands: what writes files below them, driven directly.

Each prepares nothing, ends with an exit code, and tells what it acknowledged by printing it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from llmops.adapters.registry.files import FileRegistry
from llmops.adapters.store.bucket import BucketStore
from llmops.adapters.store.fsspec import FsspecBlobs
from llmops.adapters.warehouse.duckdb import open_warehouse
from llmops.answering.batch import FIELDS, Job, answer_file
from llmops.errors import LlmopsError
from llmops.files import refusal
from llmops.lineage.sweep import Member, SweepFolder, member_id, open_sweep
from llmops.ports.model import ModelReference
from llmops.ports.store import IndexEntry
from llmops.serving.settings import ServeSettings
from llmops.traffic import segments
from tests.fakes.serving import TOKEN, Echo, echoing, opening_of, settings_of

ACKNOWLEDGED = "acknowledged "


def nothing(folder: Path) -> None:
    """A project without any file."""


def told(work: Callable[[], None]) -> Callable[[], int]:
    """Tell an error as the command line does, and return its exit code."""

    def telling() -> int:
        try:
            work()
        except (LlmopsError, OSError) as raised:
            error = refusal(raised) or raised
            if not isinstance(error, LlmopsError):
                raise
            print(f"error: {error.problem}\nhint: {error.hint}")
            return error.exit_code
        return 0

    return telling


def _acknowledged(said: str) -> list[str]:
    lines = [line for line in said.splitlines() if line.startswith(ACKNOWLEDGED)]
    return [line.removeprefix(ACKNOWLEDGED) for line in lines]


# ---------------------------------------------------------------------- registry

MODELS = Path(".llmops", "registry")


def register() -> None:
    """Register three models, and move two aliases."""
    registry = FileRegistry(MODELS)
    for number in (1, 2, 3):
        model = ModelReference(provider="local", base="base", tuned=f"tuned-{number}")
        version = registry.register("model", model, labels={}, run_id="run").version
        registry.set_alias("model", "candidate", version, reason="a test")
    registry.set_alias("model", "champion", 2, reason="a test")


def registered(folder: Path) -> dict[str, Any]:
    """Return each version's aliases."""
    registry = FileRegistry(folder / MODELS)
    return {version.digest: sorted(version.aliases) for version in registry.list()}


# ------------------------------------------------------------------- traffic log

LOG = Path(".llmops", "traffic")
LINES = tuple(f'{{"answer": {number}}}'.encode() for number in range(8))


def log() -> None:
    """Append lines to a log that waits for the disk, in several segments."""
    segments.key(LOG)
    writer = segments.Writer(LOG, segment_bytes=60, fsync=True)
    for line in LINES:
        writer.append([line])
        print(f"{ACKNOWLEDGED}{line.decode()}", flush=True)
    writer.close()


def logged(folder: Path) -> list[bytes]:
    """Return the lines that are there."""
    return sorted(set(segments.lines(folder / LOG)))


def lost_lines(folder: Path, said: str) -> list[str]:
    """Name the lines that were acknowledged and are not there, or that nobody wrote."""
    there = {line.decode() for line in segments.lines(folder / LOG)}
    torn = there - {line.decode() for line in LINES}
    lost = [line for line in _acknowledged(said) if line not in there]
    return [f"a line that nobody wrote: {line}" for line in torn] + [
        f"acknowledged and lost: {line}" for line in lost
    ]


# ------------------------------------------------------------------------ server

QUESTIONS = ("How do I open a file?", "And a folder?", "BLOCK this", "Is it closed again?")
SERVED = Path(".llmops", "served")


def serve() -> int:
    """Answer questions over HTTP, with the log on; a refused one makes the exit code 5."""
    from starlette.testclient import TestClient

    from llmops.serving.application import made

    guard = made(_settings(), (), opening_of(echoing(Echo())))
    refused = False
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(guard, headers=headers, base_url="http://127.0.0.1") as http:
        for question in QUESTIONS:
            answer = http.post("/v1/predict", json={"question": question})
            refused |= not _kept(answer)
    return 5 if refused else 0


@functools.cache
def _settings() -> ServeSettings:
    return settings_of(SERVED, "serve.log.fsync=true")


def _kept(answer: httpx.Response) -> bool:
    if answer.status_code == httpx.codes.OK:
        print(f"{ACKNOWLEDGED}{answer.json()['id']}", flush=True)
        return True
    print(f"error: {answer.status_code} {answer.text}", flush=True)
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
    return False


def served(folder: Path) -> list[str]:
    """Return the questions whose answers were recorded."""
    return sorted({one["question"] for one in _records(folder)})


def lost_answers(folder: Path, said: str) -> list[str]:
    """Name the answers that were given and are not in the log."""
    there = {one["id"] for one in _records(folder)}
    return [f"given and not recorded: {one}" for one in _acknowledged(said) if one not in there]


def _records(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in segments.lines(folder / SERVED / "logs")]


# ----------------------------------------------------------- a file of questions

ROWS = 9
PART_ROWS = 3


def questions(folder: Path) -> None:
    """Prepare a file of questions."""
    rows = [{"id": number, "question": f"question {number}"} for number in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def predict() -> None:
    """Answer the file, three rows a part."""
    job = Job(
        Path("rows.jsonl"), Path("out.jsonl"), "question", PART_ROWS, {"model": "m"}, replace=True
    )
    answer_file(job, _answers, lambda *_: None)


def _answers(asked: Sequence[str]) -> list[Mapping[str, Any]]:
    return [
        dict.fromkeys(FIELDS) | {"response": f"to {one}", "response_blocked": False}
        for one in asked
    ]


def predicted(folder: Path) -> str:
    """Return the answered file."""
    return (folder / "out.jsonl").read_text("utf-8")


# --------------------------------------------------------------------- warehouse

WAREHOUSE = {"name": "own", "sample": False, "memory_limit": "300MB", "source": {"title": "own"}}
TABLE = "p.d.t"


def table(folder: Path) -> None:
    """Prepare a file of rows for the warehouse."""
    (folder / "rows.csv").write_text("id,body\n" + "".join(f"{n},row {n}\n" for n in range(ROWS)))


def load() -> None:
    """Load the rows, over those of an earlier time."""
    open_warehouse(WAREHOUSE, Path()).load(TABLE, Path("rows.csv"), replace_table=True)


def loaded(folder: Path) -> list[Mapping[str, Any]]:
    """Return the rows of the table."""
    batches = open_warehouse(WAREHOUSE, folder).query(f"SELECT * FROM `{TABLE}`").batches()
    return sorted((row for batch in batches for row in batch.to_pylist()), key=lambda r: r["id"])


# ------------------------------------------------------------------------ sweeps


def sweep() -> None:
    """Write a sweep's record as the process that runs it does, stopping it and going on."""
    folder = open_sweep(Path(), "words-0123456789", {"overrides": ["seed=1,2,3"]})
    folder.go_on()
    with folder.running():
        for number in (1, 2, 3):
            overrides = (f"seed={number}",)
            with folder.ledger():
                folder.write(Member(member_id(number, overrides), number, overrides))
        for member in folder.members():
            folder.write(Member(member.id, member.number, member.overrides, status="succeeded"))
            print(f"{ACKNOWLEDGED}{member.id}", flush=True)
        folder.note(status="finished")
    folder.stop("a test")


def swept(folder: Path) -> dict[str, Any]:
    """Return the sweep's members, its status and why it stopped."""
    found = _sweep(folder)
    members = {member.id: member.status for member in found.members()}
    return {"members": members, "status": found.asked()["status"], "stop": found.stopped()}


def lost_members(folder: Path, said: str) -> list[str]:
    """Name the members that were recorded and are not there."""
    acknowledged = _acknowledged(said)
    if not acknowledged:
        return []
    there = {member.id for member in _sweep(folder).members() if member.status == "succeeded"}
    return [f"recorded and lost: {one}" for one in acknowledged if one not in there]


def _sweep(folder: Path) -> SweepFolder:
    return SweepFolder(folder / "runs" / "sweeps" / "words-0123456789")


# ------------------------------------------------------------------------ bucket

KEY = "ab" * 32


def _bucket(folder: Path) -> BucketStore:
    blobs = FsspecBlobs(f"file://{folder.absolute()}/bucket", {})
    return BucketStore(blobs, folder.absolute(), lease_s=60)


def publish() -> None:
    """Put a file and a folder into a bucket on a disk under a lease, and read them again."""
    store = _bucket(Path())
    with store.lock(KEY):
        if store.entry(KEY):
            return
        folder = store.temporary()
        for name in ("one", "two"):
            (folder / "model").mkdir(exist_ok=True)
            (folder / "model" / name).write_text(name)
        (folder / "rows.json").write_text("[1, 2]")
        outputs = {
            "model": store.put(folder / "model", "folder"),
            "rows": store.put(folder / "rows.json", "json", rows=2),
        }
        made = IndexEntry(KEY, "tune", "tune", 1, {}, {}, {}, outputs, {}, "run", 0.0)
        store.record(made)
    for artifact in outputs.values():
        store.local_path(artifact)


def published(folder: Path) -> dict[str, str]:
    """Return the digests that the index names, each object of which the bucket holds whole."""
    store = _bucket(folder)
    assert list((folder / "bucket" / "tmp").iterdir()) == []
    entry = store.entry(KEY)
    assert entry is not None
    assert all(store.intact(one) for out in entry.outputs.values() for one in store.parts(out))
    return {name: artifact.sha256 for name, artifact in entry.outputs.items()}
