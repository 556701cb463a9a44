"""Keep model libraries offline and silent: no progress bars, notices or calls home."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quietly() -> Iterator[None]:
    """Run a block in which transformers says only errors; real failures still raise."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizers warn after a fork
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # its functions have no annotations

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
