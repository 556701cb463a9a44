"""Nothing that a config, a dataset, a model file or a request holds can become code that runs.

A look at the source, beside the tests that try: ``_target_`` in ``tests/golden/config``, template
code in data in ``tests/faults/test_bad_bytes.py``, SQL in ``tests/unit/warehouse/test_sandbox.py``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "llmops").rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("joblib.load", "torch.load", "np.load", "numpy.load", "pandas.read_pickle", "pd.read_pickle"),
    *("hydra.utils.instantiate", "hydra.utils.call", "instantiate", "runpy.run_path"),
}
SAFE_LOADERS = ("SafeLoader", "CSafeLoader", "loader", "_Loader")
# The source of a KFP component is made from a fixed text and the checked name of a step.
ALLOWED = {("llmops/engines/pipeline.py", "exec"), ("llmops/engines/pipeline.py", "compile")}


def _name(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _findings(path: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names]
            for name in names:
                if name.partition(".")[0] in FORBIDDEN_MODULES:
                    yield f"{path}:{node.lineno} imports {name}"
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in FORBIDDEN_CALLS:
                    yield f"{path}:{node.lineno} imports {alias.name} of {node.module}"
        if isinstance(node, ast.Call):
            yield from _call(path, node)


def _call(path: str, node: ast.Call) -> Iterator[str]:
    name = _name(node.func)
    if name in FORBIDDEN_CALLS and (path, name) not in ALLOWED:
        yield f"{path}:{node.lineno} calls {name}"
    if name in ("yaml.load", "yaml.load_all"):
        given = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
        loader = ast.unparse(given[0]) if given else "Loader, by default"
        if not any(safe in loader for safe in SAFE_LOADERS):
            yield f"{path}:{node.lineno} loads YAML with {loader}"
    for keyword in node.keywords:
        unsafe = keyword.arg in ("shell", "allow_pickle", "trust_remote_code")
        if unsafe and ast.unparse(keyword.value) != "False":
            yield f"{path}:{node.lineno} sets {keyword.arg}"


def test_there_is_source_to_look_at():
    assert len(SOURCES) > 150


def test_no_source_can_make_code_of_data():
    found = [
        finding
        for path in SOURCES
        for finding in _findings(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "eval(text)",
        "import os\nos.system(text)",
        "import torch\ntorch.load(path)",
        "from torch import load",
        "from os import system as run",
        "import joblib\njoblib.load(path)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.unsafe_load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import numpy\nnumpy.memmap(path, allow_pickle=True)",
        "from hydra.utils import instantiate\ninstantiate(config)",
    ],
)
def test_what_would_make_code_of_data_is_seen(source):
    assert list(_findings("x.py", source))
