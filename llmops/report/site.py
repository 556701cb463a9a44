"""Pages of a static site: tables and texts, in the style of the report, linked by relative paths.

Knows rows and links; what stands in them is decided above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmops.report.lineage_graph import LineageGraph
from llmops.report.rendering import render


@dataclass(frozen=True)
class SiteRow:
    """A row of a table: its first cell leads to ``link``, if there is one; ``bad`` is red."""

    cells: tuple[str, ...]
    link: str = ""
    bad: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page: a graph, a table, or a text; ``filter`` puts a field above the table."""

    id: str
    title: str
    heads: tuple[str, ...] = ()
    rows: tuple[SiteRow, ...] = ()
    caption: str = ""
    text: str = ""
    filter: bool = False
    graph: LineageGraph | None = None


def page(
    title: str, sections: Sequence[Section], *, up: str = "", notes: Sequence[str] = ()
) -> str:
    """Return a page; ``up`` is the relative path of the index."""
    context = {"title": title, "sections": sections, "up": up, "notes": list(notes)}
    return render("site.html.j2", context, script="site.js")
