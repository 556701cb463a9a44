"""Question templates: Jinja2, sandboxed and strict, with only what ends soon and stays small.

A template is text, its two variables, conditions and a few filters. Loops, assignments, calls,
attributes and arithmetic are refused, so a template cannot run away with time or memory, and the
data it is given is never read as a template. Knows nothing of chats or rows.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from llmops.errors import ConfigError, nearest

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes

VARIABLES = ("question", "instruction")
FILTERS = ("trim", "lower", "upper", "capitalize", "title", "truncate")
WHERE = "prompt.template"
_ALLOWED = f"allowed: text, {', '.join(VARIABLES)}, if, ~ and the filters {', '.join(FILTERS)}"
_ALLOWED_NODES = frozenset(
    {
        *("Template", "TemplateData", "Output", "Name", "Const", "Filter", "Keyword", "Concat"),
        *("If", "CondExpr", "Not", "And", "Or", "Compare", "Operand"),
    }
)


def render(template: str, *, question: str, instruction: str) -> str:
    """Return the text of ``template``; what stands in the two variables is not interpreted.

    Raises:
        ConfigError: If the template does not parse, uses an unknown variable or a refused
            construct, does not use ``question``, or fails on these values.
    """
    program = _compiled(template)
    if isinstance(program, tuple):
        values = {"question": question, "instruction": instruction}
        return "".join(values[one.text] if one.is_variable else one.text for one in program)
    from jinja2 import TemplateError

    try:
        return program.render(question=question, instruction=instruction)
    except (TemplateError, TypeError, ValueError, AssertionError) as exc:
        reason = str(exc) or type(exc).__name__
        raise ConfigError(f"{WHERE} fails: {reason}", hint=_ALLOWED) from exc


def around(template: str, *, instruction: str) -> tuple[str, str] | None:
    """Return what ``template`` writes before and after any question, if it does no more than that.

    Null where a filter, a condition or ``~`` sees the question, or where it stands twice.

    Raises:
        ConfigError: As ``render``.
    """
    from jinja2 import nodes

    known = {*template, *instruction}
    mark = next(sign for sign in map(chr, count(0xE000)) if sign not in known)
    written = render(template, question=mark, instruction=instruction)
    tree = _environment().parse(template)
    plain = [
        node
        for output in tree.find_all(nodes.Output)
        for node in output.nodes
        if isinstance(node, nodes.Name) and node.name == "question"
    ]
    uses = sum(node.name == "question" for node in tree.find_all(nodes.Name))
    if len(plain) < uses or written.count(mark) != 1:
        return None
    before, _, after = written.partition(mark)
    return before, after


class _Piece(NamedTuple):
    """A text of the template, or the name of a variable."""

    text: str
    is_variable: bool


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template | tuple[_Piece, ...]:
    """Return the template, checked; where texts and variables alternate, these are all of it."""
    from jinja2 import TemplateSyntaxError, meta

    environment = _environment()
    try:
        tree = environment.parse(template)
        _check_constructs(tree)
        names = meta.find_undeclared_variables(tree)
        program = environment.from_string(template)
    except TemplateSyntaxError as exc:
        raise ConfigError(f"{WHERE}, line {exc.lineno}: {exc.message}", hint=_ALLOWED) from exc
    except (RecursionError, MemoryError) as exc:  # Python's own limits on nesting
        raise ConfigError(f"{WHERE} is nested too deeply", hint=_ALLOWED) from exc
    _check_names(tree, names)
    return _pieces(tree) or program


def _pieces(tree: nodes.Template) -> tuple[_Piece, ...]:
    """Return the texts and variables of a template that has nothing else; else nothing."""
    from jinja2 import nodes

    found = []
    for output in tree.body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                found.append(_Piece(node.data, is_variable=False))
            elif isinstance(node, nodes.Name):
                found.append(_Piece(node.name, is_variable=True))
            else:
                return ()
    return tuple(found)


def _environment() -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Not for HTML: escaping would change the text that the model sees.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.globals.clear()  # range, cycler, lipsum and the like
    return environment


def _check_constructs(tree: nodes.Template) -> None:
    from jinja2 import nodes

    for node in tree.find_all(nodes.Node):
        kind = type(node).__name__
        if kind not in _ALLOWED_NODES:
            raise _refused(kind.lower(), node.lineno)
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            raise _refused(f"filter '{node.name}'", node.lineno)


def _refused(construct: str, line: int) -> ConfigError:
    return ConfigError(
        f"{WHERE}, line {line}: {construct} is not allowed in a prompt", hint=_ALLOWED
    )


def _check_names(tree: nodes.Template, names: set[str]) -> None:
    known = f"known variables: {', '.join(VARIABLES)}"
    for name in sorted(names.difference(VARIABLES)):
        guess = nearest(name, VARIABLES)
        raise ConfigError(
            f"{WHERE}, line {_line_of(tree, name)}: undefined variable '{name}'",
            hint=f"{guess} {known}" if guess else known,
        )
    if "question" not in names:
        raise ConfigError(
            f"{WHERE} does not use the variable 'question'",
            hint="every row would look alike to the model; write {{ question }} where it belongs",
        )


def _line_of(tree: nodes.Template, name: str) -> int:
    from jinja2 import nodes

    return min(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
