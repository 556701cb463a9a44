"""Pages from templates: one style, everything inside the file, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment, Template

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, context: Mapping[str, Any], *, script: str = "page.js") -> str:
    """Return the page: ``context`` with the shared style, and a script that its policy allows."""
    from markupsafe import Markup

    code = (TEMPLATES / script).read_text("utf-8")
    return compiled(template).render(
        **context,
        style=Markup((TEMPLATES / "page.css").read_text("utf-8")),
        script=Markup(code),
        script_digest=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
    )


def compiled(template: str) -> Template:
    """Return a template, loaded once in a process."""
    return _environment().get_template(template)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from llmops.report import words
    from llmops.report.bytecode import TemplateBytecode

    options: dict[str, Any] = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        bytecode_cache=TemplateBytecode(options),
        **options,
    )
    environment.filters["markup"] = Markup  # for what drawing.py and script_json have escaped
    environment.globals["words"] = words
    return environment
