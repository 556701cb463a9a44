"""What BigQuery's errors mean to a user. The only place that reads its messages.

https://cloud.google.com/bigquery/docs/error-messages
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmops.adapters import google
from llmops.errors import BackendError, ConfigError, LlmopsError, Refused

SERVICE = "BigQuery"
# A rate is a matter of seconds; `quotaExceeded` is one of days, and waiting does not help.
RETRYABLE = ("rateLimitExceeded", "jobRateLimitExceeded", "backendError", "internalError")
SPELLING = "docs/google_cloud.md says how queries are checked; they are in BigQuery's own dialect"
_PLACE = re.compile(r" at \[(?P<line>\d+):(?P<column>\d+)\]")
_COLUMN = re.compile(
    r"Unrecognized name: (?P<name>[\w.]+)(?:; Did you mean (?P<guess>\w+)\?)?"
    r"|Name (?P<inside>\w+) not found inside \w+(?:; Did you mean (?P<other>\w+)\?)?"
)
_FUNCTION = re.compile(r"Function not found: (?P<name>[\w.]+)")


def failure(exc: BaseException, service: str) -> LlmopsError | None:
    """Return our error for what BigQuery's client raised; None for a bug of ours."""
    from google.api_core.exceptions import GoogleAPICallError

    if isinstance(exc, GoogleAPICallError):
        first = (exc.errors or [{}])[0]
        if isinstance(first, Mapping) and (known := _known(first, exc.message)):
            return known
    return google.failure(exc, service)


def job_failure(error: Mapping[str, Any], job: str) -> LlmopsError:
    """Return our error for the ``errorResult`` of a job that failed."""
    message = str(error.get("message", "no reason given"))
    return _known(error, message) or BackendError(
        f"job {job} failed: {error.get('reason')}: {message}",
        hint="see the job in the Cloud console",
    )


def _known(error: Mapping[str, Any], message: str) -> LlmopsError | None:
    reason = error.get("reason")
    if reason == "invalidQuery":
        return _invalid(message)
    if reason == "bytesBilledLimitExceeded":
        return Refused(
            f"the query would bill more than it may: {message}",
            hint="name fewer columns, or raise warehouse.maximum_bytes_billed",
        )
    if reason in ("resourcesExceeded", "responseTooLarge"):
        return BackendError(
            f"{SERVICE} could not hold the result: {message}",
            hint="set dataset.max_rows: rows are put in one order, and that takes memory",
        )
    if reason == "quotaExceeded":
        return BackendError(
            f"{SERVICE}: {message}", hint="the quota of the project is used up for today"
        )
    if reason in RETRYABLE:
        return BackendError(f"{SERVICE}: {message}", hint="run it again", retryable=True)
    return None


def _invalid(message: str) -> ConfigError:
    found = _PLACE.search(message)
    place = f"line {found['line']}, column {found['column']}" if found else "the query"
    if column := _COLUMN.search(message):
        name, guess = column["name"] or column["inside"], column["guess"] or column["other"]
        hint = f"did you mean '{guess}'?" if guess else "see the columns with `warehouse tables`"
        return ConfigError(f"{place}: there is no column '{name}'", hint=hint)
    if function := _FUNCTION.search(message):
        name = function["name"].upper()
        return ConfigError(f"{place}: there is no function {name}", hint=SPELLING)
    return ConfigError(f"{place}: {_PLACE.sub('', message)}", hint=SPELLING)
