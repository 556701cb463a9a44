"""``llmops models pull``: fetch the base model of the ``model`` config group, once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops.adapters.model.weights import CachedModel
    from llmops.ports.progress import Progress

SUMMARY = "fetch, check and convert the base model into the cache; does nothing if it is there"


def pull(argv: Sequence[str]) -> int:
    """Pull the configured base model and say where it lies."""
    arguments = _parser().parse_args(argv)
    if arguments.encoder:
        return _pull_encoder(arguments)
    from llmops.adapters.catalog import model_cache
    from llmops.adapters.model import weights
    from llmops.config.compose import group

    model = group("model", arguments.overrides)
    with _progress(show=sys.stderr.isatty()) as progress:
        if arguments.verify:
            cached = weights.repair(model, model_cache(), progress)
        else:
            cached = weights.pull(model, model_cache(), progress)
    _print(str(model["base"]), cached, as_json=arguments.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops models pull",
        description=SUMMARY,
        epilog="example:  llmops models pull model=smollm2   (the cache is LLMOPS_CACHE, "
        "by default ~/.cache/llmops)",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. model=smollm2")
    parser.add_argument(
        "--verify", action="store_true", help="read every file again and replace a damaged model"
    )
    parser.add_argument(
        "--encoder",
        action="store_true",
        help="fetch the encoder of the `encoder` group instead, e.g. encoder=minilm",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _pull_encoder(arguments: argparse.Namespace) -> int:
    from llmops.adapters.catalog import model_cache
    from llmops.adapters.encoder import files
    from llmops.config.compose import group

    chosen = any(text.startswith("encoder=") for text in arguments.overrides)
    overrides = [*([] if chosen else ["encoder=minilm"]), *arguments.overrides]
    encoder = group("encoder", overrides)
    with _progress(show=sys.stderr.isatty()) as progress:
        cached = files.pull(encoder, model_cache(), progress)
    if arguments.json:
        facts = {**asdict(cached), "folder": str(cached.folder)}
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        print(f"{cached.source}")
        print(f"  licence  {cached.licence}, {cached.bytes / 1e6:.0f} MB")
        print(f"  in       {_short(cached.folder)}")
    return 0


@contextmanager
def _progress(*, show: bool) -> Iterator[Progress]:
    """Draw a bar on a terminal; elsewhere print one line a stage."""
    if not show:
        yield _Stages()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking in the cache", total=None)

        def report(done: float, total: float | None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, description=note)

        yield report


class _Stages:
    """Prints a stage when it begins."""

    def __init__(self) -> None:
        self.note = ""

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        if note != self.note:
            self.note = note
            print(note, file=sys.stderr, flush=True)


def _print(base: str, cached: CachedModel, *, as_json: bool) -> None:
    if as_json:
        facts = {
            "base": base,
            "source": cached.source,
            "licence": cached.licence,
            "sha256": cached.sha256,
            "bytes": cached.bytes,
            "folder": str(cached.folder),
        }
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    print(f"{base}")
    print(f"  from     {cached.source}, licence {cached.licence}")
    print(f"  weights  sha256 {cached.sha256[:12]}, {cached.bytes / 1e6:.0f} MB with tokenizer")
    print(f"  in       {_short(cached.folder)}")


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
