"""``llmops schema``: write the JSON Schemas that editors check ``conf/`` with."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from llmops.errors import ConfigError, Refused

SUMMARY = "write the JSON Schemas that editors check conf/ with"
_EPILOG = """examples:
  llmops schema                  write conf/.schema/*.json of the project
  llmops schema --add-lines      and give each YAML file the line that names its schema
  llmops schema --check          write nothing; end with 3 if something is missing or old"""


def main(argv: Sequence[str]) -> int:
    """Write the schemas, or say which are missing or old."""
    given = _parser().parse_args(argv)
    from llmops.config import editor
    from llmops.config.project import project_conf

    conf = project_conf()
    if conf is None and given.out is None:
        raise ConfigError("there is no conf/ here to write into", hint="llmops schema --out DIR")
    target = given.out or conf / editor.FOLDER  # type: ignore[operator]
    old = _old(target, editor.documents())
    lacking = [line for line in editor.lines(conf) if not line.present] if conf else []
    if not given.check:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in editor.documents().items():
            (target / name).write_text(text, encoding="utf-8")
    if given.add_lines and not given.check:
        for line in lacking:
            text = editor.with_line(line.path.read_text("utf-8"), line.wanted)
            line.path.write_text(text, encoding="utf-8")
        lacking = []
    return _tell(given, target, old, [str(line.path) for line in lacking])


def _old(target: Path, documents: dict[str, str]) -> list[str]:
    return [
        name
        for name, text in documents.items()
        if not (target / name).is_file() or (target / name).read_text("utf-8") != text
    ]


def _tell(given: argparse.Namespace, target: Path, old: list[str], lacking: list[str]) -> int:
    if given.json:
        told = {"folder": str(target), "old": old, "files_without_line": lacking}
        print(json.dumps(told, indent=1))
    elif not given.check:
        print(f"{target}: {len(old)} of the schemas were missing or old")
        for path in lacking:
            print(f"{path}: has no line that names its schema; --add-lines gives it one")
    if given.check and (old or lacking):
        named = ", ".join([*(str(target / name) for name in old), *lacking])
        raise Refused(
            f"missing, old or without its line: {named}", hint="llmops schema --add-lines"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops schema",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="another folder than conf/.schema")
    parser.add_argument(
        "--add-lines", action="store_true", help="name its schema in each YAML file of conf/"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 3 if something is old")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser
