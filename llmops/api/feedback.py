"""Say what one thinks of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from llmops.api.answering import open_log, serve_config
from llmops.errors import ConfigError
from llmops.traffic.records import is_ours

RATINGS = ("up", "down")


def give_feedback(
    answer_id: str,
    *,
    rating: str | None = None,
    correction: str | None = None,
    comment: str | None = None,
    client: str = "command line",
    overrides: Sequence[str] = (),
) -> None:
    """Record a rating, a correction or a comment; the newest on an answer counts.

    Raises:
        ConfigError: If this log never gave that id, or nothing is said.
        BackendError: If the log cannot be written.
    """
    if rating is None and correction is None and comment is None:
        raise ConfigError("nothing is said", hint="give --up, --down, --correction or --comment")
    if rating not in (None, *RATINGS):
        raise ConfigError(f"'{rating}' is no rating", hint=f"valid: {', '.join(RATINGS)}")
    if correction is not None and not correction.strip():
        raise ConfigError("the correction is empty", hint="leave it out, or write the right answer")
    log = open_log(serve_config(overrides))
    try:
        if not is_ours(answer_id, log.keeping.key):
            raise ConfigError(
                f"this log has given no answer the id '{answer_id[:60]}'",
                hint="see them:  llmops logs query 'SELECT id, question FROM answers'",
            )
        log.feedback(
            answer_id, client=client, rating=rating, correction=correction, comment=comment
        )
    finally:
        log.close()
