"""Write ``report.html``: one file that shows a run whole, offline, years later.

Everything stands inside it: style, script, figures, answers. It asks nothing of the network, and a
content policy in its head forbids it to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.files import write_text
from llmops.ports.store import Store
from llmops.report.drawing import draw
from llmops.report.reading import read
from llmops.report.rendering import compiled, render
from llmops.report.sections import header, sections

TEMPLATE = "report.html.j2"
CACHE = "report"  # the store's scratch folder for figures and tables that were made before


def prepare() -> None:
    """Import and compile what a report needs, which takes longer than most reports."""
    compiled(TEMPLATE)


def write_report(
    run_folder: Path,
    store: Store,
    run: Mapping[str, Any] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of the run in ``run_folder``, whole or not at all, and return its path.

    Sections that the run has nothing for are left out, so that a failed run and a run of any
    other pipeline have a page too. ``run`` is the record, where ``run.json`` does not hold it yet;
    ``lineage`` is what ``lineage.ancestry.as_json`` gives of the run, to be drawn.

    Raises:
        OSError: If the folder cannot be written to.
    """
    cache = store.scratch(CACHE)
    reading = read(run_folder, store, cache, run)
    found = sections(reading, lambda spec: draw(spec, cache), lineage)
    page = render(TEMPLATE, {"header": header(reading), "sections": found})
    path = run_folder / "report.html"
    write_text(path, page)
    return path
