"""Leases on step keys, by a clock of the test's own: who holds one, and when it is taken over."""

from __future__ import annotations

import json
import os
import threading

import pytest

from llmops.adapters.store import lease
from llmops.adapters.store.lease import Lease, acquire, held
from llmops.errors import BackendError
from tests.fakes.blobs import MemoryBlobs

KEY = "ab" * 32
SECONDS = 40.0


class Clock:
    """Time that passes by sleeping only; ``at`` says what happens once it has."""

    def __init__(self):
        self.now, self.naps, self.at = 0.0, [], {}

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.naps.append(seconds)
        for moment in [moment for moment in sorted(self.at) if moment <= self.now]:
            self.at.pop(moment)()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


@pytest.fixture
def blobs():
    return MemoryBlobs()


def name(number):
    return f"locks/{KEY}/{number:08d}.json"


def content(blobs, number):
    return json.loads(blobs.objects[name(number)])


def hold(blobs, number, **fields):
    """Let somebody elsewhere hold the key."""
    told = {"id": "other", "machine": "elsewhere", "pid": 1, "beat": 0, "released": False}
    blobs.write(name(number), json.dumps(told | fields).encode())


def test_a_free_key_is_taken_at_once_and_says_by_whom(blobs, clock):
    with held(blobs, KEY, SECONDS) as mine:
        assert clock.naps == []
        assert mine.number == 1
        assert content(blobs, 1) == {
            "id": mine.me,
            "machine": lease._machine(),
            "pid": os.getpid(),
            "beat": 0,
            "released": False,
        }
    assert content(blobs, 1)["released"] is True


def test_the_next_holder_takes_the_next_number_and_clears_older_ones(blobs, clock):
    for number in (1, 2, 3):
        with held(blobs, KEY, SECONDS) as mine:
            assert mine.number == number
    assert sorted(blobs.objects) == [name(3)]
    assert clock.naps == []


def test_a_key_is_another_one_s_own(blobs, clock):
    with held(blobs, KEY, SECONDS), held(blobs, "cd" * 32, SECONDS):
        assert clock.naps == []


def test_a_holder_that_lets_go_is_followed_within_a_poll(blobs, clock):
    hold(blobs, 1)
    clock.at[5.0] = lambda: hold(blobs, 1, released=True)
    with held(blobs, KEY, SECONDS) as mine:
        assert mine.number == 2
    assert clock.now == 6.0
    assert set(clock.naps) == {2.0}  # never longer, however long a lease is


def test_a_short_lease_is_looked_at_twenty_times(blobs, clock):
    hold(blobs, 1)
    with held(blobs, KEY, 10.0):
        assert set(clock.naps) == {0.5}


def test_a_silent_holder_is_taken_over_once_its_time_has_passed(blobs, clock):
    hold(blobs, 7)
    with held(blobs, KEY, SECONDS) as mine:
        assert mine.number == 8
    assert clock.now == SECONDS + 2.0  # one poll later than its time


def test_a_holder_that_beats_is_never_taken_over(blobs, clock):
    hold(blobs, 1)
    for number in range(1, 10):
        clock.at[number * SECONDS / 2] = lambda number=number: hold(blobs, 1, beat=number)
    clock.at[200.0] = lambda: hold(blobs, 1, released=True)
    with held(blobs, KEY, SECONDS) as mine:
        assert clock.now >= 200.0
        assert mine.number == 2


def test_a_holder_that_died_on_this_machine_is_not_waited_for(blobs, clock, monkeypatch):
    hold(blobs, 1, machine=lease._machine(), pid=4242)
    monkeypatch.setattr(lease, "is_running", lambda pid: pid != 4242)
    with held(blobs, KEY, SECONDS):
        assert clock.naps == []


def test_a_holder_on_this_machine_that_names_no_process_is_not_waited_for(blobs, clock):
    blobs.write(name(1), json.dumps({"id": "other", "machine": lease._machine()}).encode())
    with held(blobs, KEY, SECONDS):
        assert clock.naps == []


def test_a_living_holder_on_this_machine_is_waited_for(blobs, clock):
    hold(blobs, 1, machine=lease._machine(), pid=os.getpid())
    clock.at[10.0] = lambda: hold(blobs, 1, released=True)
    with held(blobs, KEY, SECONDS):
        assert clock.now == 10.0


@pytest.mark.parametrize("torn", [b"", b'{"id": "ot', b"[1]", b"5"])
def test_a_lease_that_is_being_written_is_waited_for(blobs, clock, torn):
    blobs.write(name(1), torn)
    with held(blobs, KEY, SECONDS):
        assert clock.now > SECONDS


def test_what_is_no_lease_counts_as_none(blobs, clock):
    blobs.write(f"locks/{KEY}/readme.json", b'{"released": true}')
    with held(blobs, KEY, SECONDS) as mine:
        assert mine.number == 1


def test_of_two_who_take_over_at_once_one_waits_for_the_other(blobs, clock):
    hold(blobs, 1, released=True)
    create = blobs.create

    def beaten(place, data):
        blobs.create = create
        hold(blobs, 2)
        clock.at[4.0] = lambda: hold(blobs, 2, released=True)
        return create(place, data)

    blobs.create = beaten
    with held(blobs, KEY, SECONDS) as mine:
        assert mine.number == 3
        assert clock.now == 4.0


def test_a_lease_whose_answer_was_lost_is_known_as_one_s_own(blobs, clock):
    create = blobs.create
    blobs.create = lambda place, data: create(place, data) and False
    with held(blobs, KEY, SECONDS) as mine:
        assert mine.number == 1
        assert clock.naps == []


# ------------------------------------------------------- a holder that lost its key


def test_a_holder_whose_key_was_taken_over_may_not_record(blobs, clock):
    with held(blobs, KEY, SECONDS) as mine:
        mine.check()
        hold(blobs, 2)
        with pytest.raises(BackendError, match=f"took over step key {KEY[:12]} ") as caught:
            mine.check()
        assert caught.value.retryable
        assert caught.value.hint == ("run it again: the result of the other worker is found then")
        blobs.delete(name(2))
        with pytest.raises(BackendError):  # lost once is lost
            mine.check()


def test_a_holder_that_lost_its_key_does_not_let_go_of_it_in_the_other_one_s_name(blobs, clock):
    mine = acquire(blobs, KEY, SECONDS)
    hold(blobs, 2)
    with pytest.raises(BackendError):
        mine.check()
    mine.release()
    assert content(blobs, 1)["released"] is False
    assert content(blobs, 2)["id"] == "other"


# ---------------------------------------------------------------------- beating


class Ended:
    """An event that lets so many beats pass, and remembers how long each was waited for."""

    def __init__(self, beats):
        self.left, self.waits = beats, []

    def wait(self, seconds):
        self.waits.append(seconds)
        self.left -= 1
        return self.left < 0

    def set(self):
        pass


def beating(blobs, beats):
    mine = Lease(blobs, KEY, 1, SECONDS)
    assert mine.taken()
    mine._ended = Ended(beats)
    return mine


def test_a_holder_says_four_times_in_its_time_that_it_lives(blobs):
    mine = beating(blobs, 3)
    mine._beats()
    assert mine._ended.waits == [SECONDS / 4] * 4
    assert content(blobs, 1)["beat"] == 3
    assert not mine.lost


def test_a_holder_learns_from_the_next_number_that_it_was_taken_for_dead(blobs):
    mine = beating(blobs, 3)
    hold(blobs, 2)
    mine._beats()
    assert mine.lost
    assert content(blobs, 1)["beat"] == 0
    assert len(mine._ended.waits) == 1


def test_a_beat_that_the_bucket_refuses_is_silence_and_the_next_one_is_tried(blobs):
    mine = beating(blobs, 3)
    listed, asked = blobs.list, []

    def refusing_once(place):
        asked.append(place)
        if len(asked) == 1:
            raise BackendError("503")
        return listed(place)

    blobs.list = refusing_once
    mine._beats()
    assert len(asked) == 3
    assert content(blobs, 1)["beat"] == 2


def test_a_kept_lease_beats_in_a_thread_that_ends_with_it(blobs):
    before = threading.active_count()
    mine = acquire(blobs, KEY, 0.02)
    assert mine._thread.daemon
    deadline = threading.Event()
    while content(blobs, 1)["beat"] < 2:
        deadline.wait(0.005)
    mine.release()
    assert threading.active_count() == before
    assert content(blobs, 1)["released"] is True
    assert content(blobs, 1)["beat"] >= 2


def test_a_machine_is_told_apart_by_name_boot_and_container(monkeypatch, tmp_path):
    lease._machine.cache_clear()
    host, boot, container = lease._machine().split(" ", 2)
    assert host == lease.socket.gethostname()
    assert len(boot) == 36
    assert container.startswith("pid:[")
    lease._machine.cache_clear()
    monkeypatch.setattr(lease, "Path", lambda name: tmp_path / "nothing")
    assert lease._machine() == host
    lease._machine.cache_clear()


def test_no_two_leases_have_one_id(blobs):
    assert len({Lease(blobs, KEY, 1, SECONDS).me for _ in range(9)}) == 9


def test_leases_are_told_apart_by_number_and_not_by_name(blobs, clock):
    for number in (9, 10):
        blobs.write(f"locks/{KEY}/{number}.json", b'{"released": true}')
    with held(blobs, KEY, SECONDS) as mine:
        assert mine.number == 11


def test_a_number_that_newer_leases_have_freed_gives_no_right_to_the_key(blobs, clock):
    late = Lease(blobs, KEY, 2, SECONDS)  # looked the number up, and was held up before it wrote
    for _ in range(3):
        with held(blobs, KEY, SECONDS):
            pass
    with held(blobs, KEY, SECONDS) as holder:
        assert name(2) not in blobs.objects
        assert not late.taken()
        assert sorted(blobs.objects) == [name(3), name(holder.number)]
        holder.check()


def test_a_holder_learns_of_a_follower_whose_number_is_gone_already(blobs, clock):
    silent = acquire(blobs, KEY, SECONDS)
    silent._ended.set()
    for number in (2, 3):
        late = Lease(blobs, KEY, number, SECONDS)
        assert late.taken()
        late.keep()
        late.release()
    assert sorted(blobs.objects) == [name(3)]
    with pytest.raises(BackendError, match="another worker took over"):
        silent.check()
