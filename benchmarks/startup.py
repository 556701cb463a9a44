"""CPU seconds until llmops answers, against a bare ``import hydra``.

.venv/bin/python benchmarks/startup.py
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from harness import alternate, measure, publish, table

ROOT = Path(__file__).parent.parent
BASE = "import hydra"
COMMANDS = {
    BASE: ("-c", "import hydra"),
    "llmops --help": ("-m", "llmops", "--help"),
    "llmops validate +experiment=so_python": ("-m", "llmops", "validate", "+experiment=so_python"),
    "a press of Tab": ("-m", "llmops", "_complete", "llmops run tuning."),
}


def main() -> None:
    summaries = alternate(
        {
            name: partial(measure, (sys.executable, *arguments), cwd=ROOT)
            for name, arguments in COMMANDS.items()
        }
    )
    table(summaries)
    ratios = {name: found.cpu / summaries[BASE].cpu for name, found in summaries.items()}
    print()
    for name, ratio in ratios.items():
        print(f"{name:38s} {ratio:5.2f} times the CPU of {BASE}")
    publish("startup", {"cpu_ratio": ratios, "results": summaries}, ("hydra-core",))


if __name__ == "__main__":
    main()
