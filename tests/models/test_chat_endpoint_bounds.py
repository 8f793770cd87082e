"""Answers without end, bombs, redirects and false certificates end in typed failures, in bounded memory, paid once."""

from __future__ import annotations

import gzip
import json
import ssl
import subprocess
import tracemalloc

import pytest
from batch_server import providing
from chat_server import KEY, Reply, Watch, asks, completion, serving

from prefdata.errors import ModelError
from prefdata.models import ChatEndpoint, Decoding
from prefdata.models.endpoint import _batch_api, _bounded

MOST = 1 << 20


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(_bounded, "MOST_BYTES", MOST)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def answers(script, n=1, watch=None, **options):
    patient = {"max_retries": 1, "backoff_s": 0.001, "concurrency": 1, **options}
    with serving(script) as server:
        part = ChatEndpoint.model_validate({"model": "m", "base_url": server.url, **patient})
        found = list(part.generate(iter(asks(n)), Decoding(max_tokens=5), (watch or Watch()).context))
    return found, server


JUNK = {
    "a page": b"<html>Log in</html>",
    "nothing": b"",
    "another JSON": {"ok": True},
    "a list": [1, 2],
    "null": b"null",
    "deep": b"[" * 100_000,
    "a number": b"17",
    "no choices": {"choices": []},
    "wrong choices": {"choices": [{"message": 3}]},
    "huge": completion("x" * (2 * MOST)),
    "not UTF-8": b"\xff\xfe\xff",
    "an unknown compression": None,
}


@pytest.mark.parametrize("what", JUNK)
def test_junk_with_status_200_is_a_typed_failure_paid_for_each_time_it_came(what):
    headers = {"content-encoding": "br"} if JUNK[what] is None else {}
    content = b"compressed" if JUNK[what] is None else JUNK[what]
    watch = Watch()
    prices = {"prompt": 1.0, "completion": 2.0}
    found, server = answers(lambda *_: Reply(200, content, headers), watch=watch, prices=prices)
    assert [(answer.text, answer.failure) for answer in found] == [(None, "request_failed")]
    assert len(server.bodies) == 2
    assert len(server.names["text 0"]) == 1
    assert KEY not in str(found)


def test_an_answer_that_comes_right_after_junk_is_taken():
    def script(text, before, body):
        return Reply(200, b"<html>" if before == 0 else completion("well"))

    found, server = answers(script)
    assert [answer.text for answer in found] == ["well"]
    assert len(server.bodies) == 2


@pytest.mark.parametrize("size", [MOST // 2, 64 * MOST])
def test_gzip_is_read_up_to_the_limit_and_in_bounded_memory(size):
    body = gzip.compress(json.dumps(completion("x" * size)).encode())
    tracemalloc.start()
    found, _ = answers(lambda *_: Reply(200, body, {"content-encoding": "gzip"}))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [answer.failure for answer in found] == [None if size < MOST else "request_failed"]
    # The server in this process holds the compressed answer; of 64 MB only what one piece grows to is ever there.
    assert most < 80 * MOST if size < MOST else most < 64 * MOST


def test_headers_of_a_megabyte_are_a_failed_connection():
    with pytest.raises(ModelError, match=r"can't be reached: connection failed \(RemoteProtocolError\)"):
        answers(lambda *_: Reply(200, completion("x"), {"x-long": "a" * MOST}))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["http://169.254.169.254/latest", "//other.example/v1", "/v2/chat", "\x1b[31m"])
def test_a_redirect_is_not_followed(status, where):
    with pytest.raises(ModelError, match="which is not followed") as refused:
        answers(lambda *_: Reply(status, b"", {"location": where}), n=3)
    assert "fix `base_url`" in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_a_certificate_of_nobody_is_one_message_and_no_prompt_leaves(tmp_path, monkeypatch):
    certificate = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", certificate, "-out", tmp_path / "public.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "public.pem", certificate)
    with serving(lambda *_: Reply(200, completion("well"))) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        part = ChatEndpoint.model_validate({"model": "m", "base_url": url, "max_retries": 3, "backoff_s": 0.001})
        with pytest.raises(ModelError, match="has a certificate that is not valid"):
            list(part.generate(iter(asks(3)), Decoding(max_tokens=5), Watch().context))
        assert server.bodies == []


def of_a_line(size):
    return lambda *_: {"response": {"status_code": 200, "body": completion("x" * size)}, "error": None}


@pytest.mark.parametrize(
    ("size", "limit", "says"),
    [
        (2 * MOST, {}, "a line of more than 1 MB"),
        (MOST // 4, {"_MOST_FILE": MOST}, "a file of more than 0 GB"),
        (10, {"_MOST_FILE": MOST}, None),
    ],
)
def test_files_of_a_batch_have_limits(monkeypatch, size, limit, says):
    for name, value in {"MOST_BYTES": MOST, **limit}.items():
        monkeypatch.setattr(_batch_api, name, value)
    options = {"model": "m", "backoff_s": 0.001, "batch": {"poll_s": 0.01}}
    with providing(of_a_line(size)) as server:
        part = ChatEndpoint.model_validate({**options, "base_url": server.url})
        if says is None:
            assert all(answer.text for answer in part.generate(iter(asks(8)), Decoding(max_tokens=5), Watch().context))
            return
        with pytest.raises(ModelError, match=f"the batch API of .* sends {says}"):
            list(part.generate(iter(asks(8)), Decoding(max_tokens=5), Watch().context))


def test_what_a_provider_says_of_its_batches_has_a_limit(monkeypatch):
    options = {"model": "m", "backoff_s": 0.001, "batch": {"poll_s": 0.01}}
    with providing() as server:
        monkeypatch.setattr(server, "create", lambda _: {"id": "x" * (2 * MOST)})
        part = ChatEndpoint.model_validate({**options, "base_url": server.url})
        with pytest.raises(ModelError, match=r"sends an answer of more than 1 MB"):
            list(part.generate(iter(asks(1)), Decoding(max_tokens=5), Watch().context))


def test_a_line_is_measured_over_the_pieces_that_it_comes_in(monkeypatch):
    monkeypatch.setattr(_batch_api, "MOST_BYTES", 10)
    line = 0
    for piece in (b"12345", b"6\n1234", b"567890\n", b"\n\n", b"1234567890"):
        line = _batch_api._line_after(piece, line)
    with pytest.raises(_bounded.TooLargeError):
        _batch_api._line_after(b"1\n", line)
    with pytest.raises(_bounded.TooLargeError):
        _batch_api._line_after(b"1\n12345678901\n1", 0)
