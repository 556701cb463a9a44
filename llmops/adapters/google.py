"""What every adapter of Google Cloud shares: credentials, places and errors.

``environment`` is the resolved config's ``env`` section everywhere. Nothing here is paid for, and
nothing waits: without credentials the answer comes in about a second.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.errors import BackendError, ConfigError, LlmopsError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
SEARCH_SECONDS = 1.0  # a metadata server answers in milliseconds; nothing answers elsewhere
SEARCH_SECONDS_ON_GOOGLE = 30.0  # in a fresh container it may take a while to come up
RETRYABLE = (408, 429, 500, 502, 503, 504)
WAYS = (
    "log in with `gcloud auth application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS "
    "name a key file, or set env.credentials to service_account_file, base64_key or "
    "impersonation: docs/google_cloud.md"
)
_PRODUCT = Path("/sys/class/dmi/id/product_name")


def credentials(environment: Mapping[str, Any]) -> Credentials:
    """Return the credentials that ``env.credentials`` describes; by default the application's own.

    Raises:
        BackendError: If there are none, or they cannot be read. A metadata server is waited for
            ``SEARCH_SECONDS``, on a machine of Google's ``SEARCH_SECONDS_ON_GOOGLE``.
    """
    wanted = environment.get("credentials") or {"kind": "application_default"}
    if wanted["kind"] == "impersonation":
        return _impersonation(wanted, endpoint(environment, "iam"))
    return _KINDS[wanted["kind"]](wanted)


def place(environment: Mapping[str, Any], name: str) -> str:
    """Return ``env.<name>``: ``project``, ``region`` or ``bucket``.

    Raises:
        ConfigError: If the environment does not set it.
    """
    value = environment.get(name)
    if not value:
        raise ConfigError(
            f"env.{name} is not set, and Google Cloud needs it",
            hint=f"choose env=prod and set it in conf/env/prod.yaml, or say env.{name}=...",
        )
    return str(value)


def endpoint(environment: Mapping[str, Any], service: str) -> str | None:
    """Return the address of one of Google's services if ``env.endpoints`` sets its own."""
    found = (environment.get("endpoints") or {}).get(service)
    return None if found is None else str(found).rstrip("/")


@contextlib.contextmanager
def translated(service: str) -> Iterator[None]:
    """Raise what Google's clients raise as one of our errors; a bug of ours passes unchanged."""
    try:
        yield
    except Exception as exc:
        error = failure(exc, service)
        if error is None:
            raise
        raise error from exc


def failure(exc: BaseException, service: str) -> LlmopsError | None:
    """Return our error for one of Google's clients' or its transport's, or None for any other."""
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    if isinstance(exc, api.RetryError):
        return failure(exc.cause, service) or _unreachable(service, exc)
    if isinstance(exc, api.GoogleAPICallError):
        return _refusal(exc, service)
    if isinstance(exc, auth.TransportError | requests.RequestException | ConnectionError):
        return _unreachable(service, exc)
    if isinstance(exc, auth.GoogleAuthError) and exc.retryable:
        return _unreachable("Google's token service", exc)
    if isinstance(exc, auth.GoogleAuthError):
        return BackendError(f"{service}: the credentials are not accepted ({exc})", hint=WAYS)
    return None


def _refusal(exc: Any, service: str) -> BackendError:
    code = None if exc.code is None else int(exc.code)
    hints = {
        401: WAYS,
        403: "give the account the role that the message names: docs/google_cloud.md",
        404: "check env.project, env.region and env.bucket",
        429: "the quota is used up: wait, or ask for more in the Cloud console",
    }
    retryable = code in RETRYABLE
    hint = hints.get(code or 0, "run it again: finished steps are kept" if retryable else "")
    return BackendError(
        f"{service} answered {code or 'with an error'}: {exc.message}",
        hint=hint,
        retryable=retryable,
    )


def _unreachable(service: str, exc: BaseException) -> BackendError:
    return BackendError(
        f"{service} cannot be reached: {exc}",
        hint="check the network, and env.endpoints if it is set; then run it again",
        retryable=True,
    )


# ---------------------------------------------------------------- the four kinds


def _application_default(_: Mapping[str, Any]) -> Credentials:
    import google.auth.transport.requests  # not within the time: a busy machine imports slowly

    if _kept_here():
        try:
            made: Credentials = google.auth.default(scopes=SCOPES)[0]
        except google.auth.exceptions.DefaultCredentialsError as exc:
            raise _none(str(exc)) from exc
        return made
    return _from_metadata_server()


def _kept_here() -> bool:
    """Say whether a file of this machine holds the application's credentials.

    https://cloud.google.com/docs/authentication/application-default-credentials
    """
    if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return True
    folder = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud"
    return (Path(folder) / "application_default_credentials.json").exists()


def _from_metadata_server() -> Credentials:
    found: list[Any] = []
    search = threading.Thread(target=_search, args=(found,), daemon=True)
    search.start()
    search.join(SEARCH_SECONDS_ON_GOOGLE if _on_google() else SEARCH_SECONDS)
    if not found:
        raise _none("nothing answers in the place of a metadata server")
    if isinstance(found[0], BaseException):
        raise _none(str(found[0])) from found[0]
    made: Credentials = found[0]
    return made


def _search(found: list[Any]) -> None:
    logging.getLogger("google.auth").setLevel(logging.ERROR)  # our error says it
    try:
        import google.auth

        found.append(google.auth.default(scopes=SCOPES)[0])
    except Exception as exc:  # noqa: BLE001 - raised again in the thread that asked
        found.append(exc)


def _on_google() -> bool:
    """Say whether this is a machine of Google's or a container of a cluster."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    try:
        return _PRODUCT.read_text("utf-8").startswith("Google")
    except OSError:
        return False


def _service_account_file(wanted: Mapping[str, Any]) -> Credentials:
    path = Path(wanted["file"]).expanduser()
    try:
        return _service_account(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as exc:
        raise _none(f"{path} cannot be read: {exc}") from exc


def _base64_key(wanted: Mapping[str, Any]) -> Credentials:
    name = str(wanted["variable"])
    encoded = os.environ.get(name)
    if not encoded:
        raise _none(f"the environment variable {name} is not set")
    try:
        key = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise _none(f"the environment variable {name} is not base64 of a key file") from exc
    return _service_account(key, f"the environment variable {name}")


def _service_account(key: str, where: str) -> Credentials:
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account

    try:
        from_info: Any = service_account.Credentials.from_service_account_info
        made: Credentials = from_info(json.loads(key), scopes=SCOPES)
    except (ValueError, TypeError, AttributeError, GoogleAuthError) as exc:
        raise _none(f"{where} is not a service account's key: {type(exc).__name__}") from exc
    return made


def _impersonation(wanted: Mapping[str, Any], iam: str | None) -> Credentials:
    from google.auth import impersonated_credentials

    account = str(wanted["service_account"])
    path = f"v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    impersonate: Any = impersonated_credentials.Credentials
    made: Credentials = impersonate(
        source_credentials=_application_default(wanted),
        target_principal=account,
        target_scopes=list(SCOPES),
        iam_endpoint_override=f"{iam}/{path}" if iam else None,
    )
    return made


def _none(why: str) -> BackendError:
    return BackendError(f"no credentials for Google Cloud ({why})", hint=WAYS)


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Credentials]] = {
    "application_default": _application_default,
    "service_account_file": _service_account_file,
    "base64_key": _base64_key,
}
