"""Nothing is tuned on data whose terms nobody acknowledged."""

import pytest

from llmops.data.terms import require_acknowledged
from llmops.errors import ConfigError


def test_acknowledged_terms_pass():
    require_acknowledged({"source_terms": "psf-2.0", "acknowledged_terms": ["other", "psf-2.0"]})


def test_unacknowledged_terms_are_refused_with_the_key_to_set():
    with pytest.raises(ConfigError) as refused:
        require_acknowledged({"source_terms": "dump-agreement", "acknowledged_terms": ["psf-2.0"]})
    assert "the terms 'dump-agreement'" in refused.value.problem
    assert "dataset.acknowledged_terms=[psf-2.0, dump-agreement]" in refused.value.hint


@pytest.mark.parametrize("terms", [None, ""])
def test_unknown_terms_are_refused(terms):
    with pytest.raises(ConfigError, match=r"dataset\.source_terms is not set"):
        require_acknowledged({"source_terms": terms, "acknowledged_terms": [""]})
