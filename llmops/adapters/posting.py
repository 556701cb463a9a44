"""Sends JSON to an address that a user named, once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmops.adapters.secrets import reveal
from llmops.errors import BackendError, ConfigError
from llmops.secrecy import masked

TIMEOUT_S = 5.0


def post(address: str, body: Mapping[str, Any]) -> None:
    """Post ``body`` without the secrets in it; each ``${secret:NAME}`` of the address is revealed.

    Raises:
        ConfigError: If a secret is not set, or it is no HTTP address.
        BackendError: If nobody answers there within ``TIMEOUT_S``, or the answer is an error.
    """
    import http.client
    import urllib.error
    import urllib.request  # slow to import, and most runs tell nobody

    url = reveal(address)
    if not url.startswith(("https://", "http://")):
        raise ConfigError("not an HTTP address", hint="https://...")
    data = masked(json.dumps(body, ensure_ascii=False, allow_nan=False)).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass
    except urllib.error.HTTPError as exc:
        retryable = exc.code in (429, *range(500, 600))
        raise BackendError(f"answered {exc.code} {exc.reason}", retryable=retryable) from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        raise BackendError(f"nobody took it: {reason}", retryable=True) from exc
