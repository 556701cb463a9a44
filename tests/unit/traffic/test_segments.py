"""The log keeps every acknowledged line whole, whatever ends its writer."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.errors import BackendError
from llmops.traffic.segments import Writer, expire, key, lines, recover, segments

SMALL = 1_000
ENDLESS = """
import sys
from pathlib import Path
from llmops.traffic.segments import Writer
writer = Writer(Path(sys.argv[1]), segment_bytes=200_000)
for number in range(10**9):
    line = b'{"n": %d, "pad": "%s"}' % (number, b"x" * 3000)
    writer.append([line])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_lines_come_back_in_the_order_in_which_they_were_written(tmp_path):
    writer = Writer(tmp_path, segment_bytes=SMALL)
    written = [b"%d" % number * 40 for number in range(50)]
    for line in written:
        writer.append([line])
    assert list(lines(tmp_path)) == written
    assert len(segments(tmp_path)) > 1


def test_a_killed_writer_leaves_every_acknowledged_line_and_no_half_one(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE
    )
    acknowledged = [int(process.stdout.readline()) for _ in range(300)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in process.communicate()[0].split(b"\n")[:-1]]
    kept = [json.loads(line)["n"] for line in lines(tmp_path)]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\n", b"")), max_size=5), st.data())
def test_a_torn_end_is_passed_over_and_then_cut_off(tmp_path_factory, whole, data):
    folder = tmp_path_factory.mktemp("log")
    torn = data.draw(st.binary(max_size=50)).replace(b"\n", b"")
    path = folder / "20261125T101502.123456-1-abcd.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in whole) + torn)
    assert list(lines(folder)) == whole
    assert recover(folder) == len(torn)
    assert path.read_bytes() == b"".join(line + b"\n" for line in whole)


def test_a_segment_that_is_written_to_is_left_alone_by_recovery(tmp_path):
    writer = Writer(tmp_path, segment_bytes=SMALL)
    writer.append([b"whole"])
    os.write(writer._file, b"half a li")  # as another process would see it in mid-write
    assert recover(tmp_path) == 0
    assert [segment.is_written_to for segment in segments(tmp_path)] == [True]
    writer.close()
    assert recover(tmp_path) == len(b"half a li")


def test_a_full_disk_refuses_the_line_and_leaves_the_log_whole(tmp_path):
    writer = Writer(tmp_path, segment_bytes=10**9)
    writer.append([b"before"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(BackendError) as caught:
            writer.append([b"x" * 10_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "serve.log.path" in caught.value.hint
    writer.append([b"after"])
    assert list(lines(tmp_path)) == [b"before", b"after"]


def test_retention_removes_whole_days_and_nothing_that_is_written_to(tmp_path):
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    for days in (0, 1, 7, 8, 30):
        begun = now - timedelta(days=days)
        (tmp_path / f"{begun:%Y%m%dT%H%M%S.%f}-1-abcd.jsonl").write_bytes(b"{}\n")
    gone = expire(tmp_path, 7, now)
    assert [path.name[:8] for path in gone] == ["20261026", "20261117"]
    assert expire(tmp_path, None, now) == []


def test_the_log_has_one_secret_that_only_its_owner_reads(tmp_path):
    assert key(tmp_path / "log") == key(tmp_path / "log")
    assert len(key(tmp_path / "log")) == 32
    assert (tmp_path / "log" / "key").stat().st_mode & 0o077 == 0
