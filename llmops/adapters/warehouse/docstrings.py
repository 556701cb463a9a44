"""Questions and answers from the docstrings of Python's standard library, as JSON Lines.

Run as a script in a process of its own, ``python -I docstrings.py FOLDER``: it imports some
ninety modules, which no caller should have to carry. Uses the standard library alone and knows
nothing of warehouses. The rows are the same for the same Python version.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

# Modules that do something when they are imported (antigravity, this, idlelib) are not here.
_MODULES = """
abc argparse array ast asyncio base64 bisect bz2 cProfile calendar cmd codecs collections
collections.abc concurrent.futures configparser contextlib copy csv curses dataclasses datetime
decimal difflib dis doctest email.message email.utils enum fileinput fnmatch fractions ftplib
functools getpass gettext glob graphlib gzip hashlib heapq hmac html html.parser http.client
http.cookies http.server imaplib inspect io ipaddress itertools json keyword linecache locale
logging logging.handlers lzma math mimetypes mmap multiprocessing multiprocessing.pool numbers
operator os os.path pathlib pdb pickle pickletools platform plistlib poplib pprint queue random re
readline sched secrets select selectors shelve shlex shutil signal smtplib socket socketserver
sqlite3 ssl stat statistics string struct subprocess sysconfig tarfile tempfile textwrap threading
time timeit token tokenize traceback types typing unicodedata unittest unittest.mock urllib.parse
urllib.request uuid wave weakref webbrowser xml.dom.minidom xml.etree.ElementTree xmlrpc.client
zipfile zipimport zlib zoneinfo
"""
MODULES = _MODULES.split()
SHORTEST_ANSWER = 40  # characters; shorter docstrings answer nothing
LONGEST_ANSWER = 6000
_EPOCH = datetime(2020, 1, 6, 9, 0, tzinfo=UTC)
_QUESTION, _ANSWER = 1, 2
_FIRST_ID = 9_000_000_000  # beyond every post of Stack Overflow, so that no real one is named


@dataclass(frozen=True)
class Entry:
    """A documented class, function or method: ``name`` is its dotted path."""

    name: str
    module: str
    kind: str
    signature: str
    doc: str


def entries() -> Iterator[Entry]:
    """Yield what is documented, in the order of ``MODULES``, each name once."""
    seen: set[str] = set()
    for name in MODULES:
        module = _imported(name)
        for entry in _of_module(name, module) if module else ():
            if entry.name not in seen:
                seen.add(entry.name)
                yield entry


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001  a build of Python may lack curses, readline, ssl, ...
        return None


def _of_module(name: str, module: ModuleType) -> Iterator[Entry]:
    public = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    for attribute in sorted(public):
        value = getattr(module, attribute, None)
        if not (inspect.isroutine(value) or inspect.isclass(value)):
            continue
        yield from _entry(f"{name}.{attribute}", name, value)
        for member in sorted(vars(value)) if inspect.isclass(value) else ():
            if not member.startswith("_") and callable(vars(value)[member]):
                yield from _entry(f"{name}.{attribute}.{member}", name, getattr(value, member))


def _entry(name: str, module: str, value: Any) -> Iterator[Entry]:
    doc = _doc(value)
    if len(doc) >= SHORTEST_ANSWER:
        yield Entry(name, module, _kind(name, module, value), _signature(value), doc)


def _doc(value: Any) -> str:
    try:
        text = (inspect.getdoc(value) or "").strip()
    except Exception:  # noqa: BLE001  a broken ``__doc__`` property is no reason to stop
        return ""
    return (
        text if len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER].rsplit(None, 1)[0] + " ..."
    )


def _kind(name: str, module: str, value: Any) -> str:
    if inspect.isclass(value):
        return "class"
    return "function" if name.count(".") == module.count(".") + 1 else "method"


def _signature(value: Any) -> str:
    try:
        # a default may name the interpreter, which lies elsewhere in each clone
        text = str(inspect.signature(value)).replace(repr(sys.executable), "sys.executable")
    except Exception:  # noqa: BLE001  many built-ins have none
        return ""
    return "" if " at 0x" in text else text  # a default's address differs from run to run


def question_body(entry: Entry) -> str:
    """Return what the asker says: where the thing lives and how it is called."""
    called = entry.name.rsplit(".", 1)[-1]
    return f"\n{called}{entry.signature} is a {entry.kind} of the module {entry.module}."


def posts(number: int, entry: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the question's row and the row of its accepted answer."""
    draw = hashlib.sha256(entry.name.encode()).digest()
    asked = _EPOCH + timedelta(minutes=131 * number)
    answered = asked + timedelta(minutes=5 + draw[0])
    question_id, answer_id = _FIRST_ID + 2 * number, _FIRST_ID + 2 * number + 1
    question = _row(_QUESTION, question_id, question_body(entry), asked, draw[1] % 40) | {
        "title": f"How do I use {entry.name} in Python?",
        "accepted_answer_id": answer_id,
        "answer_count": 1,
        "favorite_count": draw[2] % 10,
        "last_activity_date": _text(answered),
        "owner_display_name": "reader",
        "owner_user_id": 1,
        "tags": "|".join(dict.fromkeys(["python", entry.module.replace("_", "-").lower()])),
        "view_count": 100 + 37 * draw[3],
    }
    answer = _row(_ANSWER, answer_id, entry.doc, answered, draw[4] % 60) | {
        "last_activity_date": _text(answered),
        "owner_display_name": entry.module,
        "owner_user_id": 1000 + MODULES.index(entry.module),
        "parent_id": question_id,
    }
    return question, answer


def _row(kind: int, number: int, body: str, created: datetime, score: int) -> dict[str, Any]:
    return {
        "id": number,
        "title": None,
        "body": body,
        "accepted_answer_id": None,
        "answer_count": None,
        "comment_count": 0,
        "community_owned_date": None,
        "creation_date": _text(created),
        "favorite_count": None,
        "last_activity_date": None,
        "last_edit_date": None,
        "last_editor_display_name": None,
        "last_editor_user_id": None,
        "owner_display_name": None,
        "owner_user_id": None,
        "parent_id": None,
        "post_type_id": kind,
        "score": score,
        "tags": None,
        "view_count": None,
    }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S+00")


def main(folder: Path) -> None:
    """Write ``questions.jsonl`` and ``answers.jsonl`` into ``folder``."""
    warnings.simplefilter("ignore")
    with (
        (folder / "questions.jsonl").open("w", encoding="utf-8", errors="replace") as questions,
        (folder / "answers.jsonl").open("w", encoding="utf-8", errors="replace") as answers,
    ):
        for number, entry in enumerate(entries()):
            question, answer = posts(number, entry)
            questions.write(json.dumps(question) + "\n")
            answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
