"""Ids of answers: never twice, not in a fork either, and known as ours."""

from __future__ import annotations

import os

from llmops.traffic.records import is_ours, new_id

KEY = b"k" * 32
MANY = 2000  # more than one fetch of chance is good for


def test_no_id_is_given_twice_and_all_are_ours():
    given = [new_id(KEY) for _ in range(MANY)]
    assert len(set(given)) == MANY
    assert all(is_ours(one, KEY) for one in given)
    assert not is_ours(given[0], b"another" * 4)


def test_a_fork_gives_other_ids():
    new_id(KEY)  # so that there is chance left to be inherited
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"\n".join(new_id(KEY)[16:28].encode() for _ in range(50)))
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as file:
        there = set(file.read().decode().split("\n"))
    here = {new_id(KEY)[16:28] for _ in range(50)}
    assert len(there) == 50
    assert not here & there
