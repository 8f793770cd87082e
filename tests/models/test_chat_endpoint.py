"""`ChatEndpoint` against a real HTTP server on loopback whose faults are scripted."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from chat_server import CUT, GUARD_S, HANG, KEY, Endpoint, Reply, Script, Watch, asks, completion, serving

from prefdata.errors import ModelError
from prefdata.models.base import Decoding
from prefdata.models.endpoint._chat_answer import fatal, retry_after
from prefdata.models.endpoint.chat_endpoint import ChatEndpoint
from prefdata.records import Generation, Request


def endpoint(server: Endpoint, **options: Any) -> ChatEndpoint:
    return ChatEndpoint.model_validate(
        {"model": "m", "base_url": server.url, "api_key_env": "TEST_CHAT_KEY", "backoff_s": 0.01} | options
    )


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CHAT_KEY", KEY)


def run(part: ChatEndpoint, requests: list[Request], decoding: Decoding | None = None) -> dict[str, Generation]:
    found = list(part.generate(requests, decoding or Decoding(), Watch().context))
    assert len({answer.key for answer in found}) == len(found)
    return {answer.key: answer for answer in found}


def only(script: Script, **options: Any) -> Generation:
    with serving(script) as server:
        return run(endpoint(server, **options), asks(1))["key-0"]


def faulty(text: str, before: int, _: dict[str, Any]) -> Reply:
    """About 30 % of the tries fail, each in one of seven ways; text 13 never succeeds, text 14 is refused."""
    if text == "text 14":
        return Reply(400, {"error": {"message": "no", "code": "invalid"}})
    if before == 0 and text in ("text 1", "text 2"):
        return Reply(HANG)
    draw = hashlib.sha256(f"{text}/{before}".encode()).digest()
    if text != "text 13" and draw[0] >= 77:
        return Reply(200, completion(text.upper()), delay_s=0.002)
    faults = [
        Reply(429, {"error": {"message": f"slow down, {KEY}"}}, {"retry-after": "0.02"}),
        Reply(500, b"<html>oops</html>"),
        Reply(503, {"error": {"message": "busy"}}),
        Reply(CUT),
        Reply(200, b'{"choices": [{"mess'),
        Reply(200, {"error": {"message": "overloaded"}}),
    ]
    return faults[draw[1] % len(faults)]


def test_every_request_of_a_faulty_endpoint_is_answered_once_or_fails_with_a_reason() -> None:
    watch = Watch()
    with serving(faulty) as server:
        # A time-out that only the requests reach which hang; and more tries than the faults alone would take.
        part = endpoint(server, concurrency=12, max_retries=20, timeout_s=4, backoff_s=0)
        found = list(part.generate(iter(asks(200)), Decoding(), watch.context))
    assert sorted(answer.key for answer in found) == sorted(f"key-{i}" for i in range(200))
    by_key = {answer.key: answer for answer in found}
    failed = {key: answer.failure for key, answer in by_key.items() if answer.text is None}
    assert failed == {"key-13": "request_failed", "key-14": "refused_by_endpoint"}
    assert all(by_key[f"key-{i}"].text == f"TEXT {i}" for i in range(200) if i not in (13, 14))
    assert 2 <= server.most_under_way <= 12
    # A try that timed out before it was accepted is a retry that the server never saw.
    assert watch.counts["retries"] >= sum(server.asked.values()) - 200 >= 40
    assert 5 <= server.asked["text 13"] <= 21
    assert server.authorizations == {f"Bearer {KEY}"}
    assert not any(KEY in repr(answer) for answer in found)
    assert not any(KEY in line for line in watch.lines)


def test_what_was_asked_and_answered_is_passed_on_whole() -> None:
    schema = {
        "type": "object",
        "properties": {"A": {"type": "integer"}},
        "required": ["A"],
        "additionalProperties": False,
    }
    with serving(lambda *_: Reply(200, completion("yes", "length"))) as server:
        part = endpoint(server, extra_body={"top_k": 5})
        decoding = Decoding(temperature=0.7, top_p=0.95, max_tokens=33, stop=("END",))
        answer = run(part, asks(1, schema), decoding)["key-0"]
    assert answer == Generation("key-0", "yes", "length", 11, 7, "served-model")
    assert server.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "text 0"}],
            "temperature": 0.7,
            "top_p": 0.95,
            "max_tokens": 33,
            "seed": 0,
            "stop": ["END"],
            "top_k": 5,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": True},
            },
        }
    ]


def test_options_say_what_an_endpoint_does_not_take() -> None:
    part = ChatEndpoint(
        model="m", leave_out=("seed", "top_p"), token_limit="max_completion_tokens", structured="json_object"
    )
    body = part.body(asks(1, {"type": "object"})[0], Decoding(temperature=1.0, max_tokens=9))
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "text 0"}],
        "temperature": 1.0,
        "max_completion_tokens": 9,
        "response_format": {"type": "json_object"},
    }
    plain = ChatEndpoint(model="m", structured="none").body(asks(1, {"type": "object"})[0], Decoding())
    assert "response_format" not in plain


@pytest.mark.parametrize(
    ("reply", "slug"),
    [
        (Reply(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}), "prompt_too_long"),
        (Reply(400, {"error": {"message": "filtered", "code": "content_filter"}}), "content_filter"),
        (Reply(400, {"error": {"message": "bad", "code": "x"}}), "refused_by_endpoint"),
        (Reply(422, {"detail": "bad"}), "refused_by_endpoint"),
        (Reply(200, completion("half", "content_filter")), "content_filter"),
        (Reply(200, completion(None, "stop", refusal="I won't")), "refused"),
        (Reply(200, completion(None)), "no_content"),
        (Reply(200, completion("half \ud83d")), "not_unicode"),
        (Reply(500, {"error": {"message": "x"}}), "request_failed"),
        (Reply(200, b"not json"), "request_failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_way_to_fail_has_its_own_reason(reply: Reply, slug: str) -> None:
    answer = only(lambda *_: reply, max_retries=1)
    assert (answer.text, answer.failure) == (None, slug)
    assert answer.detail


def test_the_last_status_is_told_when_the_retries_are_used_up() -> None:
    answer = only(lambda *_: Reply(503, {"error": {"message": f"busy {KEY} busy"}}), max_retries=2)
    assert answer.failure == "request_failed"
    assert "status 503" in answer.detail
    assert "after 2 retries" in answer.detail
    assert KEY not in answer.detail


def test_no_part_of_a_key_that_an_endpoint_repeats_is_left_in_a_message() -> None:
    for lead in (0, 225, 232, 239, 246, 300):
        answer = only(lambda *_, lead=lead: Reply(200, b"." * lead + KEY.encode()), max_retries=0)
        assert "very-secret" not in answer.detail
        assert "sk-" not in answer.detail


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_ends_the_run_with_one_message(status: int) -> None:
    reply = Reply(status, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with serving(lambda *_: reply) as server, pytest.raises(ModelError) as caught:
        list(endpoint(server, concurrency=2).generate(asks(50), Decoding(), Watch().context))
    assert KEY not in str(caught.value)
    assert server.url in str(caught.value)
    assert caught.value.hint
    assert len(server.bodies) <= 2 + 4 + 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_request_and_no_key_is_sent_on_to_another_address(status: int) -> None:
    with serving(lambda *_: Reply(200, completion("stolen"))) as other:
        reply = Reply(status, {}, {"location": f"{other.url}/chat/completions"})
        with serving(lambda *_: reply) as server, pytest.raises(ModelError, match="sends requests on to another"):
            run(endpoint(server), asks(1))
        assert other.bodies == []


def test_a_403_after_an_answer_concerns_that_request_only() -> None:
    def script(text: str, *_: Any) -> Reply:
        return Reply(403, {"error": {"message": "policy"}}) if text == "text 1" else Reply(200, completion("ok"))

    with serving(script) as server:
        found = run(endpoint(server, concurrency=1), asks(3))
    assert [found[f"key-{i}"].failure for i in range(3)] == [None, "refused_by_endpoint", None]


def test_an_account_without_credit_ends_the_run() -> None:
    reply = Reply(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})
    with pytest.raises(ModelError, match="no credit"):
        only(lambda *_: reply)


def test_a_retry_after_is_waited_for_by_all_requests() -> None:
    def script(text: str, before: int, _: dict[str, Any]) -> Reply:
        if text == "text 0" and before == 0:
            return Reply(429, {"error": {"message": "slow"}}, {"retry-after": "0.5"})
        return Reply(200, completion("ok"))

    with serving(script) as server:
        found = run(endpoint(server, concurrency=1), asks(4))
    assert all(answer.text == "ok" for answer in found.values())
    assert server.arrivals[1] - server.arrivals[0] >= 0.45


def test_a_retry_after_that_is_too_long_fails_the_request_at_once() -> None:
    start = time.monotonic()
    answer = only(lambda *_: Reply(429, {"error": {"message": "daily"}}, {"retry-after": "86400"}))
    assert answer.failure == "request_failed"
    assert time.monotonic() - start < GUARD_S


def test_retry_after_is_read_in_each_of_its_forms() -> None:
    assert retry_after({"retry-after": "3"}, 0.0) == 3.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}, 0.0) == 0.25
    assert retry_after({"retry-after": formatdate(1_000_060, usegmt=True)}, 1_000_000.0) == 60.0
    assert retry_after({"retry-after": "-4"}, 0.0) == 0.0
    assert retry_after({"retry-after": "soon"}, 0.0) is None
    assert retry_after({"retry-after": "nan"}, 0.0) is None
    assert retry_after({}, 0.0) is None


def test_an_address_where_nothing_listens_is_one_error() -> None:
    with socket.socket() as silent:
        # It is bound all the time, so that no other process can listen there.
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        part = ChatEndpoint(model="m", base_url=url, max_retries=1, backoff_s=0.01)
        with pytest.raises(ModelError, match="can't be reached"):
            list(part.generate(asks(5), Decoding(), Watch().context))


def test_an_endpoint_that_goes_down_for_good_ends_the_run_instead_of_dropping_the_rest() -> None:
    def script(text: str, *_: Any) -> Reply:
        return Reply(200, completion("ok")) if int(text.split()[1]) < 5 else Reply(502, b"bad gateway")

    with serving(script) as server:
        part = endpoint(server, concurrency=2, max_retries=1, give_up_after=6)
        stream = part.generate(asks(1000), Decoding(), Watch().context)
        with pytest.raises(ModelError, match="stopped answering: 6 requests"):
            list(stream)
    assert len(server.bodies) < 40


def test_an_endpoint_that_refuses_every_request_ends_the_run_instead_of_dropping_every_prompt() -> None:
    reply = Reply(400, {"error": {"message": "Unsupported parameter: 'seed'"}})
    with (
        serving(lambda *_: reply) as server,
        pytest.raises(ModelError, match=r"refuses every request: 6 .*'seed'") as e,
    ):
        list(endpoint(server, concurrency=2, give_up_after=6).generate(asks(1000), Decoding(), Watch().context))
    assert "leave_out" in (e.value.hint or "")
    assert len(server.bodies) < 40


def test_refusals_after_an_answer_concern_their_requests_only() -> None:
    def script(text: str, *_: Any) -> Reply:
        return Reply(200, completion("ok")) if text == "text 0" else Reply(400, {"error": {"message": "policy"}})

    with serving(script) as server:
        found = run(endpoint(server, concurrency=1, give_up_after=3), asks(20))
    assert Counter(answer.failure for answer in found.values()) == {None: 1, "refused_by_endpoint": 19}


def test_a_connection_lost_later_is_that_requests_failure() -> None:
    def script(text: str, *_: Any) -> Reply:
        return Reply(CUT) if text == "text 3" else Reply(200, completion("ok"))

    with serving(script) as server:
        found = run(endpoint(server, concurrency=1, max_retries=2), asks(6))
    assert {key for key, answer in found.items() if answer.failure == "request_failed"} == {"key-3"}
    assert "connection failed" in found["key-3"].detail


def test_requests_are_pulled_as_there_is_room_and_answers_come_at_once() -> None:
    pulled: list[int] = []

    def requests() -> Iterator[Request]:
        for i, request in enumerate(asks(60)):
            pulled.append(i)
            yield request

    with serving(lambda text, *_: Reply(200, completion(text), delay_s=0.005)) as server:
        yielded = 0
        for _ in endpoint(server, concurrency=3).generate(requests(), Decoding(), Watch().context):
            assert len(pulled) - yielded <= 3 + 4
            yielded += 1
    assert yielded == 60


def test_a_slow_answer_holds_no_other_back() -> None:
    others_came = threading.Event()

    def script(text: str, *_: Any) -> Reply:
        if text == "text 0":
            assert others_came.wait(GUARD_S)
        return Reply(200, completion(text))

    found: list[str] = []
    with serving(script) as server:
        for answer in endpoint(server, concurrency=2).generate(asks(8), Decoding(), Watch().context):
            found.append(answer.key)
            if len(found) == 7:
                others_came.set()
    assert sorted(found[:7]) == [f"key-{i}" for i in range(1, 8)]
    assert found[7:] == ["key-0"]


def test_closing_the_stream_cancels_what_is_under_way() -> None:
    others_came = threading.Barrier(5, timeout=GUARD_S)

    def script(text: str, *_: Any) -> Reply:
        if text == "text 0":
            return Reply(200, completion(text))
        others_came.wait()
        return Reply(HANG)

    with serving(script) as server:
        stream = endpoint(server, concurrency=4, timeout_s=10_000).generate(asks(100), Decoding(), Watch().context)
        assert next(stream).key == "key-0"
        others_came.wait()
        stream.close()  # type: ignore[attr-defined]  # a generator at run time
        # The thread that sends is gone, and each of the four that were sent is given up.
        assert not [thread for thread in threading.enumerate() if thread.name == "prefdata-chat-endpoint"]
        assert all(server.hung_up.acquire(timeout=GUARD_S) for _ in range(4))
    assert len(server.bodies) == 5


def test_a_failing_caller_leaves_no_thread_behind() -> None:
    def requests() -> Iterator[Request]:
        yield from asks(2)
        raise RuntimeError("the caller's own")

    with serving(lambda text, *_: Reply(200, completion(text))) as server, pytest.raises(RuntimeError, match="own"):
        list(endpoint(server).generate(requests(), Decoding(), Watch().context))
    assert not [thread for thread in threading.enumerate() if thread.name == "prefdata-chat-endpoint"]


def test_what_is_under_way_when_the_credit_ends_is_still_answered_and_nothing_else_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credit_ended = threading.Event()

    def noted(*told: Any, **named: Any) -> ModelError | None:
        if (end := fatal(*told, **named)) is not None:
            credit_ended.set()
        return end

    def script(text: str, *_: Any) -> Reply:
        if text == "text 3":
            return Reply(429, {"error": {"message": "quota", "code": "insufficient_quota"}})
        if text == "text 2":
            # It is under way until the client knows that the credit has ended.
            assert credit_ended.wait(GUARD_S)
        return Reply(200, completion("ok"))

    monkeypatch.setattr("prefdata.models.endpoint._chat_client.fatal", noted)
    found: set[str] = set()
    with serving(script) as server:
        stream = endpoint(server, concurrency=2).generate(asks(100), Decoding(), Watch().context)
        with pytest.raises(ModelError, match="no credit"):
            for answer in stream:
                found.add(answer.key)
    assert found == {"key-0", "key-1", "key-2"}
    assert len(server.bodies) == 4


def test_a_server_on_this_machine_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_CHAT_KEY")
    assert only(lambda *_: Reply(200, completion("ok"))).text == "ok"
