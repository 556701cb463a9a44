"""The safety policy: what may be asked, what may be answered, and what happens otherwise.

One policy, the config's ``safety`` section, holds in batch evaluation, prediction and serving. The
provider's own filters are set where answers are made, in ``model.filters``. Knows no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmops.errors import ConfigError, nearest

Action = Literal["ignore", "flag", "redact", "block"]
"""What a broken rule leads to, the mildest first; ``ignore``: the rule is not asked."""

Judgement = Literal["flag", "block"]


@dataclass(frozen=True)
class InputRules:
    """Rules for what is asked; ``score``: the scorer rates the question too, as it does answers."""

    score: bool
    block_list: tuple[str, ...]
    on_block_list: Action
    prompt_injection: Literal["ignore", "flag", "block"]
    personal_data: Action


@dataclass(frozen=True)
class OutputRules:
    """Rules for what is answered.

    ``max_cited_share`` is the share of an answer's characters, in [0, 1], that may lie in passages
    which the provider says it repeats; ``citation_licences`` are those that a repeated passage may
    have, null for any. ``on_citation`` says what happens where either is broken. ``ungrounded`` is
    for an answer that was given passages and cites none of them, or others.
    """

    block_list: tuple[str, ...]
    on_block_list: Action
    personal_data: Action
    recitation: Judgement
    max_cited_share: float
    citation_licences: tuple[str, ...] | None
    on_citation: Judgement
    ungrounded: Literal["ignore", "flag", "block"] = "flag"


@dataclass(frozen=True)
class PersonalData:
    """What counts as personal: kinds of ``llmops.data.personal``, and whose telephone numbers."""

    kinds: tuple[str, ...]
    region: str


@dataclass(frozen=True)
class Policy:
    """Thresholds per category on scores in [0, 1], and the rules of both ways.

    A category's severity is judged under ``<category>_severity``. ``message`` stands in for what
    was blocked.
    """

    thresholds: Mapping[str, float]
    on_violation: Judgement
    on_scorer_failure: Judgement
    message: str
    input: InputRules
    output: OutputRules
    personal_data: PersonalData


@dataclass(frozen=True)
class Limits:
    """The rates that a batch of answers may have, in [0, 1], and how sure to be of them."""

    max_violation_rate: float
    max_blocked_rate: float
    confidence: float


def read_policy(section: Mapping[str, Any]) -> Policy:
    """Build the policy of a config's ``safety`` section.

    Raises:
        ConfigError: If a key is missing or has the wrong type.
    """
    import msgspec

    try:
        return msgspec.convert(section, Policy)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"safety: {exc}", hint="see conf/safety/profanity.yaml") from exc


def check_thresholds(thresholds: Mapping[str, float], categories: Sequence[str]) -> None:
    """Refuse a threshold that the scorer can never reach because it does not know the category.

    Raises:
        ConfigError: With the nearest category; also for a threshold outside [0, 1].
    """
    for category, threshold in thresholds.items():
        if category not in categories:
            valid = f"the scorer reports: {', '.join(sorted(categories))}"
            guess = nearest(category, categories)
            raise ConfigError(
                f"safety.thresholds.{category}: the chosen scorer has no category '{category}'",
                hint=f"{guess} {valid}" if guess else valid,
            )
        if not 0 <= threshold <= 1:  # NaN too: no score would ever reach it
            raise ConfigError(f"safety.thresholds.{category}: {threshold} is not between 0 and 1")
