"""A model takes an alias only through a passed gate, on rows that the holder answered too."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from llmops.adapters.registry.files import FileRegistry
from llmops.adapters.store.folder import FolderStore
from llmops.api.registering import promote
from llmops.artifacts import Artifact
from llmops.errors import Refused
from llmops.lineage.promotion import judge
from llmops.ports.model import ModelReference
from tests.fakes.many_runs import record


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / ".llmops" / "store", uri=".llmops/store")


@pytest.fixture
def registry(tmp_path):
    return FileRegistry(tmp_path / "registry")


def answers(store, losses, *, rows=40) -> Artifact:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wobble = [0.3 * ((7 * i) % 11) / 11 for i in range(rows)]
    table = [
        {
            "contestant": name,
            "row_key": f"row{i:03}",
            "group": f"g{i}",
            "nll": loss + wobble[i] + 0.01 * (i % 3),
            "nll_tokens": 1,
        }
        for name, loss in losses.items()
        for i in range(rows)
    ]
    path = store.temporary() / "responses"
    pq.write_table(pa.Table.from_pylist(table), path)
    return store.put(path, "parquet", rows=rows)


def version_with_run(
    registry, store, number, *, loss=2.5, passed=True, test="t1", champion=None, **fields
):
    """Register a version and make the run that judged it.

    ``champion`` is a version that answered beside it, and its loss.
    """
    losses, source = {"tuned": loss}, {}
    if champion:
        holder, losses["champion"] = champion
        source = {"registered": {"champion": asdict(holder.model)}}
    model = ModelReference("local", "base", adapter=f"{number:064}")
    version = registry.register("m", model, labels={}, run_id=f"run-{number}")
    step = {
        "name": "predict",
        "kind": "predict",
        "status": "done",
        "seconds": 1.0,
        "key": f"{number:064}",
        "inputs": {"test": test},
        "settings": {"evaluation.max_rows": 48},
        "outputs": {"responses": asdict(answers(store, losses))},
        "source": source,
        "facts": {},
    }
    reason = {"rule": "loss better_than untuned", "passed": passed}
    gate = {"passed": passed, "contestant": "tuned", "reasons": [reason]}
    run = record(number, model=asdict(model), steps=[step], gate=gate, **fields)
    return version, run


def test_the_first_model_needs_a_gate_only(registry, store):
    version, run = version_with_run(registry, store, 1)
    assert judge(version, None, [run], store).reason == f"gate passed in run {run['run_id']}"


def test_a_refused_model_takes_no_alias(registry, store):
    version, run = version_with_run(registry, store, 1, passed=False)
    with pytest.raises(Refused, match="refused m:1"):
        judge(version, None, [run], store)


def test_a_gate_over_validation_rows_is_no_evidence(registry, store):
    version, run = version_with_run(registry, store, 1, scored_on="validation")
    with pytest.raises(Refused, match="no gate has judged"):
        judge(version, None, [run], store)


def test_a_better_model_on_the_same_rows_takes_it_and_the_reason_says_by_how_much(registry, store):
    holder, first = version_with_run(registry, store, 1, loss=2.5)
    better, second = version_with_run(registry, store, 2, loss=2.2)
    found = judge(better, holder, [second, first], store)
    assert "loss -0.3" in found.reason
    assert "against version 1 on the same 40 test rows" in found.reason


def test_a_model_that_is_shown_to_be_worse_does_not(registry, store):
    holder, first = version_with_run(registry, store, 1, loss=2.2)
    worse, second = version_with_run(registry, store, 2, loss=2.5)
    with pytest.raises(Refused, match="m:2 is worse than version 1"):
        judge(worse, holder, [second, first], store)


def test_models_that_answered_other_test_rows_are_not_compared(registry, store):
    holder, first = version_with_run(registry, store, 1, test="t1")
    other, second = version_with_run(registry, store, 2, test="t2")
    with pytest.raises(Refused, match="was not scored on the test rows of m:2") as caught:
        judge(other, holder, [second, first], store)
    assert "--force" in caught.value.hint


def test_a_champion_that_answered_the_new_test_rows_beside_the_candidate_is_compared(
    registry, store
):
    holder, first = version_with_run(registry, store, 1, loss=2.5, test="t1")
    asked = {"test": "t2", "champion": (holder, 2.5)}
    better, second = version_with_run(registry, store, 2, loss=2.2, **asked)
    assert (
        "against version 1 on the same 40" in judge(better, holder, [second, first], store).reason
    )
    asked = {"test": "t2", "champion": (holder, 2.2)}
    worse, third = version_with_run(registry, store, 3, loss=2.5, **asked)
    with pytest.raises(Refused, match="m:3 is worse than version 1"):
        judge(worse, holder, [third, first], store)


def test_another_model_that_was_champion_then_says_nothing_of_the_holder(registry, store):
    earlier, _ = version_with_run(registry, store, 1)
    holder, first = version_with_run(registry, store, 2, test="t1")
    asked = {"test": "t2", "champion": (earlier, 2.5)}
    better, second = version_with_run(registry, store, 3, loss=2.2, **asked)
    with pytest.raises(Refused, match="was not scored on the test rows") as caught:
        judge(better, holder, [second, first], store)
    assert "champion added to predict.contestants" in caught.value.hint


def test_an_alias_that_moved_meanwhile_is_not_taken(registry, store, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    version, run = version_with_run(registry, store, 1)
    version_with_run(registry, store, 2)

    class Moving(FileRegistry):
        def set_alias(self, name, alias, number, **options):
            registry.set_alias(name, alias, 2, reason="another writer was faster")
            return super().set_alias(name, alias, number, **options)

    with pytest.raises(Refused, match="somebody moved it"):
        promote(Moving(registry.root), version, "champion", records=[run])
    assert registry.get("m", "champion").version == 2
