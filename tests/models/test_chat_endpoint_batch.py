"""`ChatEndpoint(batch=Batch())` against a provider's batch API on loopback: joined by id, found again, paid once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from batch_server import Provider, answered, providing, refused
from chat_server import GUARD_S, Watch, asks, completion
from pydantic import ValidationError

from prefdata.errors import BudgetError, ModelError
from prefdata.models import Batch, ChatEndpoint, Decoding, Prices
from prefdata.models.endpoint._budget import bound_of
from prefdata.records import Generation

DECODING = Decoding(max_tokens=10)
PRICES = Prices(prompt=1.0, completion=2.0)


def endpoint(server: Provider, *, batch: dict[str, Any] | None = None, **options: Any) -> ChatEndpoint:
    told = {"model": "m", "base_url": server.url, "backoff_s": 0.01, "prices": PRICES, "max_retries": 3}
    return ChatEndpoint.model_validate({**told, "batch": {"poll_s": 0.01, **(batch or {})}, **options})


def run(part: ChatEndpoint, n: int, watch: Watch | None = None) -> dict[str, Generation]:
    found = list(part.generate(asks(n), DECODING, (watch or Watch()).context))
    assert sorted(answer.key for answer in found) == sorted(f"key-{i}" for i in range(n))
    return {answer.key: answer for answer in found}


def test_requests_go_out_in_files_and_are_joined_by_id() -> None:
    watch = Watch()
    with providing() as server:
        found = run(endpoint(server, extra_body={"top_k": 5}), 20, watch)
    assert all(found[f"key-{i}"].text == f"TEXT {i}" for i in range(20))
    (batch,) = server.batches.values()
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    lines = [json.loads(line) for line in server.files[batch["input_file_id"]].splitlines()]
    assert len({line["custom_id"] for line in lines}) == 20
    assert lines[3] == {
        "custom_id": lines[3]["custom_id"],
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "messages": [{"role": "user", "content": "text 3"}],
            "temperature": 1.0,
            "top_p": 1.0,
            "seed": 3,
            "max_tokens": 10,
            "top_k": 5,
        },
    }
    assert len(lines[3]["custom_id"]) <= 64
    assert watch.counts == {"prompt_tokens": 20 * 11, "completion_tokens": 20 * 7}
    assert next(iter(watch.spending.accounts.values())).cost == pytest.approx(20 * (11 + 14) / 1e6)


def test_files_hold_no_more_than_the_provider_takes_and_few_batches_run_at_once() -> None:
    with providing(looks=3) as server:
        run(endpoint(server, batch={"max_requests": 7, "max_batches": 2}), 30)
        sizes = [server.files[batch["input_file_id"]].count(b"\n") for batch in server.batches.values()]
        assert sizes == [7, 7, 7, 7, 2]
        server.batches.clear()
        line = max(map(len, server.files["file_0"].splitlines(keepends=True)))
        run(endpoint(server, model="n", batch={"max_bytes": 3 * line + 1}), 10)
        assert all(len(server.files[batch["input_file_id"]]) <= 3 * line + 1 for batch in server.batches.values())
        assert len(server.batches) == 4
        server.batches.clear()
        run(endpoint(server, model="o", batch={"max_bytes": 5}), 3)
        assert len(server.batches) == 3


def test_each_line_that_is_no_answer_has_its_reason_or_is_asked_again() -> None:
    def line(text: str, before: int) -> dict[str, Any] | bytes | None:
        number = int(text.split()[1])
        if before == 0:
            passing = {0: refused(429), 1: refused(500), 2: None, 3: b'{"custom_id": "torn', 4: b"[]"}
            if number in passing:
                return passing[number]
            if number == 5:
                return {"response": None, "error": {"code": "batch_expired", "message": "too late"}}
            if number == 6:
                return {"response": {"status_code": 200, "body": {"choices": []}}}
        lasting = {
            7: refused(400, "context_length_exceeded"),
            8: refused(400, "content_filter"),
            9: refused(422, "bad"),
            10: {"response": {"status_code": 200, "body": completion(None, refusal="I won't")}},
            11: refused(503),
            12: {"response": None, "error": {"code": "batch_expired", "message": "too late"}},
            13: None,
            14: {"response": {"status_code": 200, "body": "?"}},
            15: {"response": "?", "error": "?"},
            16: {"response": {"status_code": 200, "body": {"choices": [], "usage": {"prompt_tokens": 2}}}},
        }
        return lasting.get(number, answered(text, before)) if number != 13 else None

    watch = Watch()
    with providing(line) as server:
        found = run(endpoint(server), 18, watch)
    failures = {key: answer.failure for key, answer in found.items() if answer.text is None}
    assert failures == {
        "key-7": "prompt_too_long",
        "key-8": "content_filter",
        "key-9": "refused_by_endpoint",
        "key-10": "refused",
        "key-11": "request_failed",
        "key-12": "timed_out",
        "key-13": "request_failed",
        "key-14": "request_failed",
        "key-15": "request_failed",
        "key-16": "request_failed",
    }
    assert "after 3 retries" in found["key-11"].detail
    assert server.asked["text 0"] == server.asked["text 6"] == 2
    assert server.asked["text 11"] == 4
    assert server.asked["text 17"] == server.asked["text 7"] == 1
    assert watch.counts["retries"] == 7 + 6 * 3
    # What can't be read was computed: it is paid and counted, at every try.
    (spent,) = watch.spending.accounts.values()
    assert (watch.counts["prompt_tokens"], watch.counts["completion_tokens"]) == (
        spent.prompt_tokens,
        spent.completion_tokens,
    )
    assert spent.requests == sum(server.paid.values())


def test_what_an_expired_batch_had_answered_is_kept_and_the_rest_is_asked_again() -> None:
    def line(text: str, before: int) -> dict[str, Any] | None:
        return None if before == 0 and int(text.split()[1]) >= 6 else answered(text, before)

    with providing(line) as server:
        server.ends = lambda number: "completed" if number else "expired"
        found = run(endpoint(server), 10)
    assert all(answer.text for answer in found.values())
    assert len(server.batches) == 2
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_batch_that_fails_or_is_cancelled_ends_the_run_after_what_it_had_answered(status: str) -> None:
    found: list[Generation] = []
    with providing() as server:
        server.ends = lambda number: status if number else "completed"
        part = endpoint(server, batch={"max_requests": 4, "max_batches": 1})
        with pytest.raises(ModelError, match=f"'batch_1' .* has {status}") as caught:
            for answer in part.generate(asks(12), DECODING, Watch().context):
                found.append(answer)  # noqa: PERF402 - extend would lose all of them when the iterator raises
    assert len(found) == (8 if status == "cancelled" else 4)
    assert ("bad_line: line 1" in str(caught.value)) == (status == "failed")
    assert "finished answers are kept" in str(caught.value)


def test_a_provider_whose_queue_is_full_gets_the_rest_when_another_batch_has_ended() -> None:
    with providing(looks=2) as server:
        server.ends = lambda number: "failed token_limit_exceeded" if number == 1 else "completed"
        server.looks = 1
        real = server.look

        def look(batch: dict[str, Any]) -> dict[str, Any]:
            # The first batch goes on until the second has been refused.
            return (
                batch if batch["id"] == "batch_0" and server.batches["batch_1"]["status"] != "failed" else real(batch)
            )

        server.look = look  # type: ignore[method-assign]
        found = run(endpoint(server, batch={"max_requests": 5}), 10)
    assert all(answer.text for answer in found.values())
    assert [batch["status"] for batch in server.batches.values()] == ["completed", "failed", "completed"]
    assert set(server.paid.values()) == {1}


def test_a_run_that_was_killed_finds_its_batches_and_pays_nothing_twice() -> None:
    """What a kill leaves: batches at the provider, some ended and some not, and no word of them here."""
    with providing(looks=1) as server:
        part = endpoint(server, batch={"max_requests": 5})
        killed = part.generate(asks(20), DECODING, Watch().context)
        kept = [next(killed).key for _ in range(3)]
        killed.close()  # type: ignore[attr-defined]  # a generator at run time
        assert len(server.batches) == 4
        states = [batch["status"] for batch in server.batches.values()]
        assert set(states) == {"completed", "in_progress"}
        watch = Watch()
        left = [ask for ask in asks(20) if ask.key not in kept]
        found = {answer.key: answer for answer in part.generate(left, DECODING, watch.context)}
    assert sorted([*found, *kept]) == sorted(ask.key for ask in asks(20))
    assert all(answer.text == f"TEXT {key.split('-')[1]}" for key, answer in found.items())
    assert len(server.batches) == 4
    assert set(server.paid.values()) == {1}
    # An answer is paid when it is taken, so that none is counted twice over the two runs.
    assert sum(spent.requests for spent in watch.spending.accounts.values()) == 17


def test_a_build_that_is_killed_while_its_batches_run_takes_their_answers_when_it_goes_on(tmp_path: Path) -> None:
    generator = {"kind": "chat_endpoint", "model": "m", "backoff_s": 0.01, "batch": {"poll_s": 0.05, "max_requests": 7}}
    with providing(looks=10**9) as server:
        recipe = {
            "name": "batches",
            "seed": 3,
            "limit": 10,
            "prompts": {"kind": "sample"},
            "candidates": [
                {"kind": "samples", "name": "policy", "n": 2, "generator": {**generator, "base_url": server.url}}
            ],
            "scores": {"kind": "baseline"},
            "pairs": {"kind": "best_vs_worst"},
        }
        (tmp_path / "recipe.json").write_text(json.dumps(recipe))
        command = [sys.executable, "-m", "prefdata", "build", "recipe.json", "--out", "build"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with (tmp_path / "said.txt").open("ab") as said:
            build = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=said)
            end = time.monotonic() + GUARD_S
            while sum(server.looked.values()) < 3 and time.monotonic() < end:
                assert build.poll() is None, (tmp_path / "said.txt").read_text()
                time.sleep(0.05)
            build.kill()
            build.wait()
            assert len(server.batches) == 3
            # One of them ends between two queries.
            with server.lock:
                server.end(server.batches["batch_1"])
                server.looks = 1
            subprocess.run(command, cwd=tmp_path, env=environment, stdout=said, stderr=said, timeout=2 * GUARD_S)
    answers = list(tmp_path.glob("build/stages/candidates-*/shard-*.parquet"))
    assert len(answers) == 1, (tmp_path / "said.txt").read_text()
    assert pl.read_parquet(answers[0]).height == 20
    assert len(server.batches) == 3
    assert sum(server.paid.values()) == 20


def test_another_request_of_the_same_kind_is_not_answered_by_an_earlier_batch() -> None:
    with providing() as server:
        run(endpoint(server), 3)
        changed = [ask.__class__(ask.key, ask.messages, ask.seed + 100) for ask in asks(3)]
        list(endpoint(server).generate(changed, DECODING, Watch().context))
        list(endpoint(server).generate(asks(3), Decoding(max_tokens=11), Watch().context))
        assert set(server.paid.values()) == {3}
        run(endpoint(server), 3)
        assert set(server.paid.values()) == {3}


def test_a_batch_of_somebody_else_that_bears_our_mark_is_not_waited_for() -> None:
    with providing(looks=10**9) as server:
        other = endpoint(server)
        stream = other.generate(asks(4), DECODING, Watch().context)
        server.looks = 1
        real, first = server.look, "batch_0"
        server.look = lambda batch: batch if batch["id"] == first else real(batch)  # type: ignore[method-assign]
        server.fault = lambda method, path, before: 500 if path == "/batches/batch_0" else None
        with pytest.raises(ModelError, match="does not answer"):
            next(stream)
        found = list(other.generate(asks(8)[4:], DECODING, Watch().context))
    assert len(found) == 4
    assert server.batches["batch_0"]["status"] == "in_progress"


def test_an_earlier_output_that_was_deleted_is_asked_for_again() -> None:
    watch = Watch()
    with providing() as server:
        run(endpoint(server), 3)
        server.fault = lambda _, path, __: 404 if path == "/files/output_batch_0/content" else None
        assert all(answer.text for answer in run(endpoint(server), 3, watch).values())
        assert set(server.paid.values()) == {2}
    assert any("no longer has the output" in line for line in watch.lines)


def test_a_batch_of_more_than_a_month_ago_is_not_looked_at() -> None:
    with providing() as server:
        run(endpoint(server), 3)
        for batch in server.batches.values():
            batch["created_at"] -= 33 * 24 * 3600
        run(endpoint(server), 3)
        assert set(server.paid.values()) == {2}
        assert server.calls["GET /files/output_batch_0/content"] == 1


def test_a_batch_whose_creation_was_not_confirmed_is_found_and_not_made_again() -> None:
    with providing() as server:
        server.fault = lambda method, path, before: 0 if (method, path, before) == ("POST", "/batches", 0) else None
        found = run(endpoint(server), 5)
    assert len(found) == 5
    assert len(server.batches) == 1
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("path", ["/files", "/batches", "/batches/batch_0", "/files/output_batch_0/content"])
@pytest.mark.parametrize("status", [429, 500, 0])
def test_a_call_that_fails_is_made_again(path: str, status: int) -> None:
    with providing() as server:
        server.fault = lambda method, asked, before: status if asked == path and before == 0 else None
        found = run(endpoint(server), 5)
    assert all(answer.text for answer in found.values())
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "refuses the API key"), (404, "has no batch API"), (400, "refuses the batch"), (307, "sends requests on")],
)
def test_an_endpoint_without_batches_is_one_message(status: int, told: str) -> None:
    with providing() as server:
        server.fault = lambda *_: status
        with pytest.raises(ModelError, match=told):
            run(endpoint(server), 5)


def test_a_budget_limits_what_is_under_way_and_stops_before_it_is_crossed() -> None:
    watch = Watch()
    with providing() as server:
        part = endpoint(server)
        one = PRICES.cost(*bound_of(part.body(asks(20)[10], DECODING), 10))
        part = part.replace(budget=5.5 * one)
        found = []
        with pytest.raises(BudgetError, match="finished answers are kept"):
            for answer in part.generate(asks(200), DECODING, watch.context):
                found.append(answer)  # noqa: PERF402 - extend would lose all of them when the iterator raises
    spent = watch.spending.of(part.account)
    assert spent.cost <= 5.5 * one < spent.cost + 1.05 * one
    assert len(found) == sum(server.paid.values()) == spent.requests > 10
    assert server.files[server.batches["batch_0"]["input_file_id"]].count(b"\n") == 5


def test_a_batch_of_an_earlier_run_takes_its_part_of_the_budget() -> None:
    with providing(looks=10**9) as server:
        part = endpoint(server)
        # The first run ends, as a kill would end it, while its batch is under way.
        server.fault = lambda _, path, __: 401 if path == "/batches/batch_0" else None
        with pytest.raises(ModelError):
            list(part.generate(asks(5), DECODING, Watch().context))
        server.fault = lambda *_: None
        server.looks = 6
        real, made = server.look, []

        def look(batch: dict[str, Any]) -> dict[str, Any]:
            made.append((batch["id"], len(server.batches)))
            return real(batch)

        server.look = look  # type: ignore[method-assign]
        one = PRICES.cost(*bound_of(part.body(asks(9)[8], DECODING), 10))
        watch = Watch()
        found = list(part.replace(budget=5.5 * one).generate(asks(12), DECODING, watch.context))
    assert len(found) == 12
    assert [count for name, count in made if name == "batch_0"] == [1] * 6
    assert watch.spending.of(part.account).cost <= 5.5 * one


def test_requests_that_come_back_unanswered_take_nothing_of_the_budget() -> None:
    with providing(lambda *_: None) as server:
        part = endpoint(server, max_retries=0)
        one = PRICES.cost(*bound_of(part.body(asks(20)[19], DECODING), 10))
        found = run(part.replace(budget=5.5 * one), 20)
    assert {answer.failure for answer in found.values()} == {"request_failed"}
    assert len(server.batches) == 4


def test_every_prompt_refused_ends_the_run_instead_of_dropping_all() -> None:
    with (
        providing(lambda *_: refused(400, "unsupported", "no seed")) as server,
        pytest.raises(ModelError, match="seed"),
    ):
        run(endpoint(server, give_up_after=6), 20)


def test_impossible_sizes_are_refused() -> None:
    for wrong in ({"max_requests": 50_001}, {"max_requests": 0}, {"max_bytes": 10**9}, {"poll_s": 0}):
        with pytest.raises(ValidationError):
            Batch.model_validate(wrong)
