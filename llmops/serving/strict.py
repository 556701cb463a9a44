"""JSON as it should be: UTF-8, no NaN, no half characters, no key twice, no bottomless nesting."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

import msgspec

from llmops.serving.faults import Fault

T = TypeVar("T")
MAX_DEPTH = 64
_LOOKED_AT = 200  # characters of a message that may quote the request


def parsed(body: bytes, shape: type[T]) -> T:
    """Read a request's body.

    Raises:
        Fault: 400, if it is no JSON in the sense above, or not of that shape.
    """
    value = _value(body)
    try:
        return msgspec.convert(value, shape, strict=True)
    except msgspec.ValidationError as exc:
        message = str(exc)[:_LOOKED_AT]
        raise Fault(400, message, code="invalid_body", param=_param(str(exc))) from None


def _value(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Fault(400, f"the body is not UTF-8 ({exc.reason})", code="invalid_encoding") from None
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise Fault(400, f"the body is no JSON: {exc}"[:_LOOKED_AT], code="invalid_json") from None
    if "\\u" in text:
        _check_characters(value)
    return value


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth, in_text, escaped = 0, False, False
    for letter in text:
        if in_text:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                in_text = False
        elif letter == '"':
            in_text = True
        elif letter in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Fault(
                    400, f"the body is nested more than {MAX_DEPTH} deep", code="invalid_json"
                )
        elif letter in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _check_characters(value: Any) -> None:
    """Refuse half characters, which an escape can spell and no encoding can carry."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise Fault(
            400, "the body holds half a character (a lone surrogate)", code="invalid_encoding"
        ) from None


def _param(message: str) -> str | None:
    """Return the key that msgspec complains of, e.g. ``messages[0].role``; null for the whole."""
    _, found, path = message.rpartition(" - at `$")
    return path.rstrip("`").lstrip(".") or None if found else None
