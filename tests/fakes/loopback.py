"""A small Google Cloud on loopback: Gemini, the registry, Cloud Storage, the token service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from tests.fakes.faults import Faults, serve
from tests.fakes.gcs_server import Objects, cloud_storage
from tests.fakes.gemini import Gemini
from tests.fakes.google_evaluation import Evaluation
from tests.fakes.identity import Identity, add_identity, key_file
from tests.fakes.palm import Palm, tuned_models
from tests.fakes.vertex_models import VertexModels

_numbers = count(1)
CATEGORIES = ("dangerous_content", "harassment", "hate_speech", "sexually_explicit")


@dataclass
class Cloud:
    """What a test may look at and change; ``fresh`` gives it a world of its own."""

    world: Gemini
    models: VertexModels
    palm: Palm
    evaluation: Evaluation
    identity: Identity
    faults: Faults
    url: str
    storage_url: str
    key: Path
    bucket: str = ""

    def fresh(self) -> None:
        """Forget all jobs, faults and requests, and take an empty bucket."""
        self.bucket = f"bucket-{next(_numbers)}"
        files = Objects(self.storage_url, self.bucket)
        vars(self.world).update(vars(Gemini(files=files)))
        vars(self.models).update(vars(VertexModels(models=tuned_models())))
        vars(self.palm).update(vars(Palm()))
        vars(self.evaluation).update(vars(Evaluation()))
        self.faults.clear()

    @property
    def environment(self) -> Mapping[str, Any]:
        """The ``env`` section that leads here."""
        return {
            "name": "test",
            "project": "shop-project",
            "region": "us-central1",
            "bucket": f"gs://{self.bucket}/above",
            "budget": None,
            "credentials": {"kind": "service_account_file", "file": str(self.key)},
            "endpoints": {"vertex": self.url, "storage": self.storage_url},
        }


@contextlib.contextmanager
def cloud_on_loopback(folder: Path) -> Iterator[Cloud]:
    """Serve the cloud until the block ends."""
    world, models, palm, evaluation = Gemini(), VertexModels(), Palm(), Evaluation()
    identity = Identity()
    app = FastAPI()
    for service in (palm, models, evaluation, world):  # the last takes every path
        app.include_router(service.router())
    add_identity(app, identity)
    with cloud_storage() as storage_url, serve(app) as server:
        key = key_file(folder, server.url)
        cloud = Cloud(
            *(world, models, palm, evaluation, identity),
            *(server.faults, server.url, storage_url, key),
        )
        cloud.fresh()
        yield cloud


def gemini_config(*, requests: Mapping[str, Any] = {}, **tuner: Any) -> dict[str, Any]:
    """Return a ``model`` group for Gemini, impatient."""
    waiting = {"poll_s": 0.01, "deadline_s": 3600, "max_wait_s": None}
    return {
        "kind": "gemini",
        "base": "gemini-3.5-flash",
        "region": "us-central1",
        "filters": dict.fromkeys(CATEGORIES, "BLOCK_MEDIUM_AND_ABOVE"),
        "filter_method": "PROBABILITY",
        "thinking_level": "MINIMAL",
        "thinking_budget_tokens": None,
        "requests": {
            "concurrent": 4,
            "per_minute": 600_000,
            "timeout_s": 10,
            "deadline_s": 10,
            "batch_from_rows": None,
            **requests,
        },
        "tuner": {
            "region": "us-central1",
            "learning_rate_multiplier": 1.5,
            "adapter_size": 4,
            "validation_rows": 256,
            "last_checkpoint_only": False,
            "choose_checkpoint_on_rows": 4,
            "display_name": None,
            "description": None,
            "labels": {"team": "search"},
            "encryption_key": None,
            **tuner,
            "waiting": {**waiting, **tuner.get("waiting", {})},
        },
    }


def palm_config(**changes: Any) -> dict[str, Any]:
    """Return a ``model`` group for text-bison, impatient."""
    requests = {
        "concurrent": 4,
        "per_minute": 600_000,
        "timeout_s": 10,
        "deadline_s": 5,
        "batch_from_rows": None,
    }
    return {
        "kind": "palm",
        "base": "text-bison@001",
        "region": "us-central1",
        "tuned_model": None,
        "top_k": 40,
        "requests": requests,
        **changes,
    }
