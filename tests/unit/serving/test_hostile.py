"""What the ill-willed and the confused send: each gets its refusal, none a 500, none a hang."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest

from llmops.traffic.segments import lines
from tests.fakes.serving import TOKEN, Echo, echoing, running

GOOD = b'{"question": "q"}'
CHAT = b'{"model": "so_python", "messages": [{"role": "user", "content": "q"}]}'
MILLION = b"a" * 1_000_000


def request(
    body: bytes = GOOD,
    path: bytes = b"/v1/predict",
    method: bytes = b"POST",
    host: bytes | None = b"127.0.0.1",
    headers: tuple[bytes, ...] = (),
    length: bytes | None = b"",
    kind: bytes | None = b"application/json",
    token: bytes | None = TOKEN.encode(),
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """Return a request's bytes; ``length`` empty is the true one."""
    head = [method + b" " + path + b" " + version]
    if host is not None:
        head.append(b"Host: " + host)
    if token is not None:
        head.append(b"Authorization: Bearer " + token)
    if kind is not None:
        head.append(b"Content-Type: " + kind)
    if length is not None:
        head.append(b"Content-Length: " + (length or str(len(body)).encode()))
    return b"\r\n".join([*head, b"Connection: close", *headers, b"", body])


def question(text: bytes) -> bytes:
    return b'{"question": ' + text + b"}"


HOSTILE: dict[str, tuple[bytes, set[int]]] = {
    # ----------------------------------------------------------- JSON
    "no body": (request(b""), {400}),
    "half a body": (request(b'{"question": "q'), {400}),
    "two documents": (request(GOOD + GOOD), {400}),
    "a trailing comma": (request(b'{"question": "q",}'), {400}),
    "a comment": (request(b'{"question": "q"} // x'), {400}),
    "single quotes": (request(b"{'question': 'q'}"), {400}),
    "a list": (request(b"[]"), {400}),
    "a number": (request(b"1"), {400}),
    "null": (request(b"null"), {400}),
    "a text": (request(b'"q"'), {400}),
    "NaN": (request(b'{"question": "q", "temperature": NaN}'), {400}),
    "Infinity": (request(b'{"question": "q", "temperature": Infinity}'), {400}),
    "minus Infinity": (request(b'{"question": "q", "temperature": -Infinity}'), {400}),
    "a number over all bounds": (request(b'{"question": "q", "temperature": 1e999}'), {400}),
    "an integer of 5000 digits": (
        request(b'{"question": "q", "seed": ' + b"9" * 5000 + b"}"),
        {400},
    ),
    "a negative seed": (request(b'{"question": "q", "seed": -1}'), {400}),
    "tokens as a text": (request(b'{"question": "q", "max_new_tokens": "5"}'), {400}),
    "tokens as a fraction": (request(b'{"question": "q", "max_new_tokens": 1.5}'), {400}),
    "no tokens": (request(b'{"question": "q", "max_new_tokens": 0}'), {400}),
    "a million tokens": (request(b'{"question": "q", "max_new_tokens": 1000000}'), {400}),
    "true for a number": (request(b'{"question": "q", "temperature": true}'), {400}),
    "a key twice": (request(b'{"question": "a", "question": "b"}'), {400}),
    "a key twice, once escaped": (request(b'{"question": "a", "\\u0071uestion": "b"}'), {400}),
    "an unknown key": (request(b'{"question": "q", "prompt": "x"}'), {400}),
    "a prototype": (request(b'{"question": "q", "__proto__": {"x": 1}}'), {400}),
    "the question is a list": (request(question(b'["q"]')), {400}),
    "the question is an object": (request(question(b"{}")), {400}),
    "the question is null": (request(question(b"null")), {400}),
    "a thousand deep lists": (request(question(b"[" * 1000 + b"]" * 1000)), {400}),
    "a hundred thousand deep": (request(question(b"[" * 100_000 + b"]" * 100_000)), {400}),
    "a hundred thousand open brackets": (request(b"[" * 100_000), {400}),
    "deep objects": (request(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), {400}),
    # -------------------------------------------------------- encodings
    "a lone surrogate": (request(question(b'"\\ud800"')), {400}),
    "surrogates in the wrong order": (request(question(b'"\\udc00\\ud800"')), {400}),
    "bytes that are no UTF-8": (request(question(b'"\xff\xfe"')), {400}),
    "an encoded surrogate": (request(question(b'"\xed\xa0\x80"')), {400}),
    "overlong UTF-8": (request(question(b'"\xc0\xaf"')), {400}),
    "UTF-16": (request('{"question": "q"}'.encode("utf-16")), {400}),
    "a byte order mark": (request(b"\xef\xbb\xbf" + GOOD), {400}),
    "a gzip that is none": (request(headers=(b"Content-Encoding: gzip",)), {415}),
    "a null character": (request(question(b'"a\\u0000b"')), {200}),
    "a raw null": (request(question(b'"a\x00b"')), {400}),
    "text of the wrong direction": (request(question('"\u202e txt.exe"'.encode())), {200}),
    "Zalgo": (request(question(b'"' + "e\u0301".encode() * 3000 + b'"')), {200}),
    # ---------------------------------------------------------- sizes
    "an empty question": (request(question(b'""')), {400}),
    "spaces for a question": (request(question(b'"   \\n\\t "')), {400}),
    "a million characters": (request(question(b'"' + MILLION[:-100] + b'"')), {413}),
    "over the body's cap": (request(question(b'"' + MILLION + b'"')), {413}),
    "a length over the cap": (request(length=b"999999999999"), {413}),
    "many small messages": (
        request(
            json.dumps(
                {"model": "so_python", "messages": [{"role": "user", "content": "q"}] * 500}
            ).encode(),
            b"/v1/chat/completions",
        ),
        {400},
    ),
    # ------------------------------------------------------------ HTTP
    "no content type": (request(kind=None), {415}),
    "a form": (request(b"question=q", kind=b"application/x-www-form-urlencoded"), {415}),
    "plain text": (request(kind=b"text/plain"), {415}),
    "a negative length": (request(length=b"-1"), {400}),
    "a length that is none": (request(length=b"ten"), {400}),
    "two lengths": (request(headers=(b"Content-Length: 3",)), {400}),
    "length and chunks": (request(headers=(b"Transfer-Encoding: chunked",)), {400}),
    "chunks that are none": (
        request(b"zz\r\nxx\r\n", length=None, headers=(b"Transfer-Encoding: chunked",)),
        {0, 400},
    ),
    "an unknown transfer encoding": (
        request(length=None, headers=(b"Transfer-Encoding: gzip",)),
        {0, 400},
    ),
    "a method that is none": (request(method=b"FETCH"), {400}),
    "TRACE": (request(method=b"TRACE"), {405}),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {0, 400, 401}),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", {0, 400, 421}),
    "HTTP/9.9": (request(version=b"HTTP/9.9"), {400}),
    "TLS instead of HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, {400}),
    "binary noise": (bytes(range(256)) * 4, {400}),
    "a websocket": (
        request(
            method=b"GET",
            headers=(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
        ),
        {405},
    ),
    "HTTP/2 by upgrade": (request(headers=(b"Connection: Upgrade", b"Upgrade: h2c")), {200, 400}),
    "a header without a colon": (request(headers=(b"no colon here",)), {400}),
    "a folded header": (request(headers=(b"X-A: b\r\n c",)), {200, 400}),
    "a null in a header": (request(headers=(b"X-A: a\x00b",)), {400}),
    "a header flood": (
        request(headers=tuple(b"X-%d: %s" % (n, b"y" * 50) for n in range(2000))),
        {431},
    ),
    "one huge header": (request(headers=(b"X-A: " + b"y" * 200_000,)), {431}),
    "a huge path": (request(path=b"/" + b"a" * 200_000), {431}),
    "two tokens": (request(headers=(b"Authorization: Bearer other",)), {400}),
    "a huge token": (request(token=b"x" * 10_000), {401}),
    "a token of no ASCII": (request(token=b"\xff\xfe"), {401}),
    "an empty token": (request(token=b""), {401}),
    # ------------------------------------------------- hosts and origins
    "no host": (request(host=None), {400, 421}),
    "another host": (request(host=b"evil.example"), {421}),
    "a host that begins like ours": (request(host=b"127.0.0.1.evil.example"), {421}),
    "a host with a user": (request(host=b"127.0.0.1@evil.example"), {421}),
    "two hosts": (request(headers=(b"Host: evil.example",)), {400}),
    "a host by a forwarded header": (
        request(host=b"evil.example", headers=(b"X-Forwarded-Host: 127.0.0.1",)),
        {421},
    ),
    "another origin": (request(headers=(b"Origin: https://evil.example",)), {403}),
    "the origin null": (request(headers=(b"Origin: null",)), {403}),
    # ------------------------------------------------------------- paths
    "dots": (request(path=b"/v1/../../etc/passwd"), {404}),
    "escaped dots": (request(path=b"/%2e%2e/%2e%2e/etc/passwd"), {404}),
    "an escaped slash": (request(path=b"/v1%2fpredict"), {200, 404}),
    "doubled escapes": (request(path=b"/%252e%252e/x"), {404}),
    "a path of no UTF-8": (request(path=b"/%ff%fe"), {404}),
    "raw bytes in a path": (request(path=b"/\xff\xfe"), {400}),
    "a null in a path": (request(path=b"/v1/predict%00"), {404}),
    "doubled slashes": (request(path=b"//v1//predict"), {404}),
    "a whole address": (request(path=b"http://evil.example/v1/predict"), {200, 400, 404}),
    "a case of its own": (request(path=b"/V1/Predict"), {404}),
    "a trailing slash": (request(path=b"/v1/predict/"), {404}),
    "an open route with a tail": (request(path=b"/healthz/../v1/predict", token=None), {401}),
    "an open route, encoded": (request(path=b"/healthz%2f..%2fmetrics", token=None), {401}),
    # ------------------------------------------------------------ OpenAI
    "no messages": (
        request(b'{"model": "so_python", "messages": []}', b"/v1/chat/completions"),
        {400},
    ),
    "an unknown role": (
        request(CHAT.replace(b'"user"', b'"tool"'), b"/v1/chat/completions"),
        {400},
    ),
    "a picture": (
        request(
            CHAT.replace(b'"q"', b'[{"type": "image_url", "image_url": {"url": "file:///etc"}}]'),
            b"/v1/chat/completions",
        ),
        {400},
    ),
    "the assistant speaks last": (
        request(CHAT.replace(b'"user"', b'"assistant"'), b"/v1/chat/completions"),
        {400},
    ),
    "a model of a path": (
        request(CHAT.replace(b"so_python", b"../../etc/passwd"), b"/v1/chat/completions"),
        {404},
    ),
    "a stream of a wrong model": (
        request(
            CHAT.replace(b"so_python", b"x").replace(b"}]}", b'}], "stream": true}'),
            b"/v1/chat/completions",
        ),
        {404},
    ),
    # ------------------------------------------------------------ the log
    "a line end for the log": (request(question(b'"a\\n{\\"kind\\": \\"answer\\"}\\n"')), {200}),
    "a session of a path": (request(b'{"question": "q", "session": "../../x"}'), {400}),
    "SQL for a session": (request(b'{"question": "q", "session": "x\' OR 1=1 --"}'), {400}),
    "SQL for an id": (request(b'{"id": "x\' --", "rating": "up"}', b"/v1/feedback"), {404}),
    "a template": (request(question(b'"{{ config }} ${secret:HOME} {% x %}"')), {200}),
}


def sent(port: int, data: bytes, seconds: float = 20.0) -> bytes:
    """Send bytes and return what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)  # it may be refused before it was all sent
        if b"Connection: close" not in data:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                found += piece
        return found


def status(answer: bytes) -> int:
    """Return the status of an answer; 0 where the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_the_list_is_long_enough():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_gets_its_refusal(server, name):
    data, allowed = HOSTILE[name]
    answer = sent(server.port, data)
    assert status(answer) in allowed, answer[:300]
    assert b"Traceback" not in answer
    assert status(sent(server.port, request())) == 200, "the next request is answered"


def test_a_line_end_in_a_question_makes_no_second_record(server):
    before = len(list(lines(server.logs)))
    sent(server.port, HOSTILE["a line end for the log"][0])
    assert len(list(lines(server.logs))) == before + 1


def test_a_client_that_sends_its_headers_slowly_is_cut_off(tmp_path):
    overrides = ["serve.timeouts.header_s=0.3", "serve.timeouts.body_s=0.3"]
    with running(tmp_path, echoing(Echo()), overrides=overrides) as found:
        for beginning in (b"", b"POST /v1/pre", request()[:60]):
            assert trickled(found.port, beginning) < 5
        answer_after = slow_body(found.port)
        assert status(sent(found.port, request())) == 200
    assert status(answer_after) == 408


def trickled(port: int, beginning: bytes) -> float:
    """Send a beginning and then a byte now and then; return how long the server bore it."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(beginning)
        connection.settimeout(0.05)
        while time.monotonic() - started < 10:
            try:
                connection.sendall(b"X")
                if connection.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
    return time.monotonic() - started


def slow_body(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request(length=b"1000"))
        return connection.recv(65536)


def test_a_client_that_does_not_read_its_answers_is_cut_off(tmp_path):
    overrides = [
        "serve.timeouts.idle_s=1",
        "serve.timeouts.send_s=0.3",
        "serve.limits.question_characters=900000",
    ]
    with running(tmp_path, echoing(Echo()), overrides=overrides) as found:
        body = json.dumps({"question": "x" * 100_000, "raw": True}).encode()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", found.port))
            asked = request(body).replace(b"Connection: close\r\n", b"")
            with contextlib.suppress(OSError):  # cut off while it still asks
                for _ in range(60):
                    connection.sendall(asked)
            deadline = time.monotonic() + 20
            while _open_connections(found) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert _open_connections(found) == 0


def _open_connections(found) -> int:
    import psutil

    return sum(
        one.status == "ESTABLISHED" and one.laddr.port == found.port
        for one in psutil.Process().net_connections("tcp")
    )


def test_more_connections_than_allowed_are_turned_away(tmp_path):
    with running(tmp_path, echoing(Echo()), overrides=["serve.limits.connections=3"]) as found:
        idle = [socket.create_connection(("127.0.0.1", found.port)) for _ in range(3)]
        time.sleep(0.2)
        assert status(sent(found.port, request())) in (0, 503)
        for connection in idle:
            connection.close()
        time.sleep(0.2)
        assert status(sent(found.port, request())) == 200
