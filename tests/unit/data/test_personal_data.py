"""Personal data: found in planted prose and planted code, and hardly ever where there is none."""

import random
import string

import pytest
from stdnum import iban as ibans
from stdnum import luhn

from llmops.data.personal import KINDS, Find, find, mask

PLANTED = 300  # of each kind in each genre
ALL = dict.fromkeys(KINDS, "mask")
FIRST = ("ada", "grace", "linus", "guido", "margaret", "o'brien", "jean-luc", "maria", "wei", "olu")
LAST = ("lovelace", "hopper", "torvalds", "smith", "garcia", "li", "okafor", "nowak", "jensen")
HOSTS = ("example.org", "mail.acme.co.uk", "uni-koeln.de", "gmail.com", "corp.io", "data.museum")
LETTERS = string.ascii_letters + string.digits


def digits(draw, count):
    return "".join(draw.choices(string.digits, k=count))


def email(draw):
    local = draw.choice(
        (
            f"{draw.choice(FIRST)}.{draw.choice(LAST)}",
            f"{draw.choice(FIRST)[0]}{draw.choice(LAST)}{draw.randrange(99)}",
            f"{draw.choice(LAST)}+news",
            f"{draw.choice(FIRST)}_{draw.choice(LAST)}",
        )
    )
    return f"{local.replace(chr(39), '')}@{draw.choice(HOSTS)}"


def phone(draw):
    area, office, line = draw.choice(("212", "415", "617", "303")), "555", f"01{digits(draw, 2)}"
    office = draw.choice(("234", "267", "733", "862"))
    return draw.choice(
        (
            f"({area}) {office}-{line}",
            f"{area}-{office}-{line}",
            f"{area}.{office}.{line}",
            f"+1 {area} {office} {line}",
            f"+44 20 7946 0{digits(draw, 3)}",
            f"+49 30 9018{digits(draw, 4)}",
            f"+33 1 42 68 {digits(draw, 2)} {digits(draw, 2)}",
            f"+91 98{digits(draw, 3)} {digits(draw, 5)}",
        )
    )


def ip(draw):
    if draw.random() < 0.25:
        return f"2001:db8:{draw.randrange(1, 9999):x}::{draw.randrange(1, 9999):x}"
    return f"{draw.randrange(1, 120)}.{'.'.join(str(draw.randrange(256)) for _ in range(3))}"


def card(draw):
    start = draw.choice(("4", "51", "55", "2221", "34", "37", "6011", "3530"))
    length = 15 if start in ("34", "37") else 16
    number = start + digits(draw, length - 1 - len(start))
    number += luhn.calc_check_digit(number)
    if length == 15:
        return draw.choice((number, f"{number[:4]} {number[4:10]} {number[10:]}"))
    mark = draw.choice(("", " ", "-"))
    return mark.join(number[place : place + 4] for place in range(0, 16, 4))


def iban(draw):
    country, length = draw.choice((("DE", 18), ("NL", 0), ("GB", 0), ("FR", 0), ("AT", 16)))
    bban = {
        "NL": lambda: "ABNA" + digits(draw, 10),
        "GB": lambda: "NWBK" + digits(draw, 14),
        "FR": lambda: french(draw),
    }.get(country, lambda: digits(draw, length))()
    number = country + ibans.calc_check_digits(f"{country}00{bban}") + bban
    return draw.choice((number, " ".join(number[p : p + 4] for p in range(0, len(number), 4))))


def french(draw):
    body = digits(draw, 21)
    key = 97 - int(body + "00") % 97
    return f"{body}{key:02d}"


def secret(draw):
    def of(count):
        return "".join(draw.choices(LETTERS, k=count))

    return draw.choice(
        (
            f"AKIA{''.join(draw.choices(string.ascii_uppercase + string.digits, k=16))}",
            f"ghp_{of(36)}",
            f"xoxb-{digits(draw, 12)}-{of(24)}",
            f"AIza{of(35)}",
            f"sk_live_{of(24)}",
            f"sk-proj-{of(40)}",
            f"hf_{of(34)}",
            f"eyJ{of(20)}.eyJ{of(40)}.{of(43)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{of(64)}\n-----END RSA PRIVATE KEY-----",
        )
    )


MAKERS = {"email": email, "phone": phone, "ip": ip, "card": card, "iban": iban, "keys": secret}
PROSE = {
    "email": ("Write to {} if it fails again.", "My address is {}.", "(contact: {})", "<{}>"),
    "phone": ("Call me at {} after six.", "My number is {}, thanks!", "Tel: {}", "({})"),
    "ip": ("The server at {} does not answer.", "I ping {} and wait.", "from {}: timeout"),
    "card": ("I paid with {} and it failed.", "card number {}.", "It was charged to {} twice"),
    "iban": ("Please pay to {} this week.", "My IBAN is {}.", "account {}, thanks"),
    "keys": ("My key is {} and it is refused.", "I pasted {}", "token: {} works"),
}
CODE = {
    "email": (
        'send(to="{}")',
        "# author: {}",
        "user = '{}'",
        '{{"mail": "{}"}}',
        "smtp.login('{}')",
    ),
    "phone": ('call("{}")', "# phone {}", "number = '{}'", '{{"tel": "{}"}}'),
    "ip": ('socket.connect(("{}", 80))', "host = '{}'", "ssh root@{}", "curl http://{}/index.html"),
    "card": ('pay(card="{}")', "number = '{}'", '{{"pan": "{}"}}', "# test with {}"),
    "iban": ('transfer(to="{}")', "iban = '{}'", '{{"iban": "{}"}}'),
    "keys": ('client = Client("{}")', "API_KEY = '{}'", '{{"token": "{}"}}', "export TOKEN={}"),
}
NOTHING_IN_PROSE = (
    "Python 3.11.4 on Windows 10.0.19045.3086 fails, version 1.2.3.4 does not.",
    "It was 12/05/2023 at 10:30:45, 1234567890 rows, 99.5% of 16777216.",
    "Order 4111111111111112 and ISBN 978-3-16-148410-0 are no cards.",
    "See section 4.3.2.1 and RFC 2822; build 10.0.17763.1 is out, listen on 127.0.0.1 or 0.0.0.0.",
    "Meet @guido at 5 @ the cafe; user@localhost is no mailbox; ratio 3:4:5.",
    "The mask is 255.255.255.0 and pi is 3.14159265358979323846.",
    "I have 2000 - 3000 - 4000 items, 555 1234 of 2020-01-01 00:00:00.",
    "DE00 is no account, nor is AB12 CDEF; password and token are mere words here.",
    "Set the token to your own; password: see the manual. Secret: there is none.",
    "MAC 00:1a:2b:3c:4d:5e, UUID 123e4567-e89b-12d3-a456-426614174000.",
)
NOTHING_IN_CODE = (
    "@app.route('/users/<int:id>')\ndef f(x): return x[::2]",
    "c = a@b.T @ x@y.mean() + m@w.dot(v)",
    "std::vector<int> v; auto f = a::b::c; x = data[1::2, ::3]",
    "git clone git@github.com:psf/requests.git",
    "pip install package==1.2.3.4 'other>=10.0.0.1'",
    "password = os.environ['DB_PASSWORD']; token = get_token()",
    "api_key = 'YOUR_API_KEY'; secret = config['secret']; pwd = getpass.getpass()",
    "ts = 1609459200000000; big = 9223372036854775807; h = 0x7fffffffffffffff",
    "sha = 'da39a3ee5e6b4b0d3255bfef95601890afd80709'",
    "id = '123e4567-e89b-12d3-a456-426614174000'  # 00:1a:2b:3c:4d:5e",
    "np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]])",
    "arr = [4 5 2 1 8 9 3 7 6 2 1 5 4 3]; date(2020, 12, 31)",
    "x = 212 - 555 - 1234 + 3.141592653589793 * 2.718281828459045",
    "listen('127.0.0.1', 8080); bind('0.0.0.0'); mask = '255.255.255.0'",
    '  File "/usr/lib/python3.11/site-packages/x.py", line 1234, in __call__',
    "tokenizer = AutoTokenizer.from_pretrained('bert-base-uncased')",
    "[2023-05-12 10:30:45,123] 0000000012345678 0x00007f8a1c2d3e4f",
)


def planted(templates, nothing, seed):
    """Yield texts with what they hold: (text, kind or None, planted text)."""
    draw = random.Random(seed)
    for kind, maker in MAKERS.items():
        for _ in range(PLANTED):
            value = maker(draw)
            quiet = [draw.choice(nothing), draw.choice(nothing)]
            text = draw.choice(templates[kind]).format(value)
            yield "\n".join([quiet[0], text, quiet[1]]), kind, value


def figures(templates, nothing, seed):
    """Return per kind (planted, found whole, reported, reported rightly)."""
    counted = {kind: [0, 0, 0, 0] for kind in KINDS}
    for text, kind, value in planted(templates, nothing, seed):
        start = text.index(value)
        counted[kind][0] += 1
        for found in find(text, ALL, "US"):
            counted[found.kind][2] += 1
            right = found.kind == kind and found.start <= start and found.end >= start + len(value)
            counted[found.kind][3] += right and found.end - found.start <= len(value) + 2
            counted[kind][1] += right
    return counted


@pytest.mark.parametrize(
    ("templates", "nothing"),
    [
        pytest.param(PROSE, NOTHING_IN_PROSE, id="prose"),
        pytest.param(CODE, NOTHING_IN_CODE, id="code"),
    ],
)
def test_recall_and_precision_hold_for_each_kind(templates, nothing):
    counted = figures(templates, nothing, seed=11)
    recall = {kind: found / planted for kind, (planted, found, _, _) in counted.items()}
    precision = {kind: right / max(1, told) for kind, (_, _, told, right) in counted.items()}
    assert {kind: value for kind, value in recall.items() if value < 0.99} == {}
    assert {kind: value for kind, value in precision.items() if value < 0.95} == {}


@pytest.mark.parametrize("text", [*NOTHING_IN_PROSE, *NOTHING_IN_CODE])
def test_nothing_is_found_where_there_is_none(text):
    assert find(text, ALL, "US") == []


def test_a_mask_names_the_kind_and_leaves_the_rest():
    text = "Ask ada@example.org or 192.0.2.7."
    assert mask(text, find(text, ALL, "US")) == "Ask [email] or [ip]."


def test_only_the_kinds_asked_for_are_found():
    text = "Ask ada@example.org or 192.0.2.7."
    assert find(text, {"ip": "mask"}, "US") == [Find("ip", 23, 32)]
