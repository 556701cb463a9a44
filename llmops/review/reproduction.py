"""Whether a run that was made again from another's folder came to the same, and what drifted.

Pure: compares two run records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Check:
    """One thing that must be the same: ``what`` kind of thing, its name, then and now."""

    what: str
    name: str
    before: str
    after: str
    comparable: bool = True

    @property
    def same(self) -> bool:
        """Whether it is; what was not recorded counts as drifted, for nobody can know."""
        return self.comparable and self.before == self.after and self.before != NOT_RECORDED


@dataclass(frozen=True)
class Reproduction:
    """What came of making ``run_id`` again as ``again``."""

    run_id: str
    again: str
    status: str
    checks: tuple[Check, ...]

    @property
    def drifts(self) -> tuple[Check, ...]:
        """The checks that found a difference."""
        return tuple(check for check in self.checks if not check.same)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "run_id": self.run_id,
            "again": self.again,
            "status": self.status,
            "reproduced": not self.drifts,
            "checks": [asdict(check) | {"same": check.same} for check in self.checks],
        }


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Reproduction:
    """Compare the record of a run with that of its reproduction."""
    return Reproduction(
        run_id=before["run_id"],
        again=after["run_id"],
        status=after["status"],
        checks=(
            Check("config", "digest", before["config_digest"], after["config_digest"]),
            Check("pipeline", "digest", _text(before.get("pipeline_digest")), _pipeline(after)),
            *_code(before, after),
            *_packages(before, after),
            *_tables(before, after),
            *_base_model(before, after),
            *_dataset(before, after),
            *_outputs(before, after),
        ),
    )


def config_check(recorded: str, found: str) -> Check:
    """Return the check of a run folder's config against its record."""
    return Check("config", "digest of config.yaml", recorded, found)


def _pipeline(record: Mapping[str, Any]) -> str:
    return _text(record.get("pipeline_digest"))


def _text(value: Any) -> str:
    return NOT_RECORDED if value is None else str(value)


def _code(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Check]:
    yield Check("code", "llmops", before["llmops"], after["llmops"])
    if before["git"] or after["git"]:
        clean = not any(git and git["dirty"] for git in (before["git"], after["git"]))
        yield Check("code", "commit", _commit(before["git"]), _commit(after["git"]), clean)
    now = {step["name"]: step for step in after["steps"]}
    for step in before["steps"]:
        other = now.get(step["name"])
        if other is not None and other["revision"] != step["revision"]:
            name = f"revision of {step['name']}"
            yield Check("code", name, str(step["revision"]), str(other["revision"]))


def _commit(git: Mapping[str, Any] | None) -> str:
    if git is None or git["commit"] is None:
        return NOT_RECORDED
    # nobody knows what uncommitted changes were, so they never count as the same
    return f"{git['commit'][:12]} with uncommitted changes" if git["dirty"] else str(git["commit"])


def _packages(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Check]:
    yield Check("packages", "Python", before["python"], after["python"])
    for name in sorted({*before["packages"], *after["packages"]}):
        old, new = before["packages"].get(name), after["packages"].get(name)
        yield Check("packages", name, old or "not installed", new or "not installed")


def _tables(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Check]:
    now = {step["name"]: step["source"] for step in after["steps"]}
    for step in before["steps"]:
        tables, others = step["source"].get("tables", {}), now.get(step["name"], {})
        for name, version in tables.items():
            yield Check("tables", name, version, _text(others.get("tables", {}).get(name)))


def _base_model(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Check]:
    if before["model"]:
        old, new = before["model"], after["model"] or {}
        yield Check(
            "base model", old["base"], _text(old["base_sha256"]), _text(new.get("base_sha256"))
        )


def _dataset(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Check]:
    if before["dataset_version"]:
        version = _text(after["dataset_version"])
        yield Check("dataset", "version", before["dataset_version"], version)


def _outputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Check]:
    """Compare what the steps gave, byte by byte; what only follows from its inputs is left out."""
    now = {step["name"]: step for step in after["steps"]}
    for step in before["steps"]:
        other = now.get(step["name"])
        if other is None or (other["outputs"] and other["inputs"] != step["inputs"]):
            continue
        for name, output in step["outputs"].items():
            given = other["outputs"].get(name)
            address = f"{step['name']}.{name}"
            yield Check("output", address, output["sha256"], _text(given and given["sha256"]))
