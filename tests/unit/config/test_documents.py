from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llmops.config import documents, project

CONF = project.packaged_conf()
SHIPPED = sorted(CONF.rglob("*.yaml"))


def parse(text: str) -> documents.Document:
    return documents.parse(text, Path("conf/x.yaml"), "conf/x.yaml")


def test_all_shipped_files_are_found() -> None:
    assert len(SHIPPED) >= 20


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(CONF).as_posix())
def test_a_shipped_file_is_read_as_omegaconf_reads_it(path: Path) -> None:
    document = documents.read(path, "conf")
    assert document.problems == ()
    assert document.value == OmegaConf.to_container(OmegaConf.load(path))


plain_scalars = st.text(alphabet="0123456789.eE+-_truefalsnoy~xabc ", min_size=1, max_size=12)


@given(plain_scalars)
def test_a_plain_scalar_is_read_as_omegaconf_reads_it_or_refused(text: str) -> None:
    document = parse(f"key: {text}\n")
    if not document.problems:
        expected = OmegaConf.to_container(OmegaConf.create(f"key: {text}\n"))
        assert repr(document.value) == repr(expected)


@given(st.text(max_size=200))
def test_any_text_becomes_a_document_and_never_an_exception(text: str) -> None:
    assert isinstance(parse(text).value, dict)


def test_every_key_of_a_file_has_its_line_and_column() -> None:
    document = parse("a:\n  b: [1, {c: 2}]\n")
    assert {path: (mark.line, mark.column) for path, mark in document.marks.items()} == {
        ("a",): (2, 3),
        ("a", "b"): (2, 6),
        ("a", "b", "0"): (2, 7),
        ("a", "b", "1"): (2, 10),
        ("a", "b", "1", "c"): (2, 14),
    }


def test_an_alias_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    started = time.process_time()
    assert "aliases" in parse(bomb).problems[0].expected
    assert time.process_time() - started < 1


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "a: " + "{x: " * 20_000, "- " * 100_000])
def test_deep_nesting_is_a_problem_and_no_crash(text: str) -> None:
    assert not parse(text).usable


def test_fifty_levels_are_read() -> None:
    assert parse("a: " + "[" * 49 + "]" * 49).usable


def test_a_file_over_256_kb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("a: " + "x" * documents.MAX_FILE_BYTES, encoding="utf-8")
    assert documents.read(path, "conf/big.yaml").problems[0].expected == "a file of at most 256 KB"


@pytest.mark.parametrize("data", [b"a: \xff\n", b"a: \x00\n"], ids=["not UTF-8", "NUL"])
def test_bytes_that_are_no_text_are_a_problem(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    assert documents.read(path, "conf/x.yaml").problems


@pytest.mark.parametrize(
    "text",
    ["${oc.env:HOME}", "${ oc.env : HOME }", "${oc.${x}:HOME}", "${now:%Y}", "a ${hydra:job} b"],
)
def test_an_interpolation_that_reads_the_outside_is_refused(text: str) -> None:
    assert documents.refused_interpolation(text)


@pytest.mark.parametrize("text", ["${seed}", "${a.b}/x", "${llmops.sql:${name}}", "${secret:KEY}"])
def test_an_interpolation_within_the_config_is_accepted(text: str) -> None:
    assert documents.refused_interpolation(text) is None


def test_what_is_right_in_a_file_with_a_mistake_is_kept() -> None:
    document = parse("a: 1\n_target_: os.system\nb: {on: 1, c: 2}\n")
    assert document.value == {"a": 1, "b": {"c": 2}}
