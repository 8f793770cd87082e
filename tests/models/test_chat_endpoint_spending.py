"""What endpoints are paid: prices, the budget that is never crossed, deadlines, idempotency keys, log-probabilities."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from chat_server import CUT, GUARD_S, HANG, Reply, Script, Watch, asks, completion, serving
from pydantic import ValidationError

from prefdata.errors import BudgetError, RecipeError, StoreError, UserError
from prefdata.models import ChatEndpoint, Decoding, Prices
from prefdata.models.endpoint._budget import bound_of
from prefdata.models.endpoint._chat_answer import read_answer, read_completion
from prefdata.models.endpoint.spending import Spending, Spent
from prefdata.records import Generation, Message, Request

PRICES = Prices(prompt=10.0, completion=30.0, cached_prompt=2.5)
SHORT = Decoding(max_tokens=10)


def endpoint(url: str, **options: Any) -> ChatEndpoint:
    return ChatEndpoint.model_validate({"model": "m", "base_url": url, "backoff_s": 0.01, "prices": PRICES} | options)


def used(prompt: int, completed: int, cached: int | None = None) -> dict[str, Any]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {**completion("ok"), "usage": {"prompt_tokens": prompt, "completion_tokens": completed, **details}}


def bound(part: ChatEndpoint, request: Request, decoding: Decoding = SHORT) -> float:
    return PRICES.cost(*bound_of(part.body(request, decoding), decoding.max_tokens))


def run(script: Script, n: int, watch: Watch, **options: Any) -> list[Generation]:
    with serving(script) as server:
        return list(endpoint(server.url, **options).generate(asks(n), SHORT, watch.context))


def test_a_price_is_for_a_million_tokens_and_cached_ones_have_their_own() -> None:
    assert PRICES.cost(1_000_000, 1_000_000) == pytest.approx(40.0)
    assert PRICES.cost(1_000_000, 0, 400_000) == pytest.approx(6.0 + 1.0)
    assert Prices(prompt=10, completion=0).cost(1_000_000, 0, 400_000) == pytest.approx(10.0)
    for wrong in ({"prompt": -1}, {"completion": float("nan")}, {"prompt": float("inf")}, {"currency": ""}):
        with pytest.raises(ValidationError):
            Prices.model_validate({"prompt": 1, "completion": 1} | wrong)


def test_what_responses_tell_is_paid_and_counted() -> None:
    watch = Watch()
    run(lambda *_: Reply(200, used(1000, 100, 400)), 5, watch)
    (account, spent), *others = watch.spending.accounts.items()
    assert others == []
    assert account.endswith("/v1 m")
    assert (spent.requests, spent.prompt_tokens, spent.completion_tokens) == (5, 5000, 500)
    assert spent.cost == pytest.approx(5 * (600 * 10 + 400 * 2.5 + 100 * 30) / 1e6)
    assert watch.counts == {"prompt_tokens": 5000, "completion_tokens": 500}
    assert "5 requests, 5,000 prompt tokens, 500 completion tokens, 0.0500 USD" in watch.spending.summary()[0]


@pytest.mark.parametrize(
    "usage",
    [
        *(None, {}, "many", {"prompt_tokens": -3}, {"prompt_tokens": True}, {"prompt_tokens": 10**30}),
        {"prompt_tokens": 10**4000, "completion_tokens": 10**30, "prompt_tokens_details": {"cached_tokens": 10**30}},
    ],
    ids=lambda usage: str(usage)[:40],
)
def test_a_response_that_does_not_tell_its_tokens_is_paid_at_its_bound(usage: Any) -> None:
    watch = Watch()
    with serving(lambda *_: Reply(200, {**completion("ok"), "usage": usage})) as server:
        part = endpoint(server.url)
        list(part.generate(asks(1), SHORT, watch.context))
    assert watch.spending.of(part.account).cost == pytest.approx(bound(part, asks(1)[0]))


def test_refused_tries_cost_nothing_and_unreadable_answers_their_bound() -> None:
    def script(text: str, before: int, _: dict[str, Any]) -> Reply:
        faults = [Reply(500, {"error": {"message": "no"}}), Reply(CUT), Reply(200, b'{"choices": [{"mess')]
        return faults[before] if before < 3 else Reply(200, used(10, 1))

    watch = Watch()
    with serving(script) as server:
        part = endpoint(server.url)
        found = list(part.generate(asks(1), SHORT, watch.context))
    assert found[0].text == "ok"
    spent = watch.spending.of(part.account)
    assert spent.requests == 2
    assert spent.cost == pytest.approx(bound(part, asks(1)[0]) + PRICES.cost(10, 1))
    assert watch.counts["retries"] == 3


def test_no_prompt_has_more_tokens_than_its_bound() -> None:
    """A token has at least one byte, whatever the text."""
    for text in ("a", "日本語" * 50, "🦊" * 99, '\\"\n' * 30, ""):
        request = Request("k", (Message(role="system", content=text), Message(role="user", content=text)), 1)
        part = ChatEndpoint(model="m", prices=PRICES)
        most = bound_of(part.body(request, SHORT), 10)
        assert most.prompt_tokens >= 2 * len(text.encode()) + 2 * 16
        assert most.completion_tokens == 10


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_stops_before_it_is_crossed_and_what_was_answered_is_kept(concurrency: int) -> None:
    watch, found = Watch(), []
    # Each answer costs what it can at most, but for the bytes that are no tokens.
    with serving(lambda *_: Reply(200, used(200, 10), delay_s=0.01)) as server:
        budget = 20.5 * PRICES.cost(200, 10)
        part = endpoint(server.url, budget=budget, concurrency=concurrency)
        with pytest.raises(BudgetError) as caught:
            _collect(part, watch, found)
    spent = watch.spending.of(part.account)
    assert spent.cost <= budget
    assert spent.cost + bound(part, asks(100)[50]) > budget
    assert len(found) == spent.requests == sum(server.asked.values())
    assert 17 <= len(found) <= 20
    for words in (f"{budget:g} USD", f"{spent.cost:.6g} USD are spent", "finished answers are kept; raise `budget`"):
        assert words in str(caught.value)
    assert isinstance(caught.value, UserError)


def _collect(part: ChatEndpoint, watch: Watch, found: list[Generation]) -> None:
    for answer in part.generate(asks(100), SHORT, watch.context):
        found.append(answer)  # noqa: PERF402 - extend would lose all of them when the iterator raises


def test_a_request_waits_for_those_under_way_before_the_budget_is_said_to_be_too_small() -> None:
    watch = Watch()
    with serving(lambda *_: Reply(200, used(1, 1), delay_s=0.01)) as server:
        part = endpoint(server.url, concurrency=8)
        # Room for the bounds of two at once, and for the true cost of all.
        part = part.replace(budget=2.5 * bound(part, asks(40)[39]))
        found = list(part.generate(asks(40), SHORT, watch.context))
    assert len(found) == 40
    assert server.most_under_way <= 2


def test_unreadable_answers_use_up_the_budget_and_never_cross_it() -> None:
    watch, found = Watch(), []
    with serving(lambda *_: Reply(200, b"{torn")) as server:
        part = endpoint(server.url, concurrency=4, max_retries=50)
        budget = 10.2 * bound(part, asks(100)[0])
        part = part.replace(budget=budget)
        with pytest.raises(BudgetError):
            _collect(part, watch, found)
    assert found == []
    assert watch.spending.of(part.account).cost <= budget
    assert sum(server.asked.values()) == watch.spending.of(part.account).requests
    assert watch.counts["completion_tokens"] == 10 * sum(server.asked.values())


def test_the_last_request_is_not_lost_to_the_budget_without_a_word() -> None:
    watch = Watch()
    with serving(lambda *_: Reply(200, b"{torn")) as server:
        part = endpoint(server.url, max_retries=50)
        part = part.replace(budget=2.2 * bound(part, asks(1)[0]))
        with pytest.raises(BudgetError):
            list(part.generate(asks(1), SHORT, watch.context))
    assert sum(server.asked.values()) == 2


def test_a_budget_holds_over_runs_and_for_all_parts_that_share_the_account(tmp_path: Path) -> None:
    file = tmp_path / "spending.jsonl"
    with serving(lambda *_: Reply(200, used(100, 10))) as server:
        part = endpoint(server.url)
        budget = 6.5 * bound(part, asks(1)[0])
        counts = []
        for concurrency in (1, 2, 3):
            watch, found = Watch(spending=Spending(file)), []
            part = endpoint(server.url, budget=budget, concurrency=concurrency, max_retries=concurrency)
            with pytest.raises(BudgetError):
                _collect(part, watch, found)
            counts.append(len(found))
        other = endpoint(server.url, model="another", budget=budget)
        assert len(list(other.generate(asks(3), SHORT, watch.context))) == 3
    assert counts[0] > 6
    assert counts[1:] == [0, 0]


def test_a_budget_without_prices_and_a_change_of_currency_are_refused() -> None:
    with pytest.raises(ValidationError, match="needs `prices`"):
        ChatEndpoint(model="m", budget=5)
    watch = Watch()
    part = ChatEndpoint(model="m", base_url="http://127.0.0.1:9/v1", prices=Prices(prompt=1, completion=1))
    watch.spending.add(part.account, Spent(1, 1, 1, 1.0, "EUR"))
    with pytest.raises(RecipeError, match="'USD', but this build has paid it in 'EUR'"):
        list(part.generate(asks(1), SHORT, watch.context))


def test_a_budget_of_nothing_asks_nothing_and_free_requests_fit_into_it() -> None:
    with serving(lambda *_: Reply(200, used(5, 5))) as server:
        with pytest.raises(BudgetError):
            list(endpoint(server.url, budget=0).generate(asks(1), SHORT, Watch().context))
        assert server.bodies == []
        free = endpoint(server.url, budget=0, prices=Prices(prompt=0, completion=0))
        assert len(list(free.generate(asks(3), SHORT, Watch().context))) == 3


def test_spending_survives_a_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "spending.jsonl"
    Spending(file).add("a", Spent(1, 2, 3, 0.5, "USD"))
    with file.open("ab") as out:
        out.write(b'{"account": "a", "requ')
    again = Spending(file)
    assert again.of("a") == Spent(1, 2, 3, 0.5, "USD")
    again.add("a", Spent(1, 1, 1, 0.25, "USD"))
    assert Spending(file).of("a") == Spent(2, 3, 4, 0.75, "USD")
    assert Spending(tmp_path / "none").accounts == {}
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        Spending(tmp_path / "file" / "spending.jsonl").add("a", Spent(1))


def test_the_speed_of_an_account_is_that_of_its_work_and_not_of_its_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("prefdata.models.endpoint.spending.time.time", lambda: now)
    spending = Spending(tmp_path / "spending.jsonl")
    assert spending.speed("a") is None
    for answer in range(41):
        spending.add("a", Spent(1, 5, 30))
        spending.add("other", Spent(1, 5, 10**6))
        # Two answers a second, and a night in between.
        now += 0.5 if answer != 20 else 30_000
    assert spending.speed("a") == pytest.approx(60.0)
    assert Spending(tmp_path / "spending.jsonl").speed("a") == pytest.approx(60.0)
    few = Spending()
    for _ in range(20):
        few.add("a", Spent(1, 5, 30))
        now += 1
    assert few.speed("a") is None
    few.add("a", Spent(1, 5, 30))
    assert few.speed("a") == pytest.approx(30.0)


def test_a_deadline_ends_a_request_over_all_its_tries() -> None:
    def script(text: str, *_: Any) -> Reply:
        return Reply(503, {"error": {"message": "busy"}}) if text == "text 1" else Reply(200, completion("ok"))

    # The client loads its modules with the first request of all: that takes no time of the deadline here.
    assert run(script, 1, Watch())[0].text == "ok"
    start = time.monotonic()
    # Long enough for the others, which are answered at once.
    found = {answer.key: answer for answer in run(script, 3, Watch(), deadline_s=5, max_retries=10_000, backoff_s=0.05)}
    assert time.monotonic() - start < GUARD_S
    late = found.pop("key-1")
    assert (late.text, late.failure) == (None, "timed_out")
    assert "deadline of 5 s; the last try: status 503" in late.detail
    assert all(answer.text == "ok" for answer in found.values())


def test_a_wait_that_the_deadline_does_not_allow_is_not_waited_for() -> None:
    start = time.monotonic()
    reply = Reply(429, {"error": {"message": "slow"}}, {"retry-after": "250"})
    assert run(lambda *_: reply, 1, Watch(), deadline_s=200)[0].failure == "timed_out"
    assert time.monotonic() - start < GUARD_S


def test_a_request_that_hangs_is_timed_out_by_its_tries_or_by_its_deadline() -> None:
    hangs = Reply(HANG)
    assert run(lambda *_: hangs, 1, Watch(), timeout_s=0.1, max_retries=1)[0].failure == "timed_out"
    found = run(lambda *_: hangs, 1, Watch(), deadline_s=0.2)[0]
    assert (found.failure, "deadline" in found.detail) == ("timed_out", True)


def test_a_request_bears_one_idempotency_key_on_all_its_tries_and_in_every_run() -> None:
    def script(text: str, before: int, _: dict[str, Any]) -> Reply:
        return Reply(500, b"oops") if before == 0 else Reply(200, completion("ok"))

    with serving(script) as server:
        part = endpoint(server.url, leave_out=("seed",))
        same = [Request(f"p/{index}", (Message(role="user", content="one text"),), index) for index in range(4)]
        list(part.generate(asks(3), SHORT, Watch().context))
        first = {text: set(names) for text, names in server.names.items()}
        list(part.generate(asks(3), SHORT, Watch().context))
        assert server.names == first
        assert [len(names) for names in first.values()] == [1, 1, 1]
        assert len(set.union(*first.values())) == 3
        list(part.generate(same, SHORT, Watch().context))
        # Several answers to one prompt are several requests, though their bodies don't differ.
        assert len(server.names["one text"]) == 4
        list(part.generate(asks(1), Decoding(max_tokens=11), Watch().context))
        assert len(server.names["text 0"]) == 2


def test_log_probabilities_are_asked_for_and_come_back_likeliest_first() -> None:
    top = [{"token": "3", "logprob": -2.5}, {"token": "4", "logprob": -0.1}, {"token": "\ud83d", "logprob": -9}]
    content = [
        {"token": "4", "logprob": -0.1, "top_logprobs": top},
        {"token": "!", "logprob": -0.5, "top_logprobs": []},
    ]
    body = completion("4!")
    body["choices"][0]["logprobs"] = {"content": content}
    with serving(lambda *_: Reply(200, body)) as server:
        ask = Request("k", (Message(role="user", content="?"),), 1, top_logprobs=5)
        (found,) = endpoint(server.url).generate([ask], SHORT, Watch().context)
    assert found.top_logprobs == ((("4", -0.1), ("3", -2.5), ("?", -9.0)), (("!", -0.5),))
    assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 5)
    with pytest.raises(ValidationError):
        ChatEndpoint(model="m", extra_body={"logprobs": True})


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [{}]}, {"content": [{"token": "a"}]}, {"content": 3}],
)
def test_log_probabilities_that_are_none_are_none(logprobs: Any) -> None:
    body = completion("4")
    body["choices"][0]["logprobs"] = logprobs
    assert read_completion("k", body).top_logprobs is None
    body["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": None}, {"token": "b", "logprob": -1}]}
    assert read_answer("k", json.dumps(body))[0].top_logprobs == ((), (("b", -1.0),))


@pytest.mark.parametrize(
    "logprob", [10**400, -(10**400), float("inf"), float("nan"), True, "x", None], ids=lambda x: str(x)[:9]
)
def test_a_log_probability_that_is_not_a_number_is_left_out(logprob: Any) -> None:
    token = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}
    token["top_logprobs"].append({"token": "b", "logprob": logprob})
    body = completion("ok")
    body["choices"][0]["logprobs"] = {"content": [token]}
    assert read_completion("k", body).top_logprobs == ((("a", -0.5),),)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"3",
        b"[1]",
        b"[" * 100_000,
        b'{"account": "a", "at": 1}x',
        b'{"account": "a", "at": 1, "requests": "1"}',
        b'{"account": "a", "at": 1, "requests": null}',
        b'{"account": "a", "at": 1, "cost": -1}',
        b'{"account": "a", "at": NaN, "cost": 1}',
        b'{"account": "a", "at": 1, "cost": 1e999}',
        b'{"account": "a", "at": 1, "other": 1}',
        b'{"account": "a", "at": 1, "currency": 3}',
        b'{"account": "a", "at": 1, "cost": 1, "crc": "00000000"}',
        b"\xff\xfe",
    ],
    ids=lambda line: line[:50].decode("latin-1"),
)
def test_a_damaged_payment_is_not_counted_and_the_summary_says_so(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "spending.jsonl"
    paid = Spent(1, 2, 3, 0.5, "USD")
    Spending(file).add("a", paid)
    with file.open("ab") as opened:
        opened.write(line + b"\n")
    Spending(file).add("a", paid)
    spending = Spending(file)
    assert spending.of("a") == paid + paid
    assert "1 damaged lines are not counted" in spending.summary()[-1]


def test_a_flipped_bit_in_any_payment_is_never_another_payment(tmp_path: Path) -> None:
    file = tmp_path / "spending.jsonl"
    Spending(file).add("a", Spent(1, 2, 3, 0.5, "USD"))
    whole = file.read_bytes()
    for at in range(len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert Spending(file).accounts in ({}, {"a": Spent(1, 2, 3, 0.5, "USD")})


def test_payments_that_earlier_versions_wrote_count(tmp_path: Path) -> None:
    line = {"account": "a", "at": 1.5, "requests": 1, "prompt_tokens": 2, "completion_tokens": 3, "cost": 0.5}
    (tmp_path / "file").write_text(json.dumps({**line, "currency": "USD"}) + "\n")
    assert Spending(tmp_path / "file").of("a") == Spent(1, 2, 3, 0.5, "USD")


def test_payments_are_not_read_or_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "file").symlink_to(tmp_path / "notes")
    with pytest.raises(StoreError, match="can't be read: it is a link"):
        Spending(tmp_path / "file")
