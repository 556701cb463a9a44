"""``llmops init``: a project of one's own, with config, an own step and a workflow."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from llmops.errors import ConfigError, Refused

SUMMARY = "start a project: config that shadows the shipped one, an own step, a workflow"
SCAFFOLD = Path(__file__).resolve().parent / "scaffold"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_MOVED = {"gitignore": ".gitignore", "github": ".github"}  # names that tools would act on in place


def main(argv: Sequence[str]) -> int:
    """Write the project's files and say what to do next."""
    given = _parser().parse_args(argv)
    folder: Path = given.folder
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' cannot be a project's name",
            hint="small letters, digits, _ and -: my_project",
        )
    files = project_files(name)
    there = [path for path in files if (folder / path).exists()]
    if there and not given.force:
        raise Refused(
            f"{folder} has {', '.join(there)}", hint="another folder, or --force to replace them"
        )
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    _tell(folder, list(files), there, as_json=given.json)
    return 0


def project_files(name: str) -> dict[str, str]:
    """Return the text of each file of a new project, by its path, sorted."""
    from llmops.config import editor

    files = {_target(path, name): _filled(path, name) for path in SCAFFOLD.rglob("*.in")}
    files |= {f"conf/{editor.FOLDER}/{file}": text for file, text in editor.documents().items()}
    for path in [path for path in files if path.startswith("conf/") and path.endswith(".yaml")]:
        group = Path(path).parent.name
        line = f"{editor.MODELINE}../{editor.FOLDER}/{group}.json"
        files[path] = editor.with_line(files[path], line)
    return dict(sorted(files.items()))


def _module(name: str) -> str:
    return name.replace("-", "_")


def _target(path: Path, name: str) -> str:
    first, *rest = path.relative_to(SCAFFOLD).with_suffix("").parts
    if first == "steps.py":
        first = f"{_module(name)}_steps.py"
    return "/".join([_MOVED.get(first, first), *rest])


def _filled(path: Path, name: str) -> str:
    words = {"@name@": name, "@module@": _module(name), "@dashed@": name.replace("_", "-")}
    text = path.read_text("utf-8")
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text


def _tell(folder: Path, files: list[str], replaced: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(folder), "files": files, "replaced": replaced}, indent=1))
        return
    shown = [path for path in files if "/.schema/" not in path]
    print("\n".join(f"  {folder / path}" for path in shown))
    print(f"  {folder / 'conf/.schema'}/ for editors\n\nnext:")
    steps = (f"cd {folder}", "pip install -e .", "python -m llmops run +experiment=greeting")
    print("\n".join(f"  {step}" for step in steps))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops init", description=SUMMARY, epilog="example:  llmops init my_project"
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="its name is the project's")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser
