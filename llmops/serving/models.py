"""The models that are served: traffic shared out by weights, aliases followed without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmops.answering.model import OpenModel
from llmops.answering.share import drawn
from llmops.api.answering import UNTUNED, find_in, open_model, open_registry, open_version, others
from llmops.errors import ConfigError, LlmopsError
from llmops.ports.registry import Registry
from llmops.serving.batcher import Batcher
from llmops.serving.faults import Fault
from llmops.serving.settings import Batching, Share

_log = logging.getLogger("llmops.serving")


@dataclass
class Live:
    """A model that answers now; a request keeps the one it began with."""

    model: OpenModel
    batcher: Batcher


@dataclass
class Slot:
    """A place in the split: what was asked for, its weight, and who answers for it now."""

    named: str  # as the config names it
    weight: float
    live: Live
    registered: str | None  # NAME@ALIAS or NAME:VERSION; null for an untuned base

    def names(self) -> set[str]:
        """Return all names under which a client may ask for it."""
        model = self.live.model
        pinned = {f"{model.name}:{model.version}"} if model.version is not None else set()
        alias = {f"{model.name}@{model.alias}"} if model.alias is not None else set()
        return {self.named, model.name, *pinned, *alias}


class Models:
    """All slots; choosing is a matter of microseconds, looking after aliases a task beside it."""

    def __init__(
        self, slots: Sequence[Slot], opened: Callable[[OpenModel], Live], registry: Registry | None
    ) -> None:
        self.slots = list(slots)
        self._opened = opened
        self._registry = registry

    def choose(self, key: str, named: str | None = None) -> Live:
        """Return who answers: among those of that name, by weight, and the same for the same key.

        Raises:
            Fault: 404, if nobody bears the name.
        """
        fitting = self.slots
        if named is not None:
            fitting = [slot for slot in self.slots if named in slot.names()]
            if not fitting:
                known = ", ".join(sorted({name for slot in self.slots for name in slot.names()}))
                raise Fault(
                    404,
                    f"there is no model '{named[:100]}' here; there is {known}",
                    code="model_not_found",
                    param="model",
                )
        if len(fitting) == 1:
            return fitting[0].live
        return fitting[drawn([slot.weight for slot in fitting], key)].live

    async def follow(self, overrides: Sequence[str], every_s: float) -> None:
        """Look where the aliases point, for ever; open a new model first, then switch to it."""
        while True:
            await asyncio.sleep(every_s)
            for slot in self.slots:
                try:
                    await self._follow(slot, overrides)
                except LlmopsError as exc:
                    _log.warning("%s stays at %s: %s", slot.named, slot.live.model.label, exc)

    async def _follow(self, slot: Slot, overrides: Sequence[str]) -> None:
        if slot.registered is None or self._registry is None:
            return
        version = await asyncio.to_thread(find_in, self._registry, slot.registered)
        model = slot.live.model
        if (version.version, version.digest) == (model.version, model.digest):
            return
        opened = await asyncio.to_thread(open_version, version, overrides, alias=model.alias)
        before, slot.live = slot.live, self._opened(opened)
        before.batcher.close()
        _log.info("%s went from %s to %s", slot.named, before.model.label, opened.label)

    def close(self) -> None:
        """Let go of all models."""
        for slot in self.slots:
            slot.live.batcher.close()


def open_models(
    shares: Sequence[Share],
    overrides: Sequence[str],
    batching: Batching,
    on_batch: Callable[[int], None],
) -> Models:
    """Open every model of the split; call it in the event loop that will ask them.

    Raises:
        ConfigError: If one does not exist, or all weights are zero.
        BackendError: If one cannot be loaded.
    """
    if not any(share.weight for share in shares):
        raise ConfigError("serve.models: every weight is 0", hint="give one a weight above 0")
    wanted = others(overrides)
    untuned_only = all(share.model == UNTUNED for share in shares)

    def opened(model: OpenModel) -> Live:
        return Live(model, Batcher(model, batching, on_batch))

    slots = []
    for share in shares:
        model = open_model(share.model, wanted)
        registered = None
        if model.version is not None:
            registered = f"{model.name}@{model.alias}" if model.alias else model.label
        slots.append(Slot(share.model, share.weight, opened(model), registered))
    return Models(slots, opened, None if untuned_only else open_registry(wanted))
