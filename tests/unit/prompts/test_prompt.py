"""One prompt object renders training rows and requests, and never interprets data."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmops.errors import ConfigError
from llmops.ports.model import Message
from llmops.prompts.prompt import Example, Prompt, check_prompt
from llmops.prompts.template import render

CONF = Path(__file__).parents[3] / "conf" / "prompt"
PLAIN = Prompt("plain", "Answer:", "{{ instruction }}\n{{ question }}")


def with_template(template):
    return Prompt("plain", "Answer:", template)


def course_prompt():
    return check_prompt({"prompt": yaml.safe_load((CONF / "so_python.yaml").read_text())})


@given(st.text())
def test_the_course_prompt_renders_to_the_byte(question):
    assert course_prompt().render(question) == (
        "Please answer the following Stackoverflow question on Python. Answer it like you are a "
        "developer answering Stackoverflow questions.\n\nStackoverflow question:\n" + question
    )


@pytest.mark.parametrize(
    "question",
    ["{{ 7*7 }}", "{% for x in y %}", "{# note #}", "<b>&amp;</b>", "a\r\nb\n", "\0\u2028"],
)
def test_a_question_is_data_and_stays_as_it_is(question):
    assert PLAIN.render(question) == f"Answer:\n{question}"


def test_an_instruction_is_data_too():
    assert Prompt("p", "{{ 7*7 }}", "{{ instruction }} {{ question }}").render("x") == "{{ 7*7 }} x"


def test_a_chat_has_system_text_examples_and_question_in_order():
    prompt = Prompt("p", "", "Q: {{ question }}", "Be brief.", (Example("one", "1"),))
    assert prompt.chat("three", [Example("two", "2")]) == (
        Message("system", "Be brief."),
        Message("user", "Q: one"),
        Message("assistant", "1"),
        Message("user", "Q: two"),
        Message("assistant", "2"),
        Message("user", "Q: three"),
    )


def test_a_chat_without_system_text_has_no_system_turn():
    assert PLAIN.chat("x") == (Message("user", "Answer:\nx"),)


@pytest.mark.parametrize(
    "other",
    [
        Prompt("plain", "Reply:", PLAIN.template),
        Prompt("plain", "Answer:", PLAIN.template + "\n"),
        Prompt("plain", "Answer:", PLAIN.template, system=""),
        Prompt("plain", "Answer:", PLAIN.template, examples=(Example("q", "a"),)),
    ],
)
def test_the_digest_covers_all_that_a_model_sees(other):
    assert other.digest() != PLAIN.digest()


def test_the_digest_does_not_cover_the_name():
    assert Prompt("renamed", PLAIN.instruction, PLAIN.template).digest() == PLAIN.digest()


# ---------------------------------------------------------------- bad templates


def test_an_undefined_variable_is_named_with_its_line_and_the_nearest_name():
    with pytest.raises(ConfigError) as refused:
        with_template("{{ question }}\n{{ instructoin }}").check()
    assert refused.value.problem == "prompt.template, line 2: undefined variable 'instructoin'"
    assert "did you mean 'instruction'?" in refused.value.hint
    assert "known variables: question, instruction" in refused.value.hint


def test_a_syntax_error_is_shown_with_its_line():
    with pytest.raises(ConfigError, match=r"prompt\.template, line 2: "):
        with_template("{{ question }}\n{{ if }}").check()


def test_a_template_without_the_question_is_refused():
    with pytest.raises(ConfigError, match="does not use the variable 'question'"):
        with_template("{{ instruction }}").check()


@pytest.mark.parametrize(
    "template",
    [
        "{{ question }}{% for i in range(10**9) %}x{% endfor %}",
        "{{ question * 1000000000 }}",
        "{{ 'x' * 1000000000 ~ question }}",
        "{{ 9 ** 9 ** 9 }}{{ question }}",
        "{{ question|center(1000000000) }}",
        "{{ '%1000000000d'|format(1) }}{{ question }}",
        "{% set x = question ~ question %}{{ x }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}{{ question }}",
        "{{ question.__class__ }}",
        "{{ question['__class__'] }}",
        "{{ cycler }}{{ question }}",
        "{{ lipsum(n=100000) }}{{ question }}",
        "{% include '/etc/passwd' %}{{ question }}",
        "{{ " + "(" * 5000 + "question" + ")" * 5000 + " }}",
        "{{ question|truncate('x') }}",
        "{{ question|truncate(1) }}",
        "{{ question < 5 }}",
        "{{ question|nosuchfilter }}",
    ],
)
def test_what_could_run_away_or_reach_outside_is_refused(template):
    with pytest.raises(ConfigError, match=r"prompt\.template"):
        with_template(template).check()


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% if instruction %}{{ instruction }} {% endif %}{{ question }}", "Answer: What is it?"),
        ("{{ question|upper ~ '!' }}", "WHAT IS IT?!"),
        ("{{ question|truncate(7, true, '', 0) }}\n", "What is\n"),
        ("{{ question if question != '' else 'none' }}", "What is it?"),
    ],
)
def test_conditions_joining_and_plain_filters_work(template, text):
    assert with_template(template).render("What is it?") == text


def test_half_a_character_in_the_prompt_is_refused():
    with pytest.raises(ConfigError, match="half a character"):
        Prompt("p", "bad \ud800", PLAIN.template).check()


# --------------------------------------------------------------- from a config


def test_a_config_without_a_prompt_has_nothing_to_check():
    assert check_prompt({"prompt": None}) is None


def test_a_missing_key_of_the_prompt_is_a_config_error():
    with pytest.raises(ConfigError, match="prompt"):
        check_prompt({"prompt": {"name": "p", "instruction": ""}})


def test_every_prompt_that_ships_is_valid():
    files = sorted(CONF.glob("*.yaml"))
    assert len(files) >= 1
    for file in files:
        assert check_prompt({"prompt": yaml.safe_load(file.read_text())}).name == file.stem


@pytest.mark.parametrize(
    "written",
    [
        "{{ instruction }}\n{{ question }}",
        "{{question}}\r\n",
        "A {# note #}{% raw %}{{ question }}{% endraw %} {{ question }} {{ 'const' }}",
        "{{- question -}}  \n {{ instruction }}",
        "{% if question %}{{ question }}{% endif %}",
        "{{ question | trim }}",
        "{{ question ~ instruction }}",
    ],
)
def test_a_template_without_conditions_is_rendered_as_jinja_does_it(written):
    question = "a {{ question }} <b> & {% x %}\n"
    plain = ImmutableSandboxedEnvironment(keep_trailing_newline=True).from_string(written)
    expected = plain.render(question=question, instruction="Say:")
    assert render(written, question=question, instruction="Say:") == expected


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ instruction }}\n{{ question }}!", ("Do \ue000 it.\n", "!")),
        (
            "{% if instruction %}{{ instruction | upper }} {% endif %}{{ question }}",
            ("DO \ue000 IT. ", ""),
        ),
        ("{{ question }}", ("", "")),
        ("{{ question | truncate(20000) }}", None),
        ("{{ question ~ '!' }}", None),
        ("{{ question }}{{ question }}", None),
        ("{% if instruction %}{{ question }}{% else %}{{ question }}?{% endif %}", ("", "")),
        ("{% if question == 'x' %}Well. {% endif %}{{ question }}", None),
        ("{{ question if instruction else '' }}", None),
        ("{% if not instruction %}{{ question }}{% endif %}", None),
    ],
)
def test_what_a_template_writes_around_any_question_is_read_from_the_template(template, found):
    around = Prompt("p", "Do \ue000 it.", template).around()
    assert (around and (around.before, around.after)) == found
