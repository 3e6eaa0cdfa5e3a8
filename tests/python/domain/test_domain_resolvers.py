"""A resolver of the caller's."""

import asyncio
import signal
import threading

import pytest
import starttls
from deliveries import DOMAIN, HOST, both, looped
from starttls import aio, errors
from world import MX, mx


def test_what_a_resolver_raises_is_a_failed_look_up(policy, world):
    def broken():
        raise ValueError("no such cable")

    world.instead[DOMAIN, MX] = broken
    with pytest.raises(errors.LookupFailedError) as raised:
        starttls.connect_domain(DOMAIN, policy)
    assert raised.value.temporary and "ValueError: no such cable" in str(raised.value) and DOMAIN in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        starttls.Answer("text", "secure"),
        starttls.Answer(["text"], "secure"),
        starttls.Answer([b"\0"], "secure"),
        starttls.Answer([mx(10, HOST)[:-3]], "secure"),
        starttls.Answer([mx(10, HOST)], "sure"),
        starttls.Answer([mx(10, HOST)], "secure", ttl=-1),
        starttls.Answer([mx(10, HOST)], "secure", ttl=float("nan")),
        starttls.Answer([b""] * 100_000, "secure"),
    ],
)
def test_answers_that_are_none(policy, world, answer):
    world.instead[DOMAIN, MX] = lambda: answer
    with pytest.raises(errors.LookupFailedError):
        starttls.connect_domain(DOMAIN, policy)


@pytest.mark.parametrize("ttl", [-1, float("nan"), float("inf")])
def test_a_wrong_ttl_is_named(policy, world, ttl):
    world.instead[DOMAIN, MX] = lambda: starttls.Answer([mx(10, HOST)], "secure", ttl=ttl)
    with pytest.raises(errors.LookupFailedError, match="ttl") as raised:
        starttls.connect_domain(DOMAIN, policy)
    assert "time-out" not in str(raised.value)


def test_a_resolver_that_asks_itself(world):
    """It ends, and not by SIGSEGV; from another thread, too, and again."""
    depths = []

    def back(name, kind, timeout):
        depths.append(1)
        return starttls.routes(DOMAIN, policy)

    policy = starttls.Policy("opportunistic", resolver=back, timeout=10)
    for _ in range(2):
        depths.clear()
        with pytest.raises(errors.LookupFailedError, match="called from within itself"):
            starttls.connect_domain(DOMAIN, policy)
        assert len(depths) == 8


def test_without_a_proof_nothing_is_proven(policy, world):
    world.instead[DOMAIN, MX] = lambda: starttls.Answer([mx(10, HOST)])
    with starttls.connect_domain(DOMAIN, policy) as session:
        assert session.outcome.domain.mx == "indeterminate"


@both
def test_ctrl_c_within_a_resolver(connect, policy, world):
    if connect is looped:
        pytest.skip("signal handlers run in the main thread")

    def interrupted():
        signal.raise_signal(signal.SIGINT)
        return starttls.Answer()

    world.instead[HOST, "A"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        connect(DOMAIN, policy)
    # Nobody was asked or called after that.
    assert world.asked[-1] == (HOST, "A")


def test_the_loop_runs_while_a_resolver_waits(policy, world):
    release, ticks = threading.Event(), []

    def slow():
        assert release.wait(10)
        return starttls.Answer([mx(10, HOST)], "secure")

    world.instead[DOMAIN, MX] = slow

    async def run():
        task = asyncio.create_task(aio.connect_domain(DOMAIN, policy))
        for _ in range(5):
            await asyncio.sleep(0.01)
            ticks.append(task.done())
        release.set()
        _, writer = await task
        writer.close()
        await writer.wait_closed()

    asyncio.run(run())
    assert ticks == [False] * 5 and threading.get_ident() not in world.threads
