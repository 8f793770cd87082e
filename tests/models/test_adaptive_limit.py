"""`AdaptiveLimit`: grows while the endpoint keeps up, halves once for each overload."""

from __future__ import annotations

import asyncio
import threading
import time

from chat_server import GUARD_S, Reply, Watch, asks, completion, serving

from prefdata.models.base import Decoding
from prefdata.models.endpoint._limit import AdaptiveLimit
from prefdata.models.endpoint.chat_endpoint import ChatEndpoint


async def round_trip(limit: AdaptiveLimit, *, overloaded: int = 0) -> None:
    """As many requests together as the limit allows; the first `overloaded` of them are told to slow down."""
    together = limit.limit
    for _ in range(together):
        await limit.enter()
    sent = time.monotonic()
    for place in range(together):
        if place < overloaded:
            limit.overloaded(sent)
        else:
            limit.answered()
        limit.leave()


def test_the_limit_doubles_until_the_first_overload_and_then_grows_by_one_a_round_trip() -> None:
    async def grown() -> list[int]:
        limit, seen = AdaptiveLimit(64), []
        for _ in range(3):
            seen.append(limit.limit)
            for _ in range(limit.limit):
                # Each request waits for a place behind others, so that the limit is in use.
                for _ in range(limit.limit):
                    await limit.enter()
                limit.answered()
                for _ in range(limit._under_way):
                    limit.leave()
                if limit.limit >= 2 * seen[-1]:
                    break
        return seen

    assert asyncio.run(grown()) == [4, 8, 16]


def test_a_burst_of_refusals_halves_the_limit_once() -> None:
    async def halved() -> tuple[int, int, int]:
        limit = AdaptiveLimit(100)
        limit._limit = 40.0
        await round_trip(limit, overloaded=40)
        once = limit.limit
        await round_trip(limit, overloaded=1)
        twice = limit.limit
        for _ in range(9):
            await round_trip(limit, overloaded=100)
        return once, twice, limit.limit

    assert asyncio.run(halved()) == (20, 10, 1)


def test_after_an_overload_a_round_trip_adds_about_one() -> None:
    async def grown() -> int:
        limit = AdaptiveLimit(100)
        await round_trip(limit, overloaded=1)
        limit._limit = 10.0
        for _ in range(10):
            await limit.enter()
        for _ in range(10):
            limit.answered()
            limit.leave()
            await limit.enter()
        return limit.limit

    assert asyncio.run(grown()) in (10, 11)


def test_the_limit_never_leaves_one_to_most_and_one_that_is_not_reached_does_not_grow() -> None:
    async def bounds() -> tuple[int, int, int]:
        small = AdaptiveLimit(3)
        for _ in range(20):
            await round_trip(small)
        idle = AdaptiveLimit(64)
        for _ in range(50):
            await idle.enter()
            idle.answered()
            idle.leave()
        single = AdaptiveLimit(1)
        for _ in range(5):
            await round_trip(single, overloaded=1)
        return small.limit, idle.limit, single.limit

    assert asyncio.run(bounds()) == (3, 4, 1)


def test_whoever_waits_gets_a_place_though_another_was_cancelled_on_waking() -> None:
    async def cancelled() -> bool:
        limit = AdaptiveLimit(1)
        await limit.enter()
        first, second = asyncio.create_task(limit.enter()), asyncio.create_task(limit.enter())
        third = asyncio.create_task(limit.enter())
        await asyncio.sleep(0)
        third.cancel()
        limit.leave()
        first.cancel()
        await asyncio.wait_for(second, GUARD_S)
        limit.leave()
        await asyncio.wait_for(limit.enter(), GUARD_S)
        fourth, fifth = asyncio.create_task(limit.enter()), asyncio.create_task(limit.enter())
        await asyncio.sleep(0)
        fourth.cancel()
        limit.leave()
        await asyncio.wait_for(fifth, GUARD_S)
        assert isinstance((await asyncio.gather(fourth, return_exceptions=True))[0], asyncio.CancelledError)
        return first.cancelled() and third.cancelled() and limit._under_way == 1

    assert asyncio.run(cancelled())


def test_an_endpoint_that_takes_three_at_once_is_asked_about_three_at_once() -> None:
    capacity = threading.BoundedSemaphore(3)

    def script(*_: object) -> Reply:
        if not capacity.acquire(blocking=False):
            return Reply(429, {"error": {"message": "slow down"}})
        time.sleep(0.01)
        capacity.release()
        return Reply(200, completion("ok"))

    with serving(script) as server:
        part = ChatEndpoint(model="m", base_url=server.url, concurrency=32, backoff_s=0.01, max_retries=30)
        watch = Watch()
        found = list(part.generate(asks(300), Decoding(), watch.context))
    assert [answer.failure for answer in found] == [None] * 300
    # It takes five answers to come from 2 at once to 4, of which one is refused: some 60 are, however fast it goes.
    # Under a limit that does not adapt they are refused some 170 times, although each backs off by itself.
    assert watch.counts["retries"] < 100


def test_an_endpoint_that_keeps_up_is_asked_as_much_as_the_recipe_allows() -> None:
    most, requests = 12, 40
    changed, there, answered = threading.Condition(), 0, 0

    def script(*_: object) -> Reply:
        """One answer at a time, each when as many requests are there as the answers before it allow."""
        nonlocal there, answered
        with changed:
            there += 1
            changed.notify_all()
            assert changed.wait_for(lambda: there >= min(4 + answered, most, requests - answered), GUARD_S)
            there -= 1
            answered += 1
        return Reply(200, completion("ok"))

    with serving(script) as server:
        part = ChatEndpoint(model="m", base_url=server.url, concurrency=most, max_retries=0, timeout_s=10 * GUARD_S)
        found = list(part.generate(asks(requests), Decoding(), Watch().context))
    assert [answer.failure for answer in found] == [None] * requests
    assert server.most_under_way == most
