"""``llmops review``: judge a pull request that changes ``conf/``, and say so under it.

Validates every experiment, says what the change means, plans what it affects against the locks,
and checks that each lock belongs to the config that is merged. In a GitHub workflow it takes the
pull request from the event; elsewhere it prints.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError, LlmopsError

if TYPE_CHECKING:
    from llmops.plan.diff import Diff

SUMMARY = "judge a pull request that changes conf/, and keep one comment under it"
INVALID, REFUSED = 2, 3
_EPILOG = """In a GitHub workflow the pull request, its base and the token come from the
environment: GITHUB_EVENT_PATH, GITHUB_REPOSITORY, GITHUB_TOKEN, GITHUB_API_URL and
GITHUB_STEP_SUMMARY.

example:  llmops review --base main --dry-run"""


@dataclass(frozen=True)
class LockCheck:
    """Whether an experiment's accepted run is one of the config as it is."""

    experiment: str
    run_id: str
    lock_digest: str
    config_digest: str

    @property
    def belongs(self) -> bool:
        """Say whether the two digests are the same."""
        return self.lock_digest == self.config_digest


@dataclass
class Review:
    """What was found; ``exit_code`` is 2 if something is invalid, 3 if something is refused."""

    valid: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    difference: str = ""
    plans: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    locks: list[LockCheck] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if nothing is wrong."""
        return INVALID if self.problems else REFUSED if self.refused else 0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "exit_code": self.exit_code,
            "valid": self.valid,
            "problems": self.problems,
            "plans": self.plans,
            "locks": [{**vars(check), "belongs": check.belongs} for check in self.locks],
            "refused": self.refused,
        }

    def markdown(self) -> str:
        """Return the comment's text."""
        return "\n".join(_paragraphs(self)) + "\n"


def main(argv: Sequence[str]) -> int:
    """Review, print, and comment where there is a pull request to comment."""
    given = _parser().parse_args(argv)
    event = _event()
    base = given.base or event.get("base")
    if not base:
        raise ConfigError("nothing to compare with", hint="llmops review --base main")
    found = review(base, given.head, given.fail_on)
    text = found.markdown()
    print(json.dumps(found.as_json(), indent=1, ensure_ascii=False) if given.json else text)
    _summarise(text)
    if not given.dry_run:
        _comment(text, given, event)
    return found.exit_code


def review(base: str, head: str | None, fail_on: str) -> Review:
    """Judge the change from ``base`` to ``head``, the working tree if null."""
    from llmops import api
    from llmops.cli.diff import conditions
    from llmops.plan.diff import matches
    from llmops.review import render

    wanted = conditions(fail_on)
    found = Review()
    digests = _validate(found)
    difference = api.diff(base, head)
    found.difference = render.markdown(difference)
    found.refused += matches(difference, wanted)
    _plan(found, difference)
    found.locks += _locks(digests)
    found.refused += [
        f"{check.experiment}: the lock is of run {check.run_id}, whose config is another one"
        for check in found.locks
        if not check.belongs
    ]
    return found


def _validate(found: Review) -> dict[str, str]:
    """Validate every experiment; return the digests of the valid ones by their name."""
    from llmops import api
    from llmops.config import project
    from llmops.config.identity import config_digest

    digests: dict[str, str] = {}
    for name in project.names("experiment"):
        try:
            config = api.validate([f"+experiment={name}"]).config
        except LlmopsError as exc:
            found.problems[name] = exc.problem
        else:
            found.valid.append(name)
            digests[config["name"]] = config_digest(config)
    return digests


def _plan(found: Review, difference: Diff) -> None:
    """Plan each affected experiment, against its lock if it has one."""
    from llmops import api
    from llmops.config.project import workspace
    from llmops.lineage.lock import lock_path

    for changed in difference.experiments:
        if changed.change not in ("changed", "added") or changed.name not in found.valid:
            continue
        against = "lock" if lock_path(workspace(), changed.name).exists() else None
        try:
            plan = api.plan([f"+experiment={changed.name}"], against=against).as_json()
        except LlmopsError as exc:
            found.problems[changed.name] = exc.problem
            continue
        found.plans[changed.name] = [
            {part: str(step[part]) for part in ("name", "status", "reason")}
            for step in plan["steps"]
        ]


def _locks(digests: Mapping[str, str]) -> Iterator[LockCheck]:
    from llmops.config.project import workspace
    from llmops.lineage.lock import lock_path, read_lock

    for name, digest in sorted(digests.items()):
        path = lock_path(workspace(), name)
        if path.exists():
            lock = read_lock(path)
            yield LockCheck(name, lock["run_id"], lock["config_digest"], digest)


# ------------------------------------------------------------------- the comment


def _paragraphs(found: Review) -> Iterator[str]:
    verdict = {0: "nothing stands against it", INVALID: "**not valid**", REFUSED: "**refused**"}
    yield f"## Review of the config: {verdict[found.exit_code]}"
    yield ""
    yield f"{len(found.valid)} experiments are valid, {len(found.problems)} are not."
    for name, problem in found.problems.items():
        yield from ("", f"`{name}`:", "", *_fenced(problem))
    for sentence in found.refused:
        yield from ("", f"> [!CAUTION]\n> {sentence}")
    yield from ("", "### What the change means", "", found.difference)
    if found.plans:
        yield from ("", "### What a run would do")
        for name, steps in found.plans.items():
            yield from _plan_lines(name, steps)
    if found.locks:
        yield from ("", "### Accepted runs", "")
        yield from (_lock_line(check) for check in found.locks)


def _plan_lines(name: str, steps: Sequence[Mapping[str, str]]) -> Iterator[str]:
    due = [step for step in steps if step["status"] != "cached"]
    yield from ("", f"`{name}`: {len(due)} of {len(steps)} steps run.", "")
    if due:
        yield from ("| step | | why |", "|---|---|---|")
        yield from (f"| {s['name']} | {s['status']} | {_cell(s['reason'])} |" for s in due)


def _lock_line(check: LockCheck) -> str:
    if check.belongs:
        return f"* `{check.experiment}`: run {check.run_id} is of this config."
    return (
        f"* `{check.experiment}`: run {check.run_id} is of config {check.lock_digest[:12]}, this "
        f"is {check.config_digest[:12]}. Run it and accept the run: `python -m llmops run "
        f"+experiment={check.experiment}`, then `python -m llmops accept RUN`."
    )


def _fenced(text: str) -> list[str]:
    """Fence a text, whatever it holds: a pull request of a stranger may hold anything."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, text, fence]


def _cell(text: str) -> str:
    plain = re.sub(r"\s+", " ", text).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`" if plain else ""


# ------------------------------------------------------------------------ GitHub


def _event() -> dict[str, Any]:
    """Return what the workflow's event says of the pull request; empty outside of one."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if not path or not Path(path).is_file():
        return {}
    request = json.loads(Path(path).read_text("utf-8")).get("pull_request")
    if not request:
        return {}
    head = (request["head"].get("repo") or {}).get("full_name")  # none: the fork is gone
    return {
        "base": request["base"]["sha"],
        "number": request["number"],
        "fork": head != request["base"]["repo"]["full_name"],
    }


def _summarise(text: str) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _comment(text: str, given: argparse.Namespace, event: Mapping[str, Any]) -> None:
    from llmops.cli.github import Forbidden, PullRequest

    repository = given.repository or os.environ.get("GITHUB_REPOSITORY")
    number = given.pull_request or event.get("number")
    token = os.environ.get("GITHUB_TOKEN")
    if not (repository and number):
        return _note("no pull request to comment: --repository and --pull-request name one")
    if not token:
        return _note("no GITHUB_TOKEN: no comment; the review is in the job's summary")
    api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    try:
        address = PullRequest(api, token, repository, int(number)).comment(text)
    except Forbidden as exc:
        why = "this is a fork's" if event.get("fork") else "it needs `pull-requests: write`"
        return _note(
            f"the token may not comment ({why}; {exc}); the review is in the job's summary"
        )
    return _note(f"commented: {address}")


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmops review",
        description=SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", metavar="REF", help="what the change is compared with")
    parser.add_argument("--head", metavar="REF", help="the change; the working tree if left out")
    parser.add_argument(
        "--fail-on", default="", metavar="CONDITION,...", help="as of `llmops diff`"
    )
    parser.add_argument("--repository", metavar="OWNER/NAME", help="where the pull request is")
    parser.add_argument("--pull-request", type=int, metavar="NUMBER", help="the one to comment")
    parser.add_argument("--dry-run", action="store_true", help="print only, comment nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    return parser
