"""A fake of Google's token service: hands out tokens that expire, and says which are good.

A service account's key file may name any address to get tokens from; the real client signs its
request with the key and takes the token that is answered.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.fakes.faults import google_error


@cache
def private_key() -> str:
    """Return a fresh RSA key as PEM, the same within one process."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def key_file(folder: Path, token_url: str) -> Path:
    """Write a service account's key that gets its tokens from ``token_url``."""
    path = folder / "service_account.json"
    path.write_text(json.dumps(key_info(token_url)), "utf-8")
    return path


def key_base64(token_url: str) -> str:
    """Return the same key as the course keeps it: base64, for an environment variable."""
    return base64.b64encode(json.dumps(key_info(token_url)).encode()).decode()


def key_info(token_url: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": "shop-project",
        "private_key_id": "1",
        "private_key": private_key(),
        "client_email": "llmops@shop-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{token_url}/token",
    }


class Identity:
    """Tokens that live ``seconds``; ``revoke`` makes all that were handed out bad at once."""

    def __init__(self, seconds: float = 3600) -> None:
        self.seconds = seconds
        self.issued = 0
        self.impersonated: list[tuple[str, dict[str, Any]]] = []
        self.may_impersonate = True
        self._good: dict[str, float] = {}
        self._numbers = itertools.count(1)

    def issue(self) -> dict[str, Any]:
        token = f"token-{next(self._numbers)}"
        self.issued += 1
        self._good[token] = time.monotonic() + self.seconds
        return {"access_token": token, "expires_in": int(self.seconds), "token_type": "Bearer"}

    def issue_for(self, account: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return a token of an account that another one impersonates, in IAM's own words."""
        token = self.issue()
        self.impersonated.append((account, body))
        ends = datetime.now(UTC) + timedelta(seconds=self.seconds)
        return {
            "accessToken": token["access_token"],
            "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def revoke(self) -> None:
        self._good.clear()

    def knows(self, authorization: str | None) -> bool:
        token = (authorization or "").removeprefix("Bearer ")
        return self._good.get(token, 0.0) > time.monotonic() or _is_self_signed(token)


def _is_self_signed(token: str) -> bool:
    """Say whether a service account signed this itself, as some clients do without asking."""
    from cryptography.hazmat.primitives import serialization
    from google.auth import exceptions, jwt

    key = serialization.load_pem_private_key(private_key().encode(), None).public_key()
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        jwt.decode(token, certs=key.public_bytes(encoding, form))
    except (ValueError, exceptions.GoogleAuthError):
        return False
    return True


def add_identity(app: FastAPI, identity: Identity) -> None:
    """Give an app the token service, and let nothing else pass without a good token."""

    @app.post("/token")
    def token() -> dict[str, Any]:
        return identity.issue()

    @app.post("/v1/projects/-/serviceAccounts/{account}:generateAccessToken")
    async def impersonate(account: str, request: Request) -> Any:
        if not identity.may_impersonate:
            refused = "Permission 'iam.serviceAccounts.getAccessToken' denied"
            return JSONResponse(google_error(403, refused, "forbidden"), status_code=403)
        return identity.issue_for(account, await request.json())

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Any:
        if request.url.path == "/token" or identity.knows(request.headers.get("authorization")):
            return await call_next(request)
        return JSONResponse(google_error(401, "Invalid Credentials", "authError"), status_code=401)
