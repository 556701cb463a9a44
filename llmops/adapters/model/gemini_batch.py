"""Answer many chats by one batch job: cheaper, slower, and never paid twice.

The input is named by its content, and so is the job: a batch that an earlier process submitted is
taken over, finished or not. Rows come back in no order, so each carries its number as a label. A
row without an answer becomes an error row. Knows no tuning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from llmops.adapters.asking import RequestRefused, Unanswered
from llmops.adapters.bucket import Bucket
from llmops.adapters.model.gemini_client import GeminiClient
from llmops.adapters.model.gemini_request import Style, body_of
from llmops.adapters.model.gemini_response import response_of
from llmops.errors import BackendError
from llmops.ports.model import Chat, GenerationSettings, Response
from llmops.ports.progress import Progress

if TYPE_CHECKING:
    from google.genai import types

ROW_LABEL = "llmops_row"
POLL_S = 30.0
DEADLINE_S = 24 * 3600.0  # Google lets a batch job wait this long for capacity
SUCCEEDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED")
FAILED = ("JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING", "JOB_STATE_EXPIRED")
LOOK_AGAIN_S = 60.0


class BatchJobs:
    """Batch jobs for one model or endpoint."""

    def __init__(
        self,
        client: GeminiClient,
        environment: Mapping[str, Any],
        target: str,
        style: Style,
    ) -> None:
        self.client, self.target, self.style = client, target, style
        self.bucket = Bucket(environment)

    def answers(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order.

        Raises:
            BackendError: If the job fails as a whole, or has not ended in a day.
        """
        lines = "".join(map(self._line, range(len(chats)), chats, [settings] * len(chats)))
        name = sha256(f"{self.target}\n{lines}".encode()).hexdigest()
        job = self._follow(self._claim(name, lines), progress)
        found = self._read(str(job.output_info.gcs_output_directory))  # type: ignore[union-attr]
        progress(len(chats), len(chats), "answers")
        for number in range(len(chats)):
            yield found.get(number) or _missing()

    def _line(self, number: int, chat: Chat, settings: GenerationSettings) -> str:
        body = body_of(chat, settings, self.style)
        labelled = {**body, "labels": {ROW_LABEL: str(number)}}
        return json.dumps({"request": labelled}, ensure_ascii=False, sort_keys=True) + "\n"

    def _claim(self, name: str, lines: str) -> types.BatchJob:
        found = self._find(name)
        if found is not None:
            return found
        self.bucket.create(f"gemini/batch/{name}/input.jsonl", lines)
        model = self.target if "/" in self.target else f"publishers/google/models/{self.target}"
        try:
            return self.client.call(
                lambda client: client.batches.create(
                    model=model,
                    src=self.bucket.uri(f"gemini/batch/{name}/input.jsonl"),
                    config={
                        "display_name": _display_name(name),
                        "dest": self.bucket.uri(f"gemini/batch/{name}/output"),
                    },
                ),
                repeatable=False,
            )
        except RequestRefused as exc:
            raise BackendError(
                f"the batch job is refused: {exc}",
                hint="ask row by row instead: model.requests.batch_from_rows=null",
            ) from exc
        except Unanswered as exc:
            return self._look_for(name, exc)

    def _look_for(self, name: str, cause: Unanswered) -> types.BatchJob:
        end = time.monotonic() + LOOK_AGAIN_S
        while time.monotonic() < end:
            found = self._find(name)
            if found is not None:
                return found
            time.sleep(min(POLL_S, LOOK_AGAIN_S / 10))
        raise BackendError(
            f"it is not known whether the batch job {_display_name(name)} was submitted: {cause}",
            hint="run it again in some minutes: a job that is there is taken over",
            retryable=True,
        ) from cause

    def _find(self, name: str) -> types.BatchJob | None:
        """Return the newest job of this input that has not failed."""
        wanted = _display_name(name)
        listed = self.client.call(
            lambda client: list(
                client.batches.list(config={"filter": f'display_name="{wanted}"', "page_size": 100})
            )
        )
        for job in listed:
            if job.display_name == wanted and _state(job) not in FAILED:
                return job
        return None

    def _follow(self, job: types.BatchJob, progress: Progress) -> types.BatchJob:
        end = time.monotonic() + DEADLINE_S
        while _state(job) not in SUCCEEDED:
            if _state(job) in FAILED:
                why = (job.error and job.error.message) or "the provider gives no reason"
                raise BackendError(f"the batch job {job.name} ended as {_state(job)}: {why}")
            if time.monotonic() > end:
                raise BackendError(
                    f"the batch job {job.name} has not ended in a day",
                    hint="the same command goes on waiting for it",
                    retryable=True,
                )
            progress(0, None, f"batch job {_state(job).removeprefix('JOB_STATE_').lower()}")
            time.sleep(POLL_S)
            name = str(job.name)
            job = self.client.call(lambda client, name=name: client.batches.get(name=name))  # type: ignore[misc]
        return job

    def _read(self, folder: str) -> Mapping[int, Response]:
        found: dict[int, Response] = {}
        for text in self.bucket.texts(folder):
            for line in text.splitlines():
                row = json.loads(line)
                number = int(row["request"]["labels"][ROW_LABEL])
                if row.get("response"):
                    found[number] = response_of(row["response"], latency_s=None)
                else:
                    why = row.get("status") or "the batch job gives no reason"
                    found[number] = _failed(str(why))
        return found


def _display_name(name: str) -> str:
    return f"llmops-{name[:40]}"


def _state(job: types.BatchJob) -> str:
    return str(job.state.value) if job.state else "JOB_STATE_QUEUED"


def _missing() -> Response:
    return _failed("the batch job's output lacks this row")


def _failed(why: str) -> Response:
    return Response("", "error", prompt_tokens=0, output_tokens=0, error=why)
