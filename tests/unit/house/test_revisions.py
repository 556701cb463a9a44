"""A step whose code changes must raise its revision, or somebody must say that it need not."""

from __future__ import annotations

import pytest

from tests.golden.revisions import code_digest, current, imported, recorded

NOW = current()


@pytest.mark.parametrize("kind", sorted(NOW))
def test_a_steps_code_is_the_recorded_one(kind: str) -> None:
    before, now = recorded().get(kind, {"revision": 0, "modules": {}}), NOW[kind]
    changed = sorted(
        module
        for module in {*before["modules"], *now["modules"]}
        if before["modules"].get(module) != now["modules"].get(module)
    )
    assert now == before, (
        f"{kind}: code that decides its result has changed: {', '.join(changed) or 'none'}.\n"
        f"Could the same inputs now give another result? Then raise `revision` (recorded: "
        f"{before['revision']}, now: {now['revision']}) and run `make revisions`.\n"
        f"Is the result the same? Then run `make revisions` alone: the new digests in "
        f"tests/golden/revisions.json are your word for it."
    )


def test_no_kind_is_recorded_that_is_gone() -> None:
    assert set(recorded()) == set(NOW)


def test_no_revision_is_lower_than_the_recorded_one() -> None:
    lowered = {kind for kind in NOW if NOW[kind]["revision"] < recorded()[kind]["revision"]}
    assert lowered == set()


CODE = '''
def share(rows, total):
    """Return a share."""
    return rows / total  # of all
'''


@pytest.mark.parametrize(
    "same",
    [
        CODE.replace("Return a share.", "Return what part of ``total`` the rows are."),
        CODE.replace("  # of all", ""),
        CODE.replace("(rows, total)", "(\n    rows,\n    total,\n)"),
        CODE.replace('    """Return a share."""\n', ""),
    ],
)
def test_words_and_layout_do_not_count(same: str) -> None:
    assert same != CODE
    assert code_digest(same) == code_digest(CODE)


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("rows / total", "rows // total"),
        CODE.replace("rows / total", "rows / total or None"),
        CODE.replace("(rows, total)", "(rows, total=1)"),
        CODE.replace("return rows / total", "return"),
    ],
)
def test_what_the_code_does_counts(other: str) -> None:
    assert code_digest(other) != code_digest(CODE)


def test_imports_inside_functions_are_followed() -> None:
    source = "def run():\n    from llmops.data import splits\n    import llmops.errors\n"
    assert imported(source) == {"llmops.data", "llmops.data.splits", "llmops.errors"}


def test_a_step_is_watched_with_the_adapters_it_uses() -> None:
    assert "llmops.adapters.model.local_tuner" in NOW["tune"]["modules"]
