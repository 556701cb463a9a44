"""Items made by a thread of its own: nothing is lost, and it ends with who takes them."""

from __future__ import annotations

import threading

import pytest

from llmops.adapters.model.background import in_background


def counting(ended):
    try:
        yield from range(5)
    finally:
        ended.append(threading.get_ident())


def test_the_items_come_in_order_and_all_of_them():
    assert list(in_background(lambda: (number for number in range(5)))) == [0, 1, 2, 3, 4]


def test_what_the_source_raises_comes_after_the_items_before_it():
    def broken():
        yield 1
        raise ValueError("gone")

    items = in_background(broken)
    assert next(items) == 1
    with pytest.raises(ValueError, match="gone"):
        next(items)


def test_the_source_is_closed_by_the_thread_that_ran_it_when_the_taker_gives_up():
    ended = []
    items = in_background(lambda: counting(ended))
    next(items)
    items.close()
    assert len(ended) == 1
    assert ended[0] != threading.get_ident()
