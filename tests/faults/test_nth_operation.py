"""A few hundred of the faults that ``make faults`` lets strike, drawn by a seed that is printed.

A failure names the command that repeats it.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.faults import campaign
from tests.faults.injection import FAULTS
from tests.faults.workloads import WORKLOADS, in_this_process

SEED = int(os.environ.get("LLMOPS_FAULT_SEED", "20261125"))
EACH = 20  # of each workload and kind of fault


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    """Each workload's project, prepared and run once when it is first asked for."""
    in_this_process()
    ready = {}

    def bench(name):
        if name not in ready:
            ready[name] = campaign.bench(WORKLOADS[name], tmp_path_factory.mktemp("faults"))
        return ready[name]

    return bench


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", ["run", "registry", "log"])  # the others: make faults
def test_nothing_is_lost_whichever_operation_fails(benches, name, kind):
    ready = benches(name)
    every = list(campaign.injections(ready, (kind,)))
    assert every, f"no operation of {name} can suffer {kind}"
    chosen = random.Random(f"{SEED}:{name}:{kind}").sample(every, min(EACH, len(every)))
    for fault in chosen:
        lines = campaign.inject(ready, fault)
        if lines:
            again = f"python -m tests.faults.campaign --only {name}:{kind}:{fault.at}"
            pytest.fail("\n".join([f"seed {SEED}; {again}", *lines]), pytrace=False)
