"""The bytecode of the pages' templates, kept where Python keeps that of its modules.

Jinja makes Python of a template, which takes longer than filling it. With this, it does so once a
machine: the code lies in ``__pycache__`` beside the template, written and read by Python's own
import system, which also minds folders that are read-only and ``PYTHONDONTWRITEBYTECODE``.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

from jinja2 import BytecodeCache, Environment, __version__
from jinja2.bccache import Bucket


class TemplateBytecode(BytecodeCache):
    """The cache of an environment whose templates are files.

    Args:
        options: What the environment was made with; other options, other code.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._maker = zlib.crc32(f"{__version__} {sorted(options.items())}".encode())

    def get_bucket(
        self, environment: Environment, name: str, filename: str | None, source: str
    ) -> Bucket:
        """Return the template's code: what was kept of this very text, or made and kept now."""
        bucket = Bucket(environment, name, "")
        if filename is not None:
            loader = _Loader(environment, name, filename, self._maker)
            try:
                bucket.code = loader.get_code(name)
            except (EOFError, ImportError, TypeError, ValueError):  # torn, as by a power cut
                bucket.code = loader.source_to_code(loader.get_data(filename), filename)
        return bucket


class _Loader(SourceFileLoader):
    """Python's loader of source files, with Jinja as the compiler."""

    def __init__(self, environment: Environment, name: str, path: str, maker: int) -> None:
        super().__init__(name, path)
        self._environment, self._maker = environment, maker

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Return what bytecode is valid for: this text by this maker, instead of a file's time."""
        text = self.get_data(path)
        return {"mtime": zlib.crc32(text, self._maker), "size": len(text)}

    def source_to_code(  # type: ignore[override]  # a static method in one of its two parents
        self, data: Any, path: Any, **_: Any
    ) -> CodeType:
        """Return the code that Jinja makes of a template's text."""
        return self._environment.compile(data.decode(), self.name, path)
