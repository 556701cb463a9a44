"""The bytecode of templates: kept beside them, and only used for the text it was made of."""

from __future__ import annotations

import pytest
from jinja2 import Environment, FileSystemLoader

from llmops.report.bytecode import TemplateBytecode

TEMPLATE = "greeting.html.j2"


@pytest.fixture(autouse=True)
def writes_bytecode(monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / TEMPLATE).write_text("Hello {{ name }}", "utf-8")
    return tmp_path


class Counting(Environment):
    """An environment that counts how often it compiled."""

    compiled = 0

    def compile(self, *arguments, **options):
        self.compiled += 1
        return super().compile(*arguments, **options)


def environment(folder, **options) -> Counting:
    cache = TemplateBytecode(options)
    return Counting(loader=FileSystemLoader(folder), bytecode_cache=cache, **options)


def greeting(made: Environment, name: str = "you") -> str:
    return made.get_template(TEMPLATE).render(name=name)


def test_a_template_is_compiled_once_a_machine(folder):
    first, second = environment(folder), environment(folder)
    assert greeting(first) == greeting(second) == "Hello you"
    assert (first.compiled, second.compiled) == (1, 0)
    assert [kept.name.split(".")[0] for kept in folder.glob("__pycache__/*.pyc")] == ["greeting"]


def test_another_text_of_the_same_length_is_compiled_anew(folder):
    greeting(environment(folder))
    before = (folder / TEMPLATE).stat()
    (folder / TEMPLATE).write_text("Hallo {{ name }}", "utf-8")
    assert (folder / TEMPLATE).stat().st_size == before.st_size
    assert greeting(environment(folder)) == "Hallo you"


def test_other_options_have_code_of_their_own(folder):
    greeting(environment(folder, autoescape=False))
    escaping = environment(folder, autoescape=True)
    assert greeting(escaping, name="<b>") == "Hello &lt;b&gt;"
    assert escaping.compiled == 1


def test_torn_bytecode_is_not_used(folder):
    greeting(environment(folder))
    (kept,) = folder.glob("__pycache__/*.pyc")
    kept.write_bytes(kept.read_bytes()[:20])
    again = environment(folder)
    assert greeting(again) == "Hello you"
    assert again.compiled == 1


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(folder):
    (folder / "__pycache__").write_text("no folder", "utf-8")
    made = environment(folder)
    assert greeting(made) == "Hello you"
    assert made.compiled == 1


def test_nothing_is_written_where_python_is_told_not_to(folder, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert greeting(environment(folder)) == "Hello you"
    assert not (folder / "__pycache__").exists()


def test_a_fault_in_a_template_is_told_with_its_line(folder):
    (folder / TEMPLATE).write_text("Hello\n{{ 1 // nothing }}", "utf-8")
    for _ in range(2):  # compiled now, and from bytecode
        with pytest.raises(ZeroDivisionError) as failed:
            environment(folder).get_template(TEMPLATE).render(nothing=0)
        last = failed.traceback[-1]
        assert (last.path.name, last.lineno + 1) == (TEMPLATE, 2)
