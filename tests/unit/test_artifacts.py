from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.artifacts import Artifact, canonical_json, digest, read_reference, reference
from llmops.errors import DataError

leaves = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
values = st.recursive(
    leaves.filter(lambda v: v not in (math.inf, -math.inf)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), leaves.filter(lambda v: v not in (math.inf, -math.inf))))
def test_the_order_of_keys_does_not_change_a_digest(mapping):
    assert digest(mapping) == digest(dict(reversed(mapping.items())))


@given(values)
def test_canonical_json_is_a_fixed_point(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


def test_a_whole_float_equals_its_integer():
    assert digest({"a": [1.0]}) == digest({"a": [1]})


def test_not_a_number_has_no_canonical_form():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": math.nan})


def test_a_reference_survives_the_floats_that_kfp_makes_of_integers(tmp_path):
    artifact = Artifact("u", "parquet", "a" * 64, 12, 3)
    fields = json.loads(artifact.to_json())
    assert reference(fields | {"bytes": 12.0, "rows": 3.0}) == artifact


def test_a_reference_over_one_kilobyte_is_refused():
    with pytest.raises(DataError, match="over 1024 bytes"):
        Artifact("u" * 1100, "json", "a" * 64, 1).to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uri": 1}', "null", "PAR1"])
def test_what_is_no_reference_is_refused_with_its_path(tmp_path, text):
    path = tmp_path / "in_rows"
    path.write_text(text)
    with pytest.raises(DataError, match="is not a reference"):
        read_reference(path)
