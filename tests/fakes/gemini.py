"""A fake of Gemini on Vertex AI: tuning jobs, generation, streams, token counts, batch jobs.

It checks what it is sent as the service does, and "tunes" by remembering the training rows: a
tuned endpoint answers with the answer of the training question that shares most words with the
one asked, the base model with a sentence of its own. What a job does is told it:

    world = Gemini(project="shop", files=files)   # files: gs:// address -> bytes, both ways
    world.script = [("JOB_STATE_PENDING", "WAITING_FOR_QUOTA"), ("JOB_STATE_SUCCEEDED", None)]
    app = FastAPI(); app.include_router(world.router())

Faults of the transport are those of ``tests.fakes.faults``.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse

from tests.fakes.faults import google_error

TUNABLE = ("gemini-3.5-flash", "gemini-3.1-flash-lite", "gemini-2.5-flash")
ADAPTER_SIZES = ("ONE", "TWO", "FOUR", "EIGHT", "SIXTEEN")
LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
CATEGORIES = ("HATE_SPEECH", "DANGEROUS_CONTENT", "HARASSMENT", "SEXUALLY_EXPLICIT")
LEVELS = ("BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF")
ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED")
RUN = (
    ("JOB_STATE_QUEUED", "TUNING_JOB_STATE_WAITING_FOR_QUOTA"),
    ("JOB_STATE_PENDING", "TUNING_JOB_STATE_PROCESSING_DATASET"),
    ("JOB_STATE_RUNNING", "TUNING_JOB_STATE_TUNING"),
    ("JOB_STATE_SUCCEEDED", None),
)


class Refusal(Exception):
    """What the service answers instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Job:
    """A tuning job: what it shows, the rows it learned, and where it is in its script."""

    shown: dict[str, Any]
    rows: list[tuple[str, str]]
    script: list[tuple[str, str | None]]
    held: bool = False


@dataclass
class Gemini:
    """The state of the service; tests read and change it."""

    project: str = "shop-project"
    files: MutableMapping[str, bytes] = field(default_factory=dict)
    script: tuple[tuple[str, str | None], ...] = RUN
    failure: str = "the dataset could not be read"
    checkpoints: int = 3
    knows: dict[int, float] = field(default_factory=dict)  # checkpoint -> share of rows it learned
    stats: dict[str, Any] = field(default_factory=dict)  # added to a job's tuningDataStats
    jobs: dict[str, Job] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    batch_script: tuple[str, ...] = ("JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED")
    batch_failures: set[int] = field(default_factory=set)  # rows that get an error in the output
    hidden: bool = False  # listings lag behind: they show no job yet
    answers: dict[str, Any] = field(default_factory=dict)  # words in a prompt -> whole response
    now: str | None = None  # creation time of new jobs

    def router(self) -> APIRouter:
        """Return the routes, for an app that may have others."""
        router = APIRouter()

        @router.api_route("/{version}/projects/{rest:path}", methods=["GET", "POST"])
        async def any_call(version: str, rest: str, request: Request) -> Any:
            body = await request.body()
            try:
                return self._answer(
                    request.method,
                    f"projects/{rest}",
                    json.loads(body) if body else None,
                    dict(request.query_params),
                )
            except Refusal as refusal:
                error = google_error(refusal.status, str(refusal))
                return JSONResponse(error, status_code=refusal.status)

        return router

    # ---------------------------------------------------------------- dispatch

    def _answer(self, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        found = re.fullmatch(r"projects/([^/]+)/locations/([^/]+)/(.*?)(?::(\w+))?", path)
        if not found:
            raise Refusal(404, f"no route {path}")
        project, location, resource, verb = found.groups()
        if project not in (self.project, "123"):
            raise Refusal(403, f"Permission denied on project '{project}'")
        parent = f"projects/{project}/locations/{location}"
        if resource == "tuningJobs":
            return self._tune(parent, body) if method == "POST" else self._list(parent, query)
        if resource.startswith("tuningJobs/"):
            return self._job(f"{parent}/{resource}", verb)
        if resource == "batchPredictionJobs":
            return self._batch(parent, body) if method == "POST" else self._batch_list(query)
        if resource.startswith("batchPredictionJobs/"):
            return self._batch_job(f"{parent}/{resource}")
        if verb in ("generateContent", "streamGenerateContent", "countTokens"):
            model = self._model(parent, resource)
            return self._generate(verb, model, body)
        raise Refusal(404, f"no route {method} {path}")

    # ------------------------------------------------------------------ tuning

    def _tune(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        _only(body, "baseModel", "supervisedTuningSpec", "tunedModelDisplayName", "labels")
        spec = body.get("supervisedTuningSpec") or {}
        _only(
            spec,
            "trainingDatasetUri",
            "validationDatasetUri",
            "hyperParameters",
            "exportLastCheckpointOnly",
        )
        if body.get("baseModel") not in TUNABLE:
            raise Refusal(400, f"Base model {body.get('baseModel')} is not supported for tuning")
        if not parent.endswith(("us-central1", "europe-west4")):
            raise Refusal(400, "tuning is not available in this region")
        _check_hyper_parameters(spec.get("hyperParameters") or {})
        _check_labels(body.get("labels") or {})
        if len(body.get("tunedModelDisplayName") or "x") > 128:
            raise Refusal(400, "tunedModelDisplayName is over 128 characters")
        rows = self._rows(spec["trainingDatasetUri"])
        if spec.get("validationDatasetUri"):
            self._rows(spec["validationDatasetUri"])
        name = f"projects/123/{parent.split('/', 2)[2]}/tuningJobs/{1000 + len(self.jobs)}"
        shown = {**body, "name": name, "createTime": self.now or _now(), "updateTime": _now()}
        job = Job(shown, rows, list(self.script))
        self.jobs[name] = job
        _step(job, self)
        return job.shown

    def _rows(self, uri: str) -> list[tuple[str, str]]:
        if uri not in self.files:
            raise Refusal(400, f"{uri} does not exist")
        rows = []
        for number, line in enumerate(self.files[uri].decode().splitlines(), 1):
            row = json.loads(line)
            _only(row, "systemInstruction", "contents")
            roles = [content["role"] for content in row["contents"]]
            if roles != ["user", "model"] * (len(roles) // 2) or not roles:
                raise Refusal(400, f"line {number}: roles {roles}")
            user, model = (content["parts"][0]["text"] for content in row["contents"])
            if not user or not model:
                raise Refusal(400, f"line {number}: missing_text")
            rows.append((user, model))
        return rows

    def _list(self, parent: str, query: dict[str, str]) -> dict[str, Any]:
        shown = [] if self.hidden else [job.shown for job in self.jobs.values()]
        wanted = re.fullmatch(r'labels\.([a-z_]+)="?([a-z0-9_-]+)"?', query.get("filter", ""))
        if query.get("filter") and not wanted:
            raise Refusal(400, f"filter {query['filter']} cannot be parsed")
        if wanted:
            shown = [one for one in shown if (one.get("labels") or {}).get(wanted[1]) == wanted[2]]
        size, start = int(query.get("pageSize", 100)), int(query.get("pageToken", 0))
        more = {"nextPageToken": str(start + size)} if start + size < len(shown) else {}
        return {"tuningJobs": shown[start : start + size], **more}

    def _job(self, name: str, verb: str | None) -> dict[str, Any]:
        job = self.jobs.get(name.replace(f"projects/{self.project}/", "projects/123/"))
        if job is None:
            raise Refusal(404, f"TuningJob {name} is not found")
        if verb == "cancel":
            job.shown["state"] = "JOB_STATE_CANCELLED"
            return {}
        _step(job, self)
        return job.shown

    # -------------------------------------------------------------- generation

    def _model(self, parent: str, resource: str) -> tuple[str, Job | None, float]:
        """Return a model's name, the job that made it, and the share of rows that it learned."""
        if resource.startswith("publishers/google/models/"):
            return resource.rpartition("/")[2], None, 0.0
        name = f"projects/123/{parent.split('/', 2)[2]}/{resource}"
        for job in self.jobs.values():
            tuned = job.shown.get("tunedModel") or {}
            for number, point in enumerate(tuned.get("checkpoints", []), 1):
                if point["endpoint"] == name:
                    return name, job, self.knows.get(number, 1.0)
            if tuned.get("endpoint") == name:
                return name, job, 1.0
        raise Refusal(404, f"Endpoint {name} is not found")

    def _generate(self, verb: str, model: tuple[str, Job | None, float], body: Any) -> Any:
        if verb == "countTokens":
            texts = [part["text"] for content in body["contents"] for part in content["parts"]]
            return {"totalTokens": sum(len(text.split()) for text in texts)}
        _check_request(body)
        whole = self.respond(model, body)
        if verb == "generateContent":
            return whole
        return StreamingResponse(_stream(whole), media_type="text/event-stream")

    def respond(self, model: tuple[str, Job | None, float], body: dict[str, Any]) -> dict[str, Any]:
        """Return a whole response, as the model that is asked would give it."""
        name, job, share = model
        asked = body["contents"][-1]["parts"][0]["text"]
        prompt = sum(
            len(part["text"].split()) for content in body["contents"] for part in content["parts"]
        ) + len(str(body.get("systemInstruction") or "").split())
        said = next((told for words, told in self.answers.items() if words in asked), None)
        if said is None:
            said = _closest(asked, job.rows[: max(1, round(share * len(job.rows)))]) if job else ""
            said = said or f"I would look that up: {' '.join(asked.split()[-6:])}"
        if not isinstance(said, str):
            return {**said, "modelVersion": name, "responseId": "r"}
        options = body.get("generationConfig", {})
        limit = options.get("maxOutputTokens", 10_000)
        words = said.split(" ")
        if options.get("temperature", 1.0):  # chance, by the seed
            words = random.Random(options.get("seed")).sample(words, len(words))
        cut = words[:limit]
        candidate = {
            "content": {"role": "model", "parts": [{"text": " ".join(cut)}]},
            "finishReason": "STOP" if len(cut) == len(words) else "MAX_TOKENS",
            "safetyRatings": ratings(),
        }
        usage = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": len(cut),
            "totalTokenCount": prompt + len(cut),
        }
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": name,
            "responseId": "r",
        }

    # ----------------------------------------------------------------- batches

    def _batch(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        uris = body["inputConfig"]["gcsSource"]["uris"]
        if body["inputConfig"]["instancesFormat"] != "jsonl" or uris[0] not in self.files:
            raise Refusal(400, f"the input {uris} cannot be read")
        name = f"projects/123/{parent.split('/', 2)[2]}/batchPredictionJobs/{len(self.batches) + 1}"
        job = {**body, "name": name, "state": "JOB_STATE_PENDING", "createTime": _now()}
        self.batches[name] = {**job, "script": list(self.batch_script), "parent": parent}
        return job

    def _batch_list(self, query: dict[str, str]) -> dict[str, Any]:
        shown = [_without(job, "script", "parent") for job in self.batches.values()]
        wanted = re.fullmatch(r'display_name="([^"]+)"', query.get("filter", ""))
        if wanted:
            shown = [job for job in shown if job["displayName"] == wanted[1]]
        return {"batchPredictionJobs": shown}

    def _batch_job(self, name: str) -> dict[str, Any]:
        job = self.batches.get(name.replace(f"projects/{self.project}/", "projects/123/"))
        if job is None:
            raise Refusal(404, "no such batch job")
        if job["state"] not in ENDED and job["script"]:
            job["state"] = job["script"].pop(0)
            if job["state"] == "JOB_STATE_SUCCEEDED":
                self._write_batch(job)
            if job["state"] == "JOB_STATE_FAILED":
                job["error"] = {"code": 3, "message": self.failure}
        return _without(job, "script", "parent")

    def _write_batch(self, job: dict[str, Any]) -> None:
        lines = self.files[job["inputConfig"]["gcsSource"]["uris"][0]].decode().splitlines()
        model = self._model(
            job["parent"],
            job["model"].split("/locations/")[-1].partition("/")[2]
            if job["model"].startswith("projects/")
            else job["model"],
        )
        out = []
        for number, line in enumerate(lines):
            request = json.loads(line)["request"]
            if number in self.batch_failures:
                out.append({"request": request, "status": "Bad Request: told to fail"})
                continue
            _check_request(request)
            out.append({"request": request, "status": "", "response": self.respond(model, request)})
        folder = (
            f"{job['outputConfig']['gcsDestination']['outputUriPrefix'].rstrip('/')}/prediction"
        )
        text = "".join(json.dumps(one) + "\n" for one in reversed(out))  # in no order
        self.files[f"{folder}/predictions.jsonl"] = text.encode()
        job["outputInfo"] = {"gcsOutputDirectory": folder}


def ratings(**high: float) -> list[dict[str, Any]]:
    """Return the four ratings, harmless but for those named, e.g. ``HARASSMENT=0.9``."""
    return [
        {
            "category": f"HARM_CATEGORY_{name}",
            "probability": "HIGH" if high.get(name, 0) > 0.8 else "NEGLIGIBLE",
            "probabilityScore": high.get(name, 0.05),
            "severity": "HARM_SEVERITY_NEGLIGIBLE",
            "severityScore": high.get(name, 0.05) / 2,
            **({"blocked": True} if high.get(name, 0) > 0.8 else {}),
        }
        for name in CATEGORIES
    ]


def _step(job: Job, world: Gemini) -> None:
    """Let a job go one state further, unless it has ended or is held."""
    if job.held or job.shown.get("state") in ENDED or not job.script:
        return
    state, detail = job.script.pop(0)
    job.shown["state"] = state
    job.shown["updateTime"] = _now()
    job.shown.pop("tuningJobState", None)
    if detail:
        job.shown["tuningJobState"] = detail
    if state == "JOB_STATE_FAILED":
        job.shown["error"] = {"code": 3, "message": world.failure}
    if state == "JOB_STATE_SUCCEEDED":
        _finish(job, world)


def _finish(job: Job, world: Gemini) -> None:
    parent, number = job.shown["name"].split("/tuningJobs/")
    spec = job.shown["supervisedTuningSpec"]
    epochs = int((spec.get("hyperParameters") or {}).get("epochCount", 4))
    points = [
        {
            "checkpointId": str(point),
            "epoch": str(max(1, point * epochs // world.checkpoints)),
            "step": str(point * 10),
            "endpoint": f"{parent}/endpoints/{number}{point}",
        }
        for point in range(1, world.checkpoints + 1)
    ]
    if spec.get("exportLastCheckpointOnly"):
        points = points[-1:]
    job.shown["tunedModel"] = {
        "model": f"{parent}/models/{number}@1",
        "endpoint": f"{parent}/endpoints/{number}",
        "checkpoints": points,
    }
    tokens = sum(len(f"{user} {model}".split()) for user, model in job.rows)
    job.shown["tuningDataStats"] = {
        "supervisedTuningDataStats": {
            "tuningDatasetExampleCount": str(len(job.rows)),
            "totalBillableTokenCount": str(tokens),
            "tuningStepCount": str(world.checkpoints * 10),
            **world.stats,
        }
    }


def _closest(asked: str, rows: list[tuple[str, str]]) -> str:
    words = set(asked.split())
    best = max(
        rows, key=lambda row: len(words & set(row[0].split())) / len(words | set(row[0].split()))
    )
    return best[1]


def _check_hyper_parameters(given: dict[str, Any]) -> None:
    _only(given, "epochCount", "learningRateMultiplier", "adapterSize")
    if int(given.get("epochCount", 1)) < 1 or float(given.get("learningRateMultiplier", 1)) <= 0:
        raise Refusal(400, "epochCount and learningRateMultiplier must be positive")
    size = given.get("adapterSize", "ADAPTER_SIZE_ONE")
    if size.removeprefix("ADAPTER_SIZE_") not in ADAPTER_SIZES:
        raise Refusal(400, f"adapterSize {size} is not supported")


def _check_labels(labels: dict[str, str]) -> None:
    for name, value in labels.items():
        if not LABEL.fullmatch(name) or not LABEL_VALUE.fullmatch(value):
            raise Refusal(400, f"label {name}={value} is not valid")


def _check_request(body: dict[str, Any]) -> None:
    known = ("contents", "systemInstruction", "safetySettings", "generationConfig", "labels")
    _only(body, *known, "tools")
    if body.get("tools", [{"googleSearch": {}}]) != [{"googleSearch": {}}]:
        raise Refusal(400, f"Unknown tool in {body['tools']}")
    roles = [content.get("role") for content in body["contents"]]
    if not roles or roles != [("user", "model")[place % 2] for place in range(len(roles))]:
        raise Refusal(400, f"roles must alternate and begin with user: {roles}")
    if any(not part.get("text") for content in body["contents"] for part in content["parts"]):
        raise Refusal(400, "missing_text")
    for setting in body.get("safetySettings") or []:
        known = setting["category"].removeprefix("HARM_CATEGORY_") in CATEGORIES
        if not known or setting["threshold"] not in LEVELS:
            raise Refusal(400, f"Invalid safety setting {setting}")
    _check_labels(body.get("labels") or {})
    if sum(len(p["text"]) for c in body["contents"] for p in c["parts"]) > 400_000:
        raise Refusal(400, "The input token count exceeds the maximum number of tokens allowed")


def _stream(whole: dict[str, Any]) -> Any:
    candidate = (whole.get("candidates") or [{}])[0]
    text = (candidate.get("content") or {"parts": [{"text": ""}]})["parts"][0]["text"]
    words = re.findall(r"\S+\s*", text)
    for word in words[:-1]:
        piece = {"content": {"role": "model", "parts": [{"text": word}]}}
        yield _event({"candidates": [piece], "modelVersion": whole["modelVersion"]})
    if words:
        last = {**candidate, "content": {"role": "model", "parts": [{"text": words[-1]}]}}
        yield _event({**whole, "candidates": [last]})
    else:
        yield _event(whole)


def _event(piece: dict[str, Any]) -> str:
    return f"data: {json.dumps(piece)}\r\n\r\n"


def _only(given: dict[str, Any], *known: str) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise Refusal(400, f"Invalid JSON payload received. Unknown name {sorted(unknown)}")


def _without(job: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in names}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
