"""Which code decides the result of each step kind, as digests: ``make revisions`` records them.

A kind's code is the module of its ``run``, the modules it names in ``code``, every adapter of the
ports it uses, and whatever of llmops these import. Left out are the floors that carry data between
steps but do not make it. Comments, docstrings and layout do not count, nor does the version of
Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import llmops
from llmops.adapters.catalog import ADAPTERS
from llmops.plan.kinds import StepKind
from llmops.steps import step_kinds

ROOT = Path(llmops.__file__).parent.parent
GOLDEN = Path(__file__).with_suffix(".json")
NOT_FOLLOWED = (
    "llmops.adapters.catalog",
    "llmops.artifacts",
    "llmops.config",
    "llmops.errors",
    "llmops.files",
    "llmops.plan",
    "llmops.ports",
)
DIGITS = 16


def current() -> dict[str, dict[str, object]]:
    """Return ``{kind: {"revision": n, "modules": {module: digest}}}`` of the built-in kinds."""
    return {
        name: {"revision": kind.revision, "modules": _modules(kind)}
        for name, kind in sorted(step_kinds().items())
    }


def code_digest(source: str) -> str:
    """Return a digest of what the code does: blind to comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        _drop_docstring(node)
    return hashlib.sha256("\n".join(_words(tree)).encode()).hexdigest()[:DIGITS]


def imported(source: str) -> set[str]:
    """Return the modules of llmops that ``source`` imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("llmops.") and _file(name)}


def record() -> None:
    """Write the golden file."""
    GOLDEN.write_text(json.dumps(current(), indent=1) + "\n", "utf-8")


def recorded() -> Mapping[str, Mapping[str, object]]:
    """Read the golden file."""
    golden: Mapping[str, Mapping[str, object]] = json.loads(GOLDEN.read_text("utf-8"))
    return golden


def _modules(kind: StepKind) -> dict[str, str]:
    todo = {kind.run.__module__, *kind.code}
    todo |= {entry.module for port in kind.uses for entry in ADAPTERS[port].values()}
    seen: dict[str, str] = {}
    while todo:
        module = todo.pop()
        path = _file(module)
        if path is None:
            raise LookupError(f"step kind {kind.name} names the module {module}: there is none")
        code = _read(path)
        seen[module] = code.digest
        todo |= {name for name in code.imports if name not in seen and _followed(name)}
    return dict(sorted(seen.items()))


@dataclass(frozen=True)
class _Code:
    digest: str
    imports: frozenset[str]


@functools.cache
def _read(path: Path) -> _Code:
    source = path.read_text("utf-8")
    return _Code(code_digest(source), frozenset(imported(source)))


def _followed(module: str) -> bool:
    return not any(module == name or module.startswith(f"{name}.") for name in NOT_FOLLOWED)


def _file(module: str) -> Path | None:
    """Return the module's file, or None for a name that is no module; nothing is imported."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _drop_docstring(node: ast.AST) -> None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        node.body = [*node.body[1:]] or [ast.Pass()]


def _words(node: object) -> Iterator[str]:
    """Spell a tree out; empty fields are skipped, as each version of Python adds new ones."""
    if isinstance(node, ast.Constant):
        yield repr(node.value)
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield f".{name}"
                yield from _words(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _words(item)
        yield "]"
    else:
        yield repr(node)


if __name__ == "__main__":
    record()
