"""Write the workspace as a static site: runs, sweeps, comparisons, datasets, models, lineage."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.api.ancestry import Registries, compare, registries, whole_ancestry
from llmops.api.past import datasets, run_rows
from llmops.api.registering import card
from llmops.api.sweeping import sweeps
from llmops.errors import LlmopsError
from llmops.files import disk_errors, write_text
from llmops.lineage.ancestry import Ancestry, as_json, tree
from llmops.lineage.catalogue import RunRow
from llmops.lineage.model_card import markdown
from llmops.report import words
from llmops.report.comparison_page import comparison_page
from llmops.report.lineage_graph import lineage_graph
from llmops.report.site import Section, SiteRow, page

BAD = ("corrupt", "failed", "died")
DEPTH = 5  # levels of a lineage tree on a page


@dataclass(frozen=True)
class Site:
    """A written site."""

    folder: Path
    pages: int
    runs: int


def site(target: Path) -> Site:
    """Write the site into ``target``; it opens from disk and needs no server and no network.

    Pages of an earlier site in the folder are replaced; other files there are left alone.

    Raises:
        BackendError: If the disk refuses.
    """
    rows = run_rows()
    known = registries()
    graph = whole_ancestry(known)
    with disk_errors(target, setting="--out"):
        writer = _Writer(target)
        sections = [
            _runs(rows, writer),
            _comparisons(rows, writer),
            _sweeps(writer),
            _datasets(graph, writer),
            _models(known, graph, writer),
        ]
        writer.write("index.html", page("Runs, data and models", sections, notes=known.away))
    return Site(target, writer.pages, len(rows))


class _Writer:
    """Writes pages below a folder and counts them."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.pages = 0

    def write(self, name: str, text: str) -> str:
        (self.target / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(self.target / name, text)
        self.pages += 1
        return name

    def copy(self, source: Path, name: str) -> str:
        """Copy a page that a run left; nothing if it left none."""
        if not source.exists():
            return ""
        (self.target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.target / name)
        self.pages += 1
        return name


def _runs(rows: Sequence[RunRow], writer: _Writer) -> Section:
    shown = [
        SiteRow(
            (
                row.run_id,
                row.experiment,
                f"{row.status}: {row.why}" if row.why else row.status,
                words.moment(row.started),
                row.dataset_version or "",
                _loss(row),
                words.seconds(row.seconds),
                (row.commit or "")[:10],
                ", ".join(row.tags),
            ),
            writer.copy(
                Path(row.folder) / "report.html", f"runs/{row.experiment}/{row.run_id}.html"
            ),
            row.status in BAD,
        )
        for row in rows
    ]
    heads = (
        "run",
        "experiment",
        "status",
        "began",
        "dataset",
        "tuned loss",
        "took",
        "commit",
        "tags",
    )
    return Section("runs", "Runs", heads, tuple(shown), "Newest first", filter=True)


def _loss(row: RunRow) -> str:
    if row.tuned_loss is None:
        return ""
    side = " on validation" if row.scored_on == "validation" else ""
    return f"{row.tuned_loss:.3f}{side}"


def _comparisons(rows: Sequence[RunRow], writer: _Writer) -> Section:
    """Compare the two newest finished runs of each experiment that measured something."""
    by_experiment: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.figures and row.scored_on != "validation":
            by_experiment.setdefault(row.experiment, []).append(row)
    shown = []
    for experiment, found in by_experiment.items():
        if len(found) < 2:
            continue
        after, before = found[0].run_id, found[1].run_id
        with contextlib.suppress(LlmopsError):
            made = compare([before, after]).as_json()
            name = writer.write(
                f"compare/{experiment}.html", comparison_page(made, home="../index.html")
            )
            changed = ", ".join(leaf["path"] for leaf in made["leaves"][:6])
            shown.append(SiteRow((experiment, before, after, changed), name))
    heads = ("experiment", "before", "after", "what differs")
    caption = "The two newest measured runs of each experiment"
    return Section("comparisons", "Comparisons", heads, tuple(shown), caption)


def _sweeps(writer: _Writer) -> Section:
    shown = []
    for one in sweeps():
        name = one.folder.name
        text = _outside_links(one.folder / "sweep.html")
        link = writer.write(f"sweeps/{name}.html", text) if text else ""
        said = one.board.sentence if one.board else ""
        status = str(one.document.get("status", "finished"))
        shown.append(SiteRow((name, status, str(len(one.members)), said), link))
    return Section("sweeps", "Sweeps", ("sweep", "status", "members", "shows"), tuple(shown))


def _outside_links(path: Path) -> str:
    """Return a sweep's page with its links to runs leading to the site's copies."""
    try:
        text = path.read_text("utf-8")
    except OSError:
        return ""
    return text.replace('href="../../', 'href="../runs/').replace("/report.html", ".html")


def _datasets(graph: Ancestry, writer: _Writer) -> Section:
    shown = []
    for one in datasets():
        sections = [
            Section(
                "card",
                "Card",
                ("entry", "value"),
                tuple(SiteRow((str(key), _said(value))) for key, value in one.card.items()),
            ),
            *_lineage(graph, f"dataset:{one.name}"),
        ]
        link = writer.write(
            f"datasets/{one.name}.html", page(one.name, sections, up="../index.html")
        )
        count = words.count(len(one.runs), "run")
        shown.append(SiteRow((one.name, one.experiment, count, ", ".join(one.models)), link))
    return Section(
        "datasets", "Datasets", ("version", "experiment", "runs", "models"), tuple(shown)
    )


def _said(value: Any) -> str:
    """Return an entry of a card as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return words.NOTHING if value is None else str(value)


def _models(known: Registries, graph: Ancestry, writer: _Writer) -> Section:
    shown = []
    for one in known.found:
        for version in one.versions:
            name = f"{version.name}:{version.version}"
            text = markdown(card(one.registry, version))
            sections = [Section("card", "Model card", text=text), *_lineage(graph, f"model:{name}")]
            file = f"models/{version.name}-{version.version}.html"
            link = writer.write(file, page(name, sections, up="../index.html"))
            aliases = ", ".join(version.aliases)
            model = version.model.tuned or version.model.base
            shown.append(SiteRow((name, aliases, model, version.registered_by), link))
    return Section("models", "Models", ("model", "aliases", "is", "made by run"), tuple(shown))


def _lineage(graph: Ancestry, node: str) -> Iterator[Section]:
    if node not in graph.nodes:
        return
    drawn = lineage_graph(as_json(graph, graph.nodes[node]))
    yield Section("lineage", "Lineage", graph=drawn)
    for direction, title in (("up", "Made of"), ("down", "Made from it")):
        lines = tree(graph, node, "up" if direction == "up" else "down", DEPTH)
        yield Section(f"lineage-{direction}", title, text="\n".join(lines))
