"""The container image of a run: which bytes its name stood for.

A tag can be moved, a digest cannot: a run asks the registry once, runs the digest, and records
it. Where the registry does not answer this machine, the run goes by the tag and the record says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SECONDS = 10.0
MANIFESTS = ", ".join(
    f"application/{kind}+json"
    for kind in (
        "vnd.oci.image.index.v1",
        "vnd.oci.image.manifest.v1",
        "vnd.docker.distribution.manifest.list.v2",
        "vnd.docker.distribution.manifest.v2",
    )
)
_NAME = re.compile(
    r"^(?:(?P<host>[^/]+(?:[.:][^/]+|localhost))/)?(?P<path>[^:@]+)"
    r"(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)
HUB = "registry-1.docker.io"  # the registry of names without one


@dataclass(frozen=True)
class Image:
    """An image: its name, its digest, and why that is not known if it is null."""

    name: str
    digest: str | None
    unknown: str = ""

    @property
    def pinned(self) -> str:
        """The name that stands for these bytes alone, if they are known."""
        if self.digest is None or "@" in self.name:
            return self.name
        return f"{self.name}@{self.digest}"

    def facts(self) -> dict[str, Any]:
        """Return what the run record says of it."""
        return {"image": self.name, "image_digest": self.digest, "image_unknown": self.unknown}


def image_of(kept: Mapping[str, Any]) -> Image:
    """Return the image that a run folder's facts name."""
    return Image(kept["image"], kept["image_digest"], kept["image_unknown"])


def resolved(name: str, token: Callable[[], str] | None = None) -> Image:
    """Ask the image's registry for the digest of ``name``; see the module's text.

    Args:
        name: ``host/path:tag`` or ``host/path@sha256:...``.
        token: Gives Google's access token, for its registries; None: ask as anybody.
    """
    found = _NAME.match(name)
    if found is None:
        return Image(name, None, "it is not a name that a registry knows")
    if found["digest"]:
        return Image(name, found["digest"])
    import requests

    try:
        return Image(name, _ask(found, token))
    except (requests.RequestException, ValueError, KeyError) as exc:
        return Image(name, None, f"its registry does not say: {type(exc).__name__}: {exc}"[:300])


def _ask(name: re.Match[str], token: Callable[[], str] | None) -> str:
    import requests

    host = name["host"] or HUB
    scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    path = name["path"] if name["host"] or "/" in name["path"] else f"library/{name['path']}"
    url = f"{scheme}://{host}/v2/{path}/manifests/{name['tag'] or 'latest'}"
    headers = {"Accept": MANIFESTS}
    if token and host.endswith((".pkg.dev", "gcr.io")):
        headers["Authorization"] = f"Bearer {token()}"
    answer = requests.head(url, headers=headers, timeout=SECONDS)
    if answer.status_code == 401 and "Authorization" not in headers:
        headers["Authorization"] = f"Bearer {_anonymous_token(answer)}"
        answer = requests.head(url, headers=headers, timeout=SECONDS)
    answer.raise_for_status()
    return str(answer.headers["Docker-Content-Digest"])


def _anonymous_token(answer: Any) -> str:
    """Return the token that a registry gives anybody, as its challenge says where to ask."""
    import requests

    challenge = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers["WWW-Authenticate"]))
    realm = challenge.pop("realm")
    given = requests.get(realm, params=challenge, timeout=SECONDS)
    given.raise_for_status()
    return str(given.json()["token"])
