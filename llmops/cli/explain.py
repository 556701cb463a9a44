"""``llmops explain``: who set a key of the resolved config, and what that hides."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError, nearest
from llmops.secrecy import masked, masked_value

if TYPE_CHECKING:
    from llmops.config.provenance import Origin

_EPILOG = """examples:
  llmops explain tuning.max_steps +experiment=so_python
  llmops explain safety +experiment=so_python safety.thresholds.profanity=0.6"""


def main(argv: Sequence[str]) -> int:
    """Show the value of a key, or of every key below it, with its origin."""
    given = _parser().parse_intermixed_args(argv)
    explained = _explained(given.key, given.overrides)
    if given.json:
        print(json.dumps(explained, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(entry) for entry in explained))
    return 0


def _explained(key: str, overrides: list[str]) -> list[dict[str, Any]]:
    from llmops.config.compose import compose
    from llmops.config.provenance import provenance

    composed = compose(overrides)
    origins = provenance(composed)
    chosen = [name for name in origins if name == key or name.startswith(f"{key}.")]
    if not chosen:
        raise _unknown(key, list(origins))
    return [_entry(name, composed.config, origins[name]) for name in chosen]


def _unknown(key: str, leaves: list[str]) -> ConfigError:
    """Name the nearest key, and those beside it: a config has too many to list them all."""
    parts = [leaf.split(".") for leaf in leaves]
    known = {".".join(p[:depth]) for p in parts for depth in range(1, len(p) + 1)}
    above = key.split(".")[:-1]
    while above and ".".join(above) not in known:
        above.pop()
    beside = {p[len(above)] for p in parts if p[: len(above)] == above and len(p) > len(above)}
    where = f"below {'.'.join(above)}" if above else "at the top"
    hint = f"{nearest(key, known)} keys {where}: {', '.join(sorted(beside))}".strip()
    return ConfigError(f"explain: there is no key '{key}'", hint=hint)


def _entry(key: str, config: dict[str, Any], origin: Origin) -> dict[str, Any]:
    from llmops.config.schemas import described

    path = tuple(key.split("."))
    value: Any = config
    for part in path:
        value = value[part]
    return {
        "key": key,
        "value": masked_value(key, value),
        "set_by": masked(origin.set_by),
        "written": origin.written,
        "shadowed": [masked(place) for place in origin.shadowed],
        "about": described(path, config),
    }


def _lines(entry: dict[str, Any]) -> str:
    lines = [f"{entry['key']} = {json.dumps(entry['value'], ensure_ascii=False)}"]
    lines.append(f"    set by   {entry['set_by']}")
    if entry["written"]:
        lines.append(f"    written  {entry['written']}")
    lines += [f"    hides    {place}" for place in entry["shadowed"]]
    if entry["about"]:
        lines.append(f"    about    {entry['about']}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops explain",
        description="Say who set a key of the resolved config, and what that hides.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("key", metavar="KEY", help="a key or a group, e.g. tuning.max_steps")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="e.g. +experiment=NAME")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser
