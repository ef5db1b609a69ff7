"""What a batch does when Thor refuses the account, or seems down; under virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests import virtual_time
from tests.conftest import KEY, TAG
from tests.fake_transport import OK, FakeTransport, Reply, fleet, refused, thor_says
from thor_async import (
    APIKeyNotFound,
    BatchGaveUp,
    InternalServerError,
    NotSentError,
    RetryPolicy,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorClient,
    Verdict,
    WrongTransaction,
)
from thor_async._protocol.http_messages import Answer
from thor_async.emulator import ScriptedAnswer, ThorEmulator

DOWN = Answer(503)


def stop_all(
    reply: Reply, count: int, *, latency: float = 0.02, give_up_after: float | None = 60.0
) -> tuple[list[StopOutcome], FakeTransport, float]:
    """Stops all; returns the outcomes, the transport, and the seconds that it took."""
    thor = FakeTransport(reply, latency)

    async def main() -> tuple[list[StopOutcome], float]:
        loop = asyncio.get_running_loop()
        with thor.installed():
            async with thor.client(retry=RetryPolicy(random=random.Random(7).uniform)) as client:
                started = loop.time()
                outcomes = await client.stop_many(fleet(count), give_up_after=give_up_after)
                return outcomes, loop.time() - started

    outcomes, seconds = virtual_time.run(main)
    assert [outcome.index for outcome in outcomes] == list(range(count))
    return outcomes, thor, seconds


def verdicts(outcomes: list[StopOutcome]) -> Counter[Verdict]:
    return Counter(outcome.verdict for outcome in outcomes)


def test_a_wrong_key_costs_at_most_what_was_in_flight() -> None:
    outcomes, thor, _ = stop_all(lambda *_: thor_says("APIKeyNotFound", 403), 10_000)
    assert 1 <= len(thor.requests) <= 32
    refusals = [outcome.error for outcome in outcomes if outcome.verdict is Verdict.NOT_SENT]
    assert len(refusals) == 10_000 - len(thor.requests)
    for refusal in refusals:
        assert isinstance(refusal, NotSentError)
        assert refusal.reason == "gave_up"
        assert isinstance(refusal.__cause__, APIKeyNotFound)
        assert "APIKeyNotFound" in str(refusal)


def test_a_wrong_key_ends_also_what_waits_for_a_retry() -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return DOWN if command.chargebox != "box-40" else thor_says("APIKeyNotFound", 403)

    outcomes, thor, seconds = stop_all(reply, 1000, latency=0.001)
    assert all(count == 1 for count in thor.sent.values())
    assert isinstance(outcomes[40].error, APIKeyNotFound)
    assert all(type(o.error) is ServerError for o in outcomes[:40])
    assert seconds < 0.1


def test_an_outage_costs_about_200_requests_when_giving_up_at_once() -> None:
    outcomes, thor, _ = stop_all(lambda *_: DOWN, 10_000, give_up_after=0)
    assert 150 <= len(thor.requests) <= 230
    counted = verdicts(outcomes)
    assert counted[Verdict.INDETERMINATE] == len(thor.sent)
    assert counted[Verdict.NOT_SENT] == 10_000 - len(thor.sent)


def test_an_outage_is_probed_by_one_command_at_a_time_and_then_given_up() -> None:
    outcomes, thor, seconds = stop_all(lambda *_: DOWN, 10_000)
    paused_at = max(time for time, _ in thor.requests[:190])
    probes = [round(time - paused_at) for time, _ in thor.requests if time > paused_at + 0.9]
    assert probes == [1, 3, 7, 15, 30, 45, 60]
    assert seconds == pytest.approx(60, abs=2)
    assert len(thor.requests) <= 230
    assert {o.error.reason for o in outcomes if isinstance(o.error, NotSentError)} == {"gave_up"}


def test_an_outage_that_never_gives_up_waits_for_thor() -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return OK if now > 1000 else DOWN

    outcomes, thor, seconds = stop_all(reply, 1000, give_up_after=None)
    assert seconds == pytest.approx(1000, abs=20)
    assert verdicts(outcomes)[Verdict.RELAYED] > 600
    assert len(thor.requests) <= 1000 * 1.3


def test_thors_own_500_is_no_outage() -> None:
    outcomes, thor, _ = stop_all(lambda *_: thor_says("InternalServerError", 500), 10_000)
    assert all(isinstance(outcome.error, InternalServerError) for outcome in outcomes)
    assert len(thor.requests) == 10_100


def test_a_403_without_a_known_code_pauses_like_an_outage() -> None:
    outcomes, thor, seconds = stop_all(lambda *_: Answer(404, b"<html>"), 10_000)
    assert len(thor.requests) <= 64 + 32 + 7
    assert seconds == pytest.approx(60, abs=2)
    assert verdicts(outcomes)[Verdict.NOT_SENT] == 10_000 - len(thor.requests)


def test_an_unknown_chargebox_is_an_answer_and_is_sent_once() -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return OK if int(command.chargebox[4:]) % 200 < 100 else thor_says("ChargeboxNotFound", 404)

    outcomes, thor, seconds = stop_all(reply, 10_000)
    assert set(thor.sent.values()) == {1}
    assert verdicts(outcomes) == {Verdict.RELAYED: 5000, Verdict.REJECTED: 5000}
    assert seconds < 10_000 * 0.02 / 32 * 1.05


@pytest.mark.parametrize("away", [0.1, 2.0, 10.0, 50.0])
@pytest.mark.parametrize("down", [refused, lambda: DOWN], ids=["refusing", "503"])
def test_an_outage_in_the_middle_of_a_batch(away: float, down: Reply) -> None:
    def reply(command: StopCharge, now: float) -> Answer | NotSentError:
        return down() if 2.0 <= now < 2.0 + away else OK  # type: ignore[call-arg,return-value]

    outcomes, thor, seconds = stop_all(reply, 8000)
    assert verdicts(outcomes)[Verdict.RELAYED] >= 0.97 * 8000
    assert len(thor.requests) <= 1.05 * 8000
    assert seconds <= 8000 * 0.02 / 32 + away + 20
    for outcome in outcomes:
        sent = thor.sent[outcome.command.chargebox]
        assert (outcome.verdict is Verdict.NOT_SENT) == (sent == 0)


def test_single_calls_are_not_paused_by_a_batch() -> None:
    thor = FakeTransport(lambda command, now: OK if command.id_tag == "me" else DOWN, 0.01)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with thor.installed():
            async with thor.client() as client:
                batch = asyncio.create_task(client.stop_many(fleet(1000)))
                await asyncio.sleep(20)
                started = loop.time()
                await client.stop_charge(StopCharge("single", 1, "me"))
                assert loop.time() - started == pytest.approx(0.01)
                await batch

    virtual_time.run(main)


def test_a_stream_delivers_what_it_pulled_and_then_raises() -> None:
    thor = FakeTransport(lambda *_: thor_says("RestAPINotEnabled", 403), 0.01)
    pulled: list[StopCharge] = []

    async def main() -> None:
        with thor.installed():
            async with thor.client() as client:
                seen = []
                with pytest.raises(BatchGaveUp, match="RestAPINotEnabled") as raised:
                    async with client.stop_stream(note(pulled, 1000)) as stream:
                        async for outcome in stream:
                            seen.append(outcome)
                assert isinstance(raised.value.cause, Exception)
                assert {o.command.chargebox for o in seen} == {c.chargebox for c in pulled}
                assert len(seen) == len(pulled) <= 33

    virtual_time.run(main)


def test_a_paused_stream_does_not_pull() -> None:
    thor = FakeTransport(lambda command, now: OK if now > 40 else refused(), 0.0)
    pulled: list[StopCharge] = []

    async def main() -> None:
        with thor.installed():
            async with (
                thor.client() as client,
                client.stop_stream(note(pulled, 2000)) as stream,
            ):
                outcomes = [await anext(stream) for _ in range(64)]
                await asyncio.sleep(0.9)
                assert len(pulled) == 64
                await asyncio.sleep(14.5)
                assert len(pulled) == 64 + 4  # the probes at 1, 3, 7 and 15 s
                outcomes += [outcome async for outcome in stream]
        assert len(outcomes) == 2000

    virtual_time.run(main)


def test_a_key_function_that_fails_ends_the_batch() -> None:
    thor = FakeTransport(lambda *_: OK, 0.01)
    keys = iter(["good"] * 50)

    async def main() -> None:
        with thor.installed():
            client = ThorClient(lambda: next(keys, ""), base_url="http://127.0.0.1:1")
            async with client:
                outcomes = await client.stop_many(fleet(500))
        counted = verdicts(outcomes)
        assert counted[Verdict.RELAYED] == len(thor.requests) == 50
        assert counted[Verdict.NOT_SENT] == 450
        assert isinstance(outcomes[-1].error, NotSentError)
        assert outcomes[-1].error.reason == "gave_up"
        assert "API key" in str(outcomes[-1].error.__cause__)

    virtual_time.run(main)


def note(pulled: list[StopCharge], count: int):  # type: ignore[no-untyped-def]
    for command in fleet(count):
        pulled.append(command)
        yield command


def test_three_in_ten_5xx_cost_few_commands_and_few_requests() -> None:
    dice = random.Random(3)
    outcomes, thor, _ = stop_all(lambda *_: DOWN if dice.random() < 0.3 else OK, 10_000)
    assert verdicts(outcomes)[Verdict.RELAYED] >= 0.96 * 10_000
    assert len(thor.requests) <= 1.45 * 10_000
    retries = len(thor.requests) - 10_000
    earned = sum((0.2 if o.attempts == 1 else 1) for o in outcomes if o.verdict is Verdict.RELAYED)
    assert retries <= 100 + earned


def test_without_faults_nothing_is_indeterminate() -> None:
    outcomes, thor, _ = stop_all(lambda *_: OK, 3000)
    assert verdicts(outcomes) == {Verdict.RELAYED: 3000}
    assert len(thor.requests) == 3000


@pytest.mark.parametrize(
    ("transaction", "verdict", "survives"),
    [(None, Verdict.RELAYED, False), (1, Verdict.REJECTED, True)],
    ids=["the documented hazard", "with its transaction"],
)
async def test_a_retry_meets_the_next_drivers_charge(
    emulator: ThorEmulator, transaction: int | None, verdict: Verdict, survives: bool
) -> None:
    """A7: the effect was applied and a 500 answered; then the next driver plugs in."""
    emulator.start_charge("box", 1, TAG, 1)
    emulator.script(ScriptedAnswer(500, effect=True))

    async def next_driver_plugs_in(seconds: float) -> None:
        emulator.start_charge("box", 1, TAG, 2)

    policy = RetryPolicy(sleep=next_driver_plugs_in)
    async with ThorClient(KEY, base_url=emulator.base_url, retry=policy) as client:
        (outcome,) = await client.stop_many([StopCharge("box", 1, TAG, transaction)])
    assert (outcome.verdict, outcome.attempts, outcome.maybe_applied) == (verdict, 2, True)
    assert (("box", 1) in emulator.charges) is survives
    if survives:
        assert isinstance(outcome.error, WrongTransaction)
        assert outcome.next_step == "check"
