"""Whether a question may be asked and an answer shown, by the policy. Pure functions.

Three layers are told apart: the provider's own block, our thresholds on scores, our rules. Knows no
model, no scorer and no route: it is given what they said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from llmops.data import personal
from llmops.ports.model import Citation, Response
from llmops.safety import injection, phrases
from llmops.safety.policy import Action, OutputRules, PersonalData, Policy
from llmops.safety.verdict import Finding, Verdict, verdict

Scores = Mapping[str, float | None]
SCORER = "scorer"  # the rule that a text was scored at all
THRESHOLD = "threshold"  # the rule that a score stays below its limit


def decide_input(text: str, policy: Policy, scores: Scores | None = None) -> Verdict:
    """Judge a question before a model sees it; its ``text`` is what the model may be given.

    ``scores`` are the scorer's for the question, null if it failed; they are read only where
    ``policy.input.score`` is set.
    """
    rules = policy.input
    work = _Text(text)
    found = list(_thresholds(scores, policy)) if rules.score else []
    found += work.block_list(rules.block_list, rules.on_block_list)
    if rules.prompt_injection != "ignore" and (signs := injection.signs(text)):
        found.append(Finding("rules", "prompt_injection", rules.prompt_injection, "; ".join(signs)))
    found += work.personal_data(policy.personal_data, rules.personal_data)
    return verdict(work.text, tuple(found), policy.message)


def decide_output(response: Response, scores: Scores | None, policy: Policy) -> Verdict:
    """Judge an answer before anyone sees it; its ``text`` is what may be shown.

    ``scores`` are the scorer's for the answer, null if it failed. The provider's own ratings are
    judged too; where both know a category, the scorer's counts. What the provider blocked stays
    blocked, whatever the scores.
    """
    work = _Text(response.text)
    found = list(_provider(response, policy.output))
    merged = None if scores is None else {**(response.safety or {}), **scores}
    found += _thresholds(merged, policy)
    found += work.block_list(policy.output.block_list, policy.output.on_block_list)
    found += _citations(response, policy.output)
    found += _grounding(response, policy.output)
    found += work.personal_data(policy.personal_data, policy.output.personal_data)
    return verdict(work.text, tuple(found), policy.message)


def violations(scores: Scores | None, thresholds: Mapping[str, float]) -> dict[str, float | None]:
    """Return category -> score for every threshold that these scores break; null: not scored."""
    found = {category: _score(scores, category) for category in thresholds}
    return {
        category: score
        for category, score in found.items()
        if score is None or score >= thresholds[category]
    }


def _score(scores: Scores | None, category: str) -> float | None:
    score = None if scores is None else scores.get(category)
    return None if score is None or not math.isfinite(score) else score


# ---------------------------------------------------------------------- the layers


def _provider(response: Response, rules: OutputRules) -> Iterator[Finding]:
    if response.finish_reason == "recitation":
        yield Finding("provider", "recitation", rules.recitation, "it repeats a source at length")
    elif response.blocked or response.finish_reason == "safety":
        why = response.block_reason or response.finish_reason
        who = {"provider": "the provider"}.get(response.blocked_by, "a step of the chain")
        yield Finding(response.blocked_by, "block", "block", f"{who} blocked it: {why}")


def _thresholds(scores: Scores | None, policy: Policy) -> Iterator[Finding]:
    for category, score in violations(scores, policy.thresholds).items():
        limit = policy.thresholds[category]
        if score is None:
            detail = f"{category} could not be scored"
            yield Finding(
                "thresholds", SCORER, policy.on_scorer_failure, detail, None, limit, category
            )
        else:
            detail = f"{category} {score:.2f}, allowed below {limit:.2f}"
            yield Finding(
                "thresholds", THRESHOLD, policy.on_violation, detail, score, limit, category
            )


def _citations(response: Response, rules: OutputRules) -> Iterator[Finding]:
    rests_on = response.grounding.citations if response.grounding else ()
    repeated = tuple(one for one in response.citations if one not in rests_on)
    share = cited_share(repeated, len(response.text))
    if share > rules.max_cited_share:
        detail = f"{share:.0%} of it repeats sources, allowed {rules.max_cited_share:.0%}"
        limit = rules.max_cited_share
        yield Finding("rules", "cited_share", rules.on_citation, detail, share, limit)
    if rules.citation_licences is not None:
        licences = {citation.licence or "unknown" for citation in repeated}
        if wrong := sorted(licences - set(rules.citation_licences)):
            detail = f"it repeats sources under the licence {', '.join(wrong)}"
            yield Finding("rules", "citation_licence", rules.on_citation, detail)


def _grounding(response: Response, rules: OutputRules) -> Iterator[Finding]:
    grounding = response.grounding
    if grounding is None or rules.ungrounded == "ignore" or response.blocked:
        return
    if grounding.unknown:
        numbers = ", ".join(f"[{number}]" for number in grounding.unknown)
        detail = f"it cites {numbers}, which was not retrieved"
        yield Finding("rules", "unknown_citation", rules.ungrounded, detail)
    elif grounding.passages and not grounding.cited:
        yield Finding("rules", "no_citation", rules.ungrounded, "it cites none of its passages")


def cited_share(citations: tuple[Citation, ...], characters: int) -> float:
    """Return the share of an answer's characters that lie in cited passages, in [0, 1]."""
    covered, end = 0, 0
    for citation in sorted(citations, key=lambda one: one.start):
        start = max(end, citation.start)
        end = max(end, min(citation.end, characters))
        covered += max(0, end - start)
    return covered / characters if characters else 0.0


class _Text:
    """A text under work: each rule looks at what the one before it left."""

    def __init__(self, text: str) -> None:
        self.text = text

    def block_list(self, listed: tuple[str, ...], action: Action) -> Iterator[Finding]:
        if action == "ignore" or not phrases.holds(self.text, listed):
            return
        if action == "redact":
            cleaned = phrases.without(self.text, listed)
            if cleaned is None:  # written in disguise: there is no place to cut it out
                action = "block"
            else:
                self.text = cleaned
        yield Finding("rules", "block_list", action, "it holds a phrase of the block list")

    def personal_data(self, wanted: PersonalData, action: Action) -> Iterator[Finding]:
        if action == "ignore":
            return
        finds = _personal(self.text, wanted)
        if finds:
            if action == "redact":
                self.text = personal.mask(self.text, finds)
            kinds = ", ".join(sorted({one.kind for one in finds}))
            yield Finding("rules", "personal_data", action, f"it holds personal data: {kinds}")


def _personal(text: str, wanted: PersonalData) -> list[personal.Find]:
    kinds = dict.fromkeys(personal.likely(text, wanted.kinds), "")
    return personal.find(text, kinds, wanted.region) if kinds else []
