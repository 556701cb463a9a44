"""``llmops compile``: the experiment as a Kubeflow Pipelines file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

SUMMARY = "write the experiment as a Kubeflow Pipelines file"


def main(argv: Sequence[str]) -> int:
    """Compile an experiment; the config's address and the run's id stay runtime parameters."""
    parser = argparse.ArgumentParser(
        prog="llmops compile",
        description=SUMMARY,
        epilog="example:  llmops compile +experiment=so_python -o so_python.pipeline.yaml",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE.yaml")
    arguments = parser.parse_args(argv)
    from llmops import api
    from llmops.errors import ConfigError

    if arguments.output.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"{arguments.output} is not a YAML file", hint="give a name that ends with .yaml"
        )
    api.compile_pipeline(arguments.overrides, arguments.output)
    print(arguments.output)
    return 0
