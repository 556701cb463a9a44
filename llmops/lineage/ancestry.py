"""Where a thing comes from and what was made of it, walked over run records and the registry.

Nodes are named ``kind:name``: ``run``, ``sweep``, ``config``, ``leaves`` (those that a step reads),
``commit``, ``packages``, ``source``, ``query``, ``prompt``, ``dataset``, ``file`` (an artifact, by
digest), ``model`` (``name:version``), ``alias`` (``name@alias``) and ``prediction``. An edge leads
from what was used to what was made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from llmops.artifacts import digest
from llmops.errors import ConfigError, nearest

if TYPE_CHECKING:
    from llmops.ports.registry import ModelVersion

Direction = Literal["up", "down"]
SHOWN = 12  # characters of a digest
FACTS_SHOWN = 160  # characters in a tree; JSON has all
PLURAL_HINT = "name more of it, or its kind: run:..., dataset:..., model:..., file:..."


@dataclass(frozen=True)
class Node:
    """A thing: its kind, its name, and what people want to know of it."""

    kind: str
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``kind:name``."""
        return f"{self.kind}:{self.name}"


@dataclass
class Ancestry:
    """All things of a workspace and what was made of what; edges keep their order."""

    nodes: dict[str, Node] = field(default_factory=dict)
    made_of: dict[str, dict[str, str]] = field(default_factory=dict)  # target -> source -> how
    makes: dict[str, dict[str, str]] = field(default_factory=dict)  # source -> target -> how

    def add(self, node: Node) -> str:
        """Add a node, or facts to one that is there, and return its id."""
        known = self.nodes.get(node.id)
        facts = {**(known.facts if known else {}), **node.facts}
        self.nodes[node.id] = Node(node.kind, node.name, facts)
        return node.id

    def link(self, source: str, target: str, how: str) -> None:
        """Say that ``target`` was made of ``source``; the first word for it stays."""
        if source != target:
            self.made_of.setdefault(target, {}).setdefault(source, how)
            self.makes.setdefault(source, {}).setdefault(target, how)

    def find(self, name: str) -> Node:
        """Return the node that a text names: an id, a name, or the beginning of one.

        Raises:
            ConfigError: If none or several fit, with the nearest.
        """
        names = [name, *_spellings(name)]
        for wanted in names:
            if wanted in self.nodes:
                return self.nodes[wanted]
        exact = [node for node in self.nodes.values() if node.name in names]
        begun = [node for node in self.nodes.values() if node.name.startswith(name)]
        found = exact or begun
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(node.id for node in found[:6])
            raise ConfigError(f"'{name}' names several things: {listed}", hint=PLURAL_HINT)
        known = [node.name for node in self.nodes.values()]
        guess = nearest(name, known)
        raise ConfigError(
            f"nothing here is named '{name}'",
            hint=f"{guess} a run, dataset version, model, alias, file's digest or prediction",
        )

    def walk(self, start: str, direction: Direction) -> list[tuple[str, str, str]]:
        """Return the edges from ``start``, as (node, how, next node), each edge once."""
        links = self.made_of if direction == "up" else self.makes
        edges, waiting, seen = [], [start], {start}
        while waiting:
            node = waiting.pop(0)
            for other, how in links.get(node, {}).items():
                edges.append((node, how, other))
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return edges


def ancestry(
    records: Iterable[Mapping[str, Any]],
    versions: Sequence[ModelVersion] = (),
    sweeps: Iterable[Mapping[str, Any]] = (),
) -> Ancestry:
    """Build the graph; records that lack something give what they have."""
    graph = Ancestry()
    for record in records:
        _add_run(graph, record)
    for version in versions:
        _add_version(graph, version)
    for sweep in sweeps:
        _add_sweep(graph, sweep)
    return graph


def as_json(graph: Ancestry, start: Node) -> dict[str, Any]:
    """Return a thing, what led to it and what was made of it, as plain JSON."""
    up, down = graph.walk(start.id, "up"), graph.walk(start.id, "down")
    ids = dict.fromkeys([start.id, *(edge[0] for edge in up + down), *(e[2] for e in up + down)])
    return {
        "start": start.id,
        "nodes": [
            {
                "id": id_,
                "kind": graph.nodes[id_].kind,
                "short": short_name(graph.nodes[id_]),
                "facts": dict(graph.nodes[id_].facts),
            }
            for id_ in ids
        ],
        "edges": [
            *({"from": other, "to": node, "how": how} for node, how, other in up),
            *({"from": node, "to": other, "how": how} for node, how, other in down),
        ],
    }


def tree(graph: Ancestry, start: str, direction: Direction, depth: int) -> Iterator[str]:
    """Yield the lines of a tree, each thing opened once; deeper ones than ``depth`` are counted."""
    yield from _branches(graph, start, direction, "", depth, {start})


def _branches(
    graph: Ancestry, node: str, direction: Direction, before: str, depth: int, seen: set[str]
) -> Iterator[str]:
    links = graph.made_of if direction == "up" else graph.makes
    others = list(links.get(node, {}).items())
    if others and depth == 0:
        yield f"{before}... {len(others)} more"
        return
    for place, (other, how) in enumerate(others):
        last = place == len(others) - 1
        again = other in seen and links.get(other)
        yield f"{before}{'└─' if last else '├─'} {_label(graph.nodes[other])} ({how})" + (
            " ..." if again else ""
        )
        if other not in seen:
            seen.add(other)
            further = before + ("   " if last else "│  ")
            yield from _branches(graph, other, direction, further, depth - 1, seen)


def short_name(node: Node) -> str:
    """Return the name as people read it: a digest by its beginning."""
    digests = ("file", "config", "commit", "prompt", "packages", "leaves")
    return node.name[:SHOWN] if node.kind in digests else node.name


def _label(node: Node) -> str:
    known = [f"{key} {value}" for key, value in node.facts.items() if value not in (None, "")]
    facts = ", ".join(known)
    if len(facts) > FACTS_SHOWN:
        facts = f"{facts[: FACTS_SHOWN - 3]}..."
    return f"{node.kind} {short_name(node)}" + (f" [{facts}]" if facts else "")


def _spellings(name: str) -> list[str]:
    kinds = ("run", "dataset", "model", "alias", "file", "prompt", "config", "commit", "sweep")
    others = ("source", "query", "prediction", "packages", "leaves")
    return [f"{kind}:{name}" for kind in (*kinds, *others)]


def _add_run(graph: Ancestry, record: Mapping[str, Any]) -> None:
    facts = {"experiment": record.get("experiment"), "status": record.get("status")}
    run = graph.add(Node("run", str(record["run_id"]), facts))
    git, prompt = record.get("git") or {}, record.get("prompt") or {}
    packages = {"python": record.get("python"), **(record.get("packages") or {})}
    pinned = digest(packages) if record.get("packages") else None
    used: list[tuple[str, Any, Mapping[str, Any], str]] = [
        ("packages", pinned, packages, "ran with"),
        ("config", record.get("config_digest"), {}, "configured by"),
        ("commit", git.get("commit"), {"changed": "yes" if git.get("dirty") else ""}, "code of"),
        ("prompt", prompt.get("sha256"), {"name": prompt.get("name")}, "asked with"),
        ("source", (record.get("source") or {}).get("name"), {}, "rows from"),
    ]
    for kind, name, known, how in used:
        if name:
            graph.link(graph.add(Node(kind, str(name), known)), run, how)
    for step in record.get("steps") or ():
        _add_step(graph, run, step)
    _add_dataset(graph, run, record)


def _add_step(graph: Ancestry, run: str, step: Mapping[str, Any]) -> None:
    query = (step.get("settings") or {}).get("dataset.query")
    if query:
        text = " ".join(str(query).split())
        node = Node("query", digest(str(query))[:SHOWN], {"sql": text[:80]})
        graph.link(graph.add(node), run, "asked by")
    inputs = (step.get("inputs") or {}).values()
    leaves = step.get("settings")
    read = graph.add(Node("leaves", digest(leaves), leaves)) if leaves else None
    for name, output in (step.get("outputs") or {}).items():
        facts = {"is": f"{step['name']}.{name}", "rows": output.get("rows")}
        file = graph.add(Node("file", str(output["sha256"]), facts))
        if read:
            graph.link(read, file, f"read by step {step['name']}")
        for sha256 in inputs:
            graph.link(graph.add(Node("file", str(sha256))), file, f"step {step['name']}")
        if step.get("status") == "done":
            graph.link(run, file, "made")
        else:
            graph.link(file, run, "found by")


def _add_dataset(graph: Ancestry, run: str, record: Mapping[str, Any]) -> None:
    version = record.get("dataset_version")
    if not version:
        return
    dataset = graph.add(Node("dataset", str(version)))
    made = [step for step in record["steps"] if "card" in (step.get("outputs") or {})]
    if any(step.get("status") == "done" for step in made):
        graph.link(run, dataset, "made")
    else:
        graph.link(dataset, run, "used by")
    for step in made:
        for name, output in step["outputs"].items():
            if name != "card":
                graph.link(dataset, f"file:{output['sha256']}", f"side {name}")


def _add_version(graph: Ancestry, version: ModelVersion) -> None:
    name = f"{version.name}:{version.version}"
    facts = {"base": version.model.base, "tuned": version.model.tuned}
    model = graph.add(Node("model", name, facts))
    if f"run:{version.registered_by}" not in graph.nodes:
        graph.add(Node("run", version.registered_by, {"record": "gone"}))
    graph.link(f"run:{version.registered_by}", model, "registered")
    if version.model.adapter:
        file = graph.add(Node("file", version.model.adapter))
        graph.link(file, model, "weights of")
    if version.model.dataset_version:
        dataset = graph.add(Node("dataset", version.model.dataset_version))
        graph.link(dataset, model, "tuned on")
    for alias in version.aliases:
        graph.link(model, graph.add(Node("alias", f"{version.name}@{alias}")), "held by")


def _add_sweep(graph: Ancestry, sweep: Mapping[str, Any]) -> None:
    node = graph.add(Node("sweep", str(sweep["id"])))
    for run_id in sweep["runs"]:
        if f"run:{run_id}" in graph.nodes:
            graph.link(f"run:{run_id}", node, "member of")
    final = sweep.get("final")
    if final and f"run:{final}" in graph.nodes:
        graph.link(node, f"run:{final}", "chose")
