"""A few hundred of the faults that ``make faults`` lets strike, drawn by a seed.

A failure names the command that repeats it. Each workload has a process of its own: the forks find
no threads of other tests, and other tests find no engine of this one's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
SEED = os.environ.get("LLMOPS_FAULT_SEED", "20261125")
EACH = "25"  # of each workload


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_nothing_is_lost_whichever_operation_fails(name):
    campaign = [sys.executable, "-m", "tests.faults.campaign", "--only", name, "--most", EACH]
    done = subprocess.run(
        [*campaign, "--seed", SEED, "--processes", "1"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
