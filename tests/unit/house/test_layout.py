"""What must hold of the repository as a whole: headers, sizes, links, and commands that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from llmops.cli import VERBS

ROOT = Path(__file__).parents[3]
MEGABYTE = 1_000_000
OF_USERS = {"mine", "greeting", "first"}  # experiments of the reader's own, or of `init`
COMMAND = re.compile(r"python -m llmops +(?P<words>[^\n`|)]*)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *$", re.MULTILINE)
# Written in two halves, so that this file is not among those that hold them.
REGISTRIES = tuple(
    "".join(halves)
    for halves in (
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("download.py", "torch.org"),
        ("ana", "conda.org"),
        ("npm", "js.org"),
        ("npm", "js.com"),
    )
)


def _files() -> list[Path]:
    """Return every file that is or would be tracked."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


FILES = _files()
CONF = sorted(
    file for file in FILES if file.is_relative_to(ROOT / "conf") and file.suffix != ".json"
)
PAGES = sorted(file for file in FILES if file.suffix == ".md")
WITH_COMMANDS = [*PAGES, *CONF]


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _opening_comment(file: Path) -> list[str]:
    mark = "--" if file.suffix == ".sql" else "#"
    lines = file.read_text("utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith(mark)), len(lines))
    comment = [line.removeprefix(mark).strip() for line in lines[:end]]
    return [
        line
        for line in comment
        if line and not line.startswith(("@package", "yaml-language-server:"))
    ]


def test_the_repository_has_what_these_tests_look_at() -> None:
    assert len(CONF) >= 20
    assert len(PAGES) >= 10


@pytest.mark.parametrize("file", CONF, ids=_name)
def test_a_config_file_opens_with_what_it_is(file: Path) -> None:
    comment = _opening_comment(file)
    assert comment
    assert comment[0][0].isupper() or comment[0][0] == "`"


@pytest.mark.parametrize("file", [f for f in CONF if f.suffix == ".yaml"], ids=_name)
def test_a_config_file_names_the_command_that_runs_it(file: Path) -> None:
    assert COMMAND.search("\n".join(_opening_comment(file)))


def _commands(file: Path) -> list[list[str]]:
    return [found["words"].split() for found in COMMAND.finditer(file.read_text("utf-8"))]


@pytest.mark.parametrize("file", WITH_COMMANDS, ids=_name)
def test_every_command_names_a_verb_that_exists(file: Path) -> None:
    verbs = [words[0] for words in _commands(file) if words and not words[0].startswith("-")]
    assert [verb for verb in verbs if verb not in VERBS and verb != "VERB"] == []


@pytest.mark.parametrize("file", WITH_COMMANDS, ids=_name)
def test_every_command_chooses_files_that_exist(file: Path) -> None:
    """``mine`` stands for a user's own; a page may misspell a choice to show what is said then."""
    page = file.read_text("utf-8")
    missing = [
        f"{group}={choice}"
        for words in _commands(file)
        for group, choices in _choices(words)
        for choice in choices
        if choice not in OF_USERS and f"got      '{choice}'" not in page
        if not (ROOT / "conf" / group / f"{choice}.yaml").exists()
    ]
    assert missing == []


def _choices(words: list[str]) -> list[tuple[str, list[str]]]:
    """Return the groups that a command line chooses for, with a sweep's choices each."""
    pairs = [word.lstrip("+").split("=", 1) for word in words if "=" in word]
    return [
        (pair[0], pair[1].split(","))
        for pair in pairs
        if (ROOT / "conf" / pair[0]).is_dir() and pair[1].replace(",", "").islower()
    ]


@pytest.mark.parametrize("file", PAGES, ids=_name)
def test_every_link_leads_somewhere(file: Path) -> None:
    broken = []
    for link in LINK.finditer(file.read_text("utf-8")):
        if link["path"].startswith(("http:", "https:", "mailto:")):
            continue
        target = (file.parent / link["path"]).resolve() if link["path"] else file
        if not target.exists() or (link["anchor"] and link["anchor"] not in _anchors(target)):
            broken.append(link[0])
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers make them."""
    headings = [found["text"] for found in HEADING.finditer(page.read_text("utf-8"))]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_no_file_is_over_a_megabyte() -> None:
    assert [_name(file) for file in FILES if file.stat().st_size > MEGABYTE] == []


def test_no_file_names_the_address_of_a_package_registry() -> None:
    found = {
        _name(file)
        for file in FILES
        for text in [file.read_bytes().decode("utf-8", "replace")]
        if any(registry in text for registry in REGISTRIES)
    }
    assert found == set()


def test_the_constraints_are_plain_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 100
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+==[0-9][a-z0-9.]*", pin)] == []


def test_every_table_of_the_design_stands_in_the_tree() -> None:
    """``docs/architecture.md`` names folders and files; all of them exist."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = re.findall(r"`((?:llmops|conf|tests|docs|benchmarks|runs)/[^`*<]*)`", page)
    assert len(named) >= 20
    assert [path for path in named if not (ROOT / path).exists()] == []
