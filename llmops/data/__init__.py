"""Rows, from the query's result to the files of a dataset: cleaning, keys, groups, sides."""

import os

# Polars gives freed memory back to the system after half a second, and a stream of batches then
# faults it in again: that was a twelfth of the time of preparing a dataset.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:10000")
