"""Personal data and secrets in a text: where they stand, and the text without them.

Finds by shape and checks what has a check: card numbers by Luhn and issuer, IBANs by country and
check digits (python-stdnum), telephone numbers by the numbering plans (phonenumbers). What has no
check can be missed or mistaken: docs/data.md states how often. Knows no row and no file.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

KINDS = ("keys", "iban", "card", "email", "ip", "phone")
"""In the order in which they claim a place: the surest first."""

# What a text must hold to be looked at for a kind; a superset that RE2 reads in linear time.
HINTS: Mapping[str, str] = {
    "keys": r"AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[baprse]-|AIza|[sr]k_(?:live|test)_|sk-"
    r"|hf_|npm_|eyJ|PRIVATE KEY|SG\.|://[^\s/@:]*:[^\s/@]+@"
    r"|(?i:secret|token|passw|pwd|api[_-]?key|access[_-]?key|auth)",
    "iban": r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}",
    "card": r"\d(?:[ -]?\d){12}",
    "email": r"@",
    "ip": r"\d\.\d{1,3}\.\d{1,3}\.\d|[0-9A-Fa-f]:[0-9A-Fa-f:]*:",
    "phone": r"\d(?:[ ()./-]{0,3}\d){6}",
}


# Small letters of which a text with a key or secret holds some: looked for before the pattern.
_KEY_WORDS = (
    *("akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox"),
    *("aiza", "k_live", "k_test", "sk-", "hf_", "npm_", "eyj", "private key", "sg.", "://"),
    *("secret", "token", "passw", "pwd", "api", "access", "auth"),
)


@dataclass(frozen=True)
class Find:
    """One find: its kind and where it stands, in characters."""

    kind: str
    start: int
    end: int


def find(text: str, kinds: Mapping[str, str], region: str) -> list[Find]:
    """Return what ``text`` holds of ``kinds`` (its keys), in order and without overlaps.

    Args:
        text: Prose or code.
        kinds: Kinds to look for.
        region: Whose national telephone numbers count, e.g. ``US``; others need their ``+``.
    """
    taken: list[Find] = []
    for kind in KINDS:
        if kind in kinds:
            finder = _FINDERS[kind]
            for start, end in finder(text, region):
                if all(end <= other.start or start >= other.end for other in taken):
                    taken.append(Find(kind, start, end))
    return sorted(taken, key=lambda found: found.start)


def likely(text: str, kinds: Iterable[str]) -> list[str]:
    """Return the kinds that are worth looking for in ``text``; microseconds where there is none."""
    return list(_likely(text, tuple(kinds)))


@lru_cache(maxsize=64)  # the policy asks of a text, and the log again
def _likely(text: str, kinds: tuple[str, ...]) -> tuple[str, ...]:
    possible = {"email": "@" in text, "keys": _names_a_key(text.lower())}
    with_digits = _DIGIT.search(text) is not None
    if not with_digits:
        possible["ip"] = text.count(":") > 1
    return tuple(
        kind for kind in kinds if possible.get(kind, with_digits) and _hint(kind).search(text)
    )


def _names_a_key(small: str) -> bool:
    for word in _KEY_WORDS:  # noqa: SIM110 - half the time of any()
        if word in small:
            return True
    return False


_DIGIT = re.compile(r"\d")


@cache
def _hint(kind: str) -> re.Pattern[str]:
    return re.compile(HINTS[kind])


def mask(text: str, finds: list[Find]) -> str:
    """Return the text with each find replaced by its kind: ``[email]``."""
    pieces, done = [], 0
    for found in finds:
        pieces += [text[done : found.start], f"[{found.kind}]"]
        done = found.end
    return "".join([*pieces, text[done:]])


Spans = Iterator[tuple[int, int]]

# ----------------------------------------------------------------- e-mail addresses

_EMAIL = re.compile(
    r"(?<![\w.+%/-])[A-Za-z0-9](?:[A-Za-z0-9._%+'-]{0,62}[A-Za-z0-9_+-])?@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,40})"
    r"(?![\w@]|[-.]\w|[(\[])"
)
_NOT_MAILBOXES = ("git", "hg", "svn")  # git@host:path names a repository


def _emails(text: str, region: str) -> Spans:
    for found in _EMAIL.finditer(text):
        local = found[0].partition("@")[0]
        if local in _NOT_MAILBOXES and text[found.end() : found.end() + 1] in (":", "/"):
            continue
        if ".." not in local:
            yield found.span()


# ---------------------------------------------------------------------- addresses

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\w.-]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?!\w|:\w)")
_VERSION = re.compile(
    r"(?:[=<>~^]\s*|\b(?:v|ver|version|release|build|update|section|chapter|oid)\b[\s:=.\"']*)$",
    re.IGNORECASE,
)
_LOOKBACK = 24


def _addresses(text: str, region: str) -> Spans:
    for found in _IPV4.finditer(text):
        before = text[max(0, found.start() - _LOOKBACK) : found.start()]
        address = ipaddress.IPv4Address(found[0])
        if _of_someone(address) and not (_VERSION.search(before) and not _assigned(before)):
            yield found.span()
    for found in _IPV6.finditer(text):
        address6 = found[0] if _is_ipv6(found[0]) else found[0].removesuffix(":")
        if any(len(group) >= 3 for group in address6.split(":")) and _is_ipv6(address6):
            yield found.start(), found.start() + len(address6)


def _assigned(before: str) -> bool:
    """Say whether the address is a value that a name for addresses is set to."""
    return bool(re.search(r"(?i)(?:ip|host|addr\w*|server|bind|gateway|dns)\s*[=:]\s*$", before))


def _of_someone(address: ipaddress.IPv4Address) -> bool:
    """Say whether an address can lead to a person: masks, loopback and `any` cannot."""
    return not (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.packed[0] in (0, 255)
    )


def _is_ipv6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


# ------------------------------------------------------------------- cards and IBANs

_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w]|[.-]\d)")
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|62\d{14,17}|(?:5018|5020|5038|6304|6759|676[1-3])\d{8,15}"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])")


def _cards(text: str, region: str) -> Spans:
    from stdnum import luhn

    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if _ISSUERS.fullmatch(digits) and luhn.is_valid(digits) and _evenly(found[0]):
            yield found.span()


def _evenly(text: str) -> bool:
    """Say whether the digits stand in one run or in groups as on a card."""
    groups = [len(group) for group in re.split(r"[ -]", text)]
    return len(groups) == 1 or (min(groups) >= 3 and max(groups) <= 7)


def _ibans(text: str, region: str) -> Spans:
    from stdnum import iban

    for found in _IBAN.finditer(text):
        # Words may follow in capitals: the longest beginning that is an IBAN is taken.
        pieces = found[0]
        while len(pieces) >= 15:
            if iban.is_valid(pieces):
                yield found.start(), found.start() + len(pieces)
                break
            pieces = pieces[:-1].rstrip()


# ------------------------------------------------------------------------ telephones

_NUMBER = re.compile(r"(?:\+|\b00|\()?\d[\d ()./\-\u2010-\u2013]{5,24}\d")
_BRACKETED = re.compile(r"\(([^()]{7,30})\)")


def _phones(text: str, region: str) -> Spans:
    from phonenumbers import Leniency, PhoneNumberMatcher

    for start, end in _around_digits(text):
        # The matcher takes brackets for those of an area code, so whole numbers lose theirs.
        piece = _BRACKETED.sub(lambda found: f" {found[1]} ", text[start:end])
        for match in PhoneNumberMatcher(piece, region, leniency=Leniency.VALID, max_tries=64):
            if _looks_dialled(text, start + match.start, start + match.end):
                yield start + match.start, start + match.end


def _around_digits(text: str) -> Spans:
    """Yield pieces that can hold a number, with some text around each; none overlaps another."""
    last_start, last_end = -1, -1
    for found in _NUMBER.finditer(text):
        start, end = max(0, found.start() - 8), min(len(text), found.end() + 8)
        if start <= last_end:
            last_end = end
            continue
        if last_start >= 0:
            yield last_start, last_end
        last_start, last_end = start, end
    if last_start >= 0:
        yield last_start, last_end


def _looks_dialled(text: str, start: int, end: int) -> bool:
    """Tell a number to dial from a figure: code is full of digits that a plan would allow."""
    found, after = text[start:end], text[end : end + 1]
    before = text[max(0, start - _LOOKBACK) : start]
    if after.isalnum() or after == "_" or (before[-1:].isalnum() or before[-1:] in ("_", "#", "$")):
        return False
    if re.fullmatch(r"\d{4}[-/. ]\d{1,2}[-/. ]\d{1,2}.*", found) or re.search(r"\d\.\d$", before):
        return False
    if found.startswith("+"):
        return True
    if _CUE.search(before):
        return True
    return bool(
        re.fullmatch(r"1?[ .-]?(?:\(\d{3}\) ?|\d{3}([ .-]))\d{3}[ .-]\d{4}(?: ?x\d+)?", found)
    )


_CUE = re.compile(
    r"(?i)(?:tel|phone|call|mobile|cell|fax|dial|whatsapp|sms)\w*['\"]?[\s.:=('\"]*(?:(?:me|us|at|on|is|number|no|to)\b[\s.:=('\"]*){0,3}$"
)

# --------------------------------------------------------------------------- secrets

_KNOWN = re.compile(
    r"(?<![A-Za-z0-9_-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}"
    r"|github_pat_[A-Za-z0-9_]{40,255}|glpat-[A-Za-z0-9_-]{20,}|xox[baprse]-[A-Za-z0-9-]{10,}"
    r"|AIza[0-9A-Za-z_-]{35}|[sr]k_(?:live|test)_[0-9A-Za-z]{16,}|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,}"
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})(?![A-Za-z0-9])"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]{1,8192}?-----END [A-Z ]{1,40}-----)?"
)
_IN_ADDRESS = re.compile(r"://[^\s/@:'\"]{0,64}:(?P<value>[^\s/@'\"]{3,128})@[\w.-]+")
_ASSIGNED = re.compile(
    r"(?i)(?:secret|token|passw(?:or)?d|passwd|pwd|api[_-]?key|access[_-]?key|auth(?:orization)?)"
    r"[\w-]{0,24}['\"]?\]?\s{0,3}(?:=>|:=|=|:)\s{0,3}(?:(?:bearer|basic)\s+)?"
    r"(?P<quote>['\"]?)(?:(?:bearer|basic)\s+)?(?P<value>[A-Za-z0-9+/_.~!@#$%^&*-]{8,256}={0,2})(?P=quote)"
)
_PLACEHOLDER = re.compile(
    r"(?i)your|example|xxx|placeholder|change|dummy|test|sample|secret|password|token|insert"
    r"|\.\.\.|\*\*\*|<|\bnone\b|null|environ|getenv|config|self\.|request"
)
_LEAST_BITS = 3.0  # of entropy a character, for a value that no known shape vouches for


def _secrets(text: str, region: str) -> Spans:
    for pattern in (_PRIVATE_KEY, _KNOWN):
        for found in pattern.finditer(text):
            if not _PLACEHOLDER.search(found[0].partition("_")[2][:40]) or "test_" in found[0]:
                yield found.span()
    for found in _IN_ADDRESS.finditer(text):
        if not re.fullmatch(r"[<{$*].*|pass|password|pwd|secret|xxx+", found["value"]):
            yield found.span("value")
    for found in _ASSIGNED.finditer(text):
        if _is_random(found["value"], quoted=bool(found["quote"])):
            yield found.span("value")


def _is_random(value: str, *, quoted: bool) -> bool:
    """Say whether a value looks drawn rather than named: letters and digits, evenly spread."""
    if _PLACEHOLDER.search(value) or not (
        re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    ):
        return False
    if not quoted and (len(value) < 16 or "." in value):
        return False  # without quotes it is as likely an expression
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= min(
        _LEAST_BITS, math.log2(len(value)) - 0.7
    )


_FINDERS: Mapping[str, Callable[[str, str], Spans]] = {
    "keys": _secrets,
    "iban": _ibans,
    "card": _cards,
    "email": _emails,
    "ip": _addresses,
    "phone": _phones,
}
