"""``llmops doctor``: what works on this machine, and what to do about the rest.

Looks only: it starts nothing, fetches nothing, and asks no service that the config does not name.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llmops.errors import LlmopsError

SUMMARY = "say what works on this machine, and what to do about the rest"
LEAST_BYTES = 2_000_000_000  # of free disk: the small model takes 270 MB, its tuning some more
PYTHONS = ((3, 11), (3, 14))  # from, to but without
# Services that a part of the config may name, and the host that answers for each kind.
SERVICES: Mapping[tuple[str, str], str] = {
    ("warehouse", "bigquery"): "bigquery.googleapis.com",
    ("store", "gcs"): "storage.googleapis.com",
    ("model", "gemini"): "aiplatform.googleapis.com",
    ("engine", "vertex"): "aiplatform.googleapis.com",
}
_CONNECT_S = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``todo`` is empty if it is well."""

    what: str
    state: Literal["ok", "warn", "fail"]
    found: str
    todo: str = ""


def main(argv: Sequence[str]) -> int:
    """Look at everything; 3 if something that llmops needs does not work."""
    given = _parser().parse_args(argv)
    findings = list(examine(given.overrides))
    if given.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        print("\n".join(_lines(findings)))
    return 3 if any(finding.state == "fail" for finding in findings) else 0


def examine(overrides: Sequence[str]) -> Iterator[Finding]:
    """Look at one thing after the other; what breaks is a finding too."""
    looks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _workspace,
        lambda: _model(overrides),
        _locks,
        lambda: _services(overrides),
    ]
    for look in looks:
        try:
            yield from look()
        except (LlmopsError, OSError) as exc:
            hint = exc.hint if isinstance(exc, LlmopsError) else ""
            yield Finding("config", "fail", str(exc).splitlines()[0], hint or "llmops validate")


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    fits = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    todo = "" if fits else "make a virtual environment with Python 3.11, 3.12 or 3.13"
    yield Finding("python", "ok" if fits else "fail", f"{found} at {sys.executable}", todo)


def _packages() -> Iterator[Finding]:
    from importlib.metadata import requires

    needed: list[str] = []
    extra: list[str] = []
    for requirement in requires("llmops") or ():
        if "extra ==" not in requirement or "extra == 'local'" in requirement:
            wrong = _unmet(requirement)
            (extra if "extra ==" in requirement else needed).extend([wrong] if wrong else [])
    todo = "install llmops again with its constraints.txt" if needed else ""
    yield Finding("packages", "fail" if needed else "ok", "; ".join(needed) or "as pinned", todo)
    todo = "pip install 'llmops[local]', unless another provider's model is used" if extra else ""
    found = "; ".join(extra) or "as pinned"
    yield Finding("packages for the local model", "warn" if extra else "ok", found, todo)


def _unmet(requirement: str) -> str:
    from packaging.requirements import Requirement

    from llmops.packages import installed_version

    wanted = Requirement(requirement)
    found = installed_version(wanted.name)
    if found is None:
        return f"{wanted.name} is missing"
    fits = wanted.specifier.contains(found, prereleases=True)
    return "" if fits else f"{wanted.name} {found} is not {wanted.specifier}"


def _workspace() -> Iterator[Finding]:
    from llmops.config.project import conf_folders, workspace

    folder = workspace()
    yield Finding("config", "ok", ", then ".join(str(conf.path) for conf in conf_folders()))
    writable = os.access(folder, os.W_OK)
    todo = "" if writable else "let LLMOPS_WORKSPACE name a folder that you may write to"
    yield Finding("workspace", "ok" if writable else "fail", str(folder), todo)
    free = shutil.disk_usage(folder).free
    todo = (
        "" if free >= LEAST_BYTES else "free some space, or let LLMOPS_WORKSPACE name another disk"
    )
    state: Literal["ok", "warn"] = "warn" if todo else "ok"
    yield Finding("disk", state, f"{free / 1e9:.1f} GB free at {folder}", todo)


def _model(overrides: Sequence[str]) -> Iterator[Finding]:
    from llmops.adapters.catalog import model_cache
    from llmops.config.compose import group

    cache = model_cache()
    above = next(path for path in (cache, *cache.parents) if path.exists())
    if not os.access(above, os.W_OK):
        todo = "let LLMOPS_CACHE name a folder that you may write to"
        yield Finding("model cache", "fail", f"{above} cannot be written", todo)
    model = group("model", [text for text in overrides if text.startswith("model")])
    if model["kind"] == "local":
        from llmops.adapters.model import weights

        try:
            found = weights.find(model, cache)
        except LlmopsError as exc:
            yield Finding("model", "warn", exc.problem, exc.hint or weights.PULL)
        else:
            size = f"{found.bytes / 1e6:.0f} MB in {found.folder}"
            yield Finding("model", "ok", f"{model['base']}, {size}")


def _locks() -> Iterator[Finding]:
    from llmops.config.project import workspace
    from llmops.lineage.lock import read_lock

    paths = sorted((workspace() / "runs").glob("*.lock.yaml"))
    for path in paths:
        try:
            read_lock(path)
        except LlmopsError as exc:
            yield Finding("lock", "fail", exc.problem, exc.hint or "accept a run again")
    if not paths:
        yield Finding("locks", "ok", "none yet")
    else:
        yield Finding("locks", "ok", ", ".join(path.name for path in paths))


def _services(overrides: Sequence[str]) -> Iterator[Finding]:
    from llmops.config.compose import group

    kinds: dict[str, Any] = {}
    for name in ("warehouse", "store", "model", "engine"):
        chosen = [text for text in overrides if text.startswith(name)]
        kinds[name] = group(name, chosen)["kind"]
    hosts = {host for (name, kind), host in SERVICES.items() if kinds[name] == kind}
    if not hosts:
        yield Finding("services", "ok", "none: everything runs on this machine")
        return
    yield _credentials()
    for host in sorted(hosts):
        yield _reached(host)


def _credentials() -> Finding:
    """Look where credentials lie; never ask the metadata server, which may not answer for long."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    usual = Path.home() / ".config" / "gcloud" / "application_default_credentials.json"
    path = Path(named) if named else usual
    if path.is_file():
        return Finding("credentials", "ok", str(path))
    todo = "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
    return Finding("credentials", "warn", f"no file at {path}", todo)


def _reached(host: str) -> Finding:
    import socket

    try:
        socket.create_connection((host, 443), timeout=_CONNECT_S).close()
    except OSError as exc:
        todo = "check the network, a proxy or a firewall"
        return Finding("service", "fail", f"{host} does not answer: {exc}", todo)
    return Finding("service", "ok", f"{host} answers")


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.state:<5}{finding.what:<30}{finding.found}"
        if finding.todo:
            yield f"{'':<35}-> {finding.todo}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops doctor", description=SUMMARY, epilog="example:  llmops doctor model=smollm2"
    )
    parser.add_argument("overrides", nargs="*", metavar="GROUP=CHOICE", help="e.g. model=smollm2")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser
