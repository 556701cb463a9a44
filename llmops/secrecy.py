"""What looks like a secret, and how it is kept out of logs, messages and records.

A secret reaches llmops in two ways: in the environment, where it belongs, and by mistake in a
config or a text. The first is known by the variable's name and its value is masked wherever it
would be written; the second is known by its shape. Knows no config and no file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"
LEAST = 8  # characters of a value that is masked wherever it stands; shorter ones are words
_REFERENCE = re.compile(r"\$\{secret:[^}]*\}")
_VARIABLE = re.compile(
    r"(?:^|_)(?:TOKEN|KEY|KEY_ID|PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|CREDENTIALS?|PAT|DSN)$"
)
_NAMES = (
    r"token|secret|password|passwd|passphrase|credentials?|sig|signature|"
    r"(?:api|access|secret|private|signing|encryption|account)_?key"
)
# "no credentials: nothing answers": the word names no value here, and a word follows it.
_PROSE = r"credentials:\ (?-i:[a-z]+)(?![^\s,;.)])"
_KEY = re.compile(rf"(?:^|[_.-])(?:{_NAMES})$", re.IGNORECASE)
_SHAPES = re.compile(
    rf"""(?P<url>(?<=://)[^/\s:@'"]*:[^/\s@'"]+(?=@))
    |(?P<named>(?<=[?&_.\s'"-])(?!{_PROSE})(?:[a-z0-9]+[_-])*(?:{_NAMES})['"]?(?:=|:\ ?))
        (?P<value>(?!['"]?\$\{{)(?:'[^']*'|"[^"]*"|[^&\s'"<>,]+))
    |(?P<pem>-----BEGIN[A-Z ]*PRIVATE[ ]KEY-----(?:[\s\S]*?-----END[A-Z ]*PRIVATE[ ]KEY-----)?)
    |(?P<bearer>(?<=Bearer[ ])[A-Za-z0-9._~+/-]{{8,}}=*)
    |(?P<known>\b(?:AKIA[0-9A-Z]{{16}}|AIza[\w-]{{30,}}|ya29\.[\w-]{{10,}}|gh[pousr]_\w{{20,}}
        |github_pat_\w{{20,}}|glpat-[\w-]{{16,}}|hf_[A-Za-z0-9]{{20,}}|sk-[\w-]{{20,}}
        |xox[abprs]-[\w-]{{10,}}|eyJ[\w-]{{8,}}\.eyJ[\w-]{{8,}}\.[\w-]{{8,}}))""",
    re.VERBOSE | re.IGNORECASE,
)


def masked(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text without the secrets in it: values of the environment, and known shapes."""
    found = of_environment(os.environ if environment is None else environment)
    for value in sorted(found, key=len, reverse=True):
        text = text.replace(value, MASK)
    return _SHAPES.sub(lambda hit: f"{hit['named'] or ''}{MASK}", text)


def looks_secret(key: str, value: str) -> bool:
    """Say whether a config's literal value should have been ``${secret:NAME}``."""
    plain = _REFERENCE.sub("", value)
    if not plain:
        return False
    return bool(_KEY.search(key)) or masked(plain) != plain


def masked_value(key: str, value: Any) -> Any:
    """Return a config's value without what looks like a secret in it."""
    if isinstance(value, Mapping):
        return {name: masked_value(str(name), item) for name, item in value.items()}
    if isinstance(value, list):
        return [masked_value(key, item) for item in value]
    return MASK if isinstance(value, str) and looks_secret(key, value) else value


def of_environment(environment: Mapping[str, str]) -> set[str]:
    """Return the values of variables whose names say that they are secrets, as they may appear."""
    found: set[str] = set()
    for name, value in environment.items():
        if _VARIABLE.search(name.upper()) and not value.startswith("/"):  # a path is no secret
            found |= {form for form in _forms(value) if len(form) >= LEAST}
    return found


def _forms(value: str) -> Iterator[str]:
    """Yield a value as it is, line by line, and as JSON and URLs write it."""
    yield value
    if "\n" in value:
        yield from (line.strip() for line in value.splitlines())
        yield value.replace("\n", "\\n")
    if not value.isalnum():
        from urllib.parse import quote

        yield quote(value, safe="")
        yield value.replace("\\", "\\\\").replace('"', '\\"')


def copy_masked(source: int, target: int) -> None:
    """Copy lines from one file descriptor to another, masked, until the source ends."""
    held = b""
    while chunk := os.read(source, 65536):
        held += chunk
        whole, newline, rest = held.rpartition(b"\n")
        if newline or len(held) > 1_000_000:  # a line without end is cut rather than kept
            ready, held = (whole + newline, rest) if newline else (held, b"")
            _write(target, ready)
    _write(target, held)


def _write(target: int, data: bytes) -> None:
    text = masked(data.decode("utf-8", "surrogateescape"))
    left = text.encode("utf-8", "surrogateescape")
    while left:
        left = left[os.write(target, left) :]
