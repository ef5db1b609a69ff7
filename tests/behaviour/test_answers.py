"""Scripts of answers to one command, through a whole client but no socket."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import aiohttp
import msgspec
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import CallbackResult, aioresponses
from yarl import URL

from tests.conftest import KEY, TAG, Rests, shown
from thor_async import (
    APIKeyNotFound,
    ChargeboxNotFound,
    ConnectionLost,
    ConnectorNotValid,
    InternalServerError,
    InvalidSourceIPAddr,
    NotInTransaction,
    NotSentError,
    RejectedError,
    ResponseTimeout,
    RestAPINotEnabled,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
    Verdict,
    WrongTransaction,
)

BASE = "http://127.0.0.1:9/x"
STOP = f"{BASE}/charges/stop"
NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT."""

DOCUMENTED: list[tuple[int, type[ThorError]]] = [
    (400, ConnectorNotValid),
    (400, NotInTransaction),
    (400, WrongTransaction),
    (403, APIKeyNotFound),
    (403, RestAPINotEnabled),
    (403, InvalidSourceIPAddr),
    (404, ChargeboxNotFound),
    (500, InternalServerError),
]
Script = list[tuple[int, dict[str, Any]] | Exception]


class Thor:
    """Gives the scripted answers in order, and keeps the requests."""

    def __init__(self, mocked: aioresponses) -> None:
        self.mocked = mocked

    def add_answer(self, status: int, code: str | None = None, **more: Any) -> None:
        if code is not None:
            more["payload"] = {"message": code}
        self.mocked.post(STOP, status=status, **more)

    def add_answers(self, script: str) -> None:
        """Adds an answer for each word: a status, a status:Retry-After, a code, or `refused`."""
        statuses = {error.__name__: status for status, error in DOCUMENTED}
        for word in script.split():
            status, _, retry_after = word.partition(":")
            headers = {"Retry-After": retry_after} if retry_after else {}
            if word == "refused":
                key = ConnectionKey("127.0.0.1", 9, False, True, None, None, None)
                refusal = aiohttp.ClientConnectorError(key, OSError(111, "Connection refused"))
                self.mocked.post(STOP, exception=refusal)
            elif word in statuses:
                self.add_answer(statuses[word], word)
            elif word == "500":
                self.add_answer(500, "InternalServerError")
            else:
                self.add_answer(int(status), headers=headers)

    @property
    def requests(self) -> list[dict[str, Any]]:
        calls = self.mocked.requests.get(("POST", URL(STOP)), [])
        assert sum(map(len, self.mocked.requests.values())) == len(calls)
        return [call.kwargs for call in calls]


@pytest.fixture
def thor() -> Iterator[Thor]:
    with aioresponses() as mocked:
        yield Thor(mocked)


async def stop(
    command: StopCharge, rests: Rests, key: str | Callable[[], str] = KEY, **policy: Any
) -> StopOutcome:
    retry = rests.policy(now=lambda: NOW, **policy)
    async with ThorClient(key, base_url=BASE, retry=retry) as client:
        return await client.stop_charge(command)


async def fail(
    command: StopCharge, rests: Rests, key: str | Callable[[], str] = KEY, **policy: Any
) -> ThorError:
    with pytest.raises(ThorError) as caught:
        await stop(command, rests, key, **policy)
    error = caught.value
    assert error.command is command
    assert error.__cause__ is error.__context__ is None
    assert KEY not in shown(error)
    assert TAG not in shown(error)
    return error


@pytest.mark.parametrize(("status", "error_class"), DOCUMENTED)
async def test_each_documented_error_has_its_class_and_its_requests(
    status: int, error_class: type[ThorError], thor: Thor, rests: Rests, command: StopCharge
) -> None:
    for _ in range(3):
        thor.add_answer(status, error_class.__name__)
    error = await fail(command, rests)
    assert type(error) is error_class
    assert (error.status, error.code) == (status, error_class.__name__)
    attempts = 3 if status == 500 else 1
    assert len(thor.requests) == error.attempts == attempts
    assert error.maybe_applied is (status == 500)


@pytest.mark.parametrize("body", ["", "{}", "OK", '"OK"', "null", '{"message": "anything"}'])
async def test_a_200_is_relayed_whatever_it_says(
    body: str, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(200, body=body)
    outcome = await stop(command, rests)
    known = StopOutcome(
        command, 0, Verdict.RELAYED, None, 1, outcome.elapsed, False, None, outcome.at
    )
    assert outcome == known
    assert (outcome.verdict, outcome.next_step) == ("relayed", "done")
    assert 0 <= outcome.elapsed < 30


@pytest.mark.parametrize(
    ("script", "attempts", "waits"),
    [("500 200", 2, [0.5]), ("500 500 200", 3, [0.5, 1.0]), ("503:2 599 200", 3, [2.0, 1.0])],
)
async def test_a_relay_after_a_5xx_may_not_have_been_the_first(
    script: str, attempts: int, waits: list[float], thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers(script)
    outcome = await stop(command, rests)
    assert (outcome.verdict, outcome.attempts, outcome.maybe_applied) == ("relayed", attempts, True)
    assert len(thor.requests) == attempts
    assert rests.waits == waits


@pytest.mark.parametrize(
    ("script", "error_class", "attempts", "requests", "next_step"),
    [
        ("500 500 500", InternalServerError, 3, 3, "resend"),
        ("500 NotInTransaction", NotInTransaction, 2, 2, "done"),
        ("500 WrongTransaction", WrongTransaction, 2, 2, "check"),
        ("500 APIKeyNotFound", APIKeyNotFound, 2, 2, "resend"),
        ("500 404", RejectedError, 2, 2, "resend"),
        ("500 429", TooManyRequests, 2, 2, "resend"),
        ("500 refused", InternalServerError, 2, 2, "resend"),
        ("500 302", UnexpectedResponse, 2, 2, "resend"),
    ],
)
async def test_after_a_500_any_error_may_have_been_applied(
    script: str,
    error_class: type[ThorError],
    attempts: int,
    requests: int,
    next_step: str,
    thor: Thor,
    rests: Rests,
    command: StopCharge,
) -> None:
    thor.add_answers(script)
    error = await fail(command, rests, retry_not_sent=True)
    assert type(error) is error_class
    assert (error.attempts, error.maybe_applied) == (attempts, True)
    assert len(thor.requests) == requests
    outcome = StopOutcome(command, 0, error.verdict, error, attempts, 0.0, maybe_applied=True)
    assert outcome.next_step == next_step


async def test_a_batch_has_the_same_outcome_as_a_single_call(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("500 NotInTransaction")
    async with ThorClient(KEY, base_url=BASE, retry=rests.policy()) as client:
        [outcome] = await client.stop_many([command])
    assert type(outcome.error) is NotInTransaction
    assert (outcome.verdict, outcome.next_step) == ("rejected", "done")
    assert (outcome.attempts, outcome.maybe_applied) == (2, True)


async def test_refused_is_retried_only_by_request(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("refused refused 200")
    error = await fail(command, rests)
    assert isinstance(error, NotSentError)
    assert (error.reason, error.attempts, error.maybe_applied) == ("connect", 1, False)
    outcome = await stop(command, rests, retry_not_sent=True)
    assert (outcome.attempts, outcome.maybe_applied) == (2, False)


async def test_a_429_is_sent_once_and_has_its_retry_after(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("429:7 200")
    error = await fail(command, rests)
    assert type(error) is TooManyRequests
    assert (error.status, error.retry_after, error.attempts) == (429, 7.0, 1)
    assert not error.maybe_applied
    assert (len(thor.requests), rests.waits) == (1, [])


async def test_a_429_is_waited_for_and_retried_by_request(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("429:7 429 200")
    outcome = await stop(command, rests, retry_throttled=True)
    assert (outcome.verdict, outcome.attempts, outcome.maybe_applied) == ("relayed", 3, False)
    assert rests.waits == [7.0, 0.5]


@pytest.mark.parametrize("status", [500, 503, 599])
@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [
        ("2", [2.0]),
        ("0", [0.5]),
        ("29", [29.0]),
        ("30", []),
        ("61", []),
        ("9" * 400, [0.5]),
        ("-1", [0.5]),
        ("1.5", [2.0]),
        ("3.0", [3.0]),
        ("nan", [0.5]),
        ("inf", [0.5]),
        ("", [0.5]),
        ("soon", [0.5]),
        ("Sun, 06 Nov 1994 08:49:36 GMT", [0.5]),
        ("Sun, 06 Nov 1994 08:49:49 GMT", [12.0]),
        ("Sun Nov  6 08:49:49 1994", [12.0]),
        ("Sun, 06 Nov 1994 08:50:38 GMT", []),
    ],
)
async def test_retry_after_is_waited_for_unless_it_is_past_the_timeout(
    status: int,
    retry_after: str,
    waits: list[float],
    thor: Thor,
    rests: Rests,
    command: StopCharge,
) -> None:
    thor.add_answer(status, headers={"Retry-After": retry_after})
    if waits:
        thor.add_answer(200)
        assert (await stop(command, rests)).attempts == 2
    else:
        error = await fail(command, rests)
        assert type(error) is ServerError
        assert error.retry_after == (30.0 if retry_after == "30" else 61.0)
    assert len(thor.requests) == 1 + len(waits)
    assert rests.waits == waits


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (
            StopCharge("Zoë", 2, "T", 52, ref="r"),
            '{"chargebox":"Zoë","connector":2,"id_tag":"T","transaction":52}',
        ),
        (StopCharge("A", 1, "T"), '{"chargebox":"A","connector":1,"id_tag":"T"}'),
    ],
)
async def test_a_request_is_a_post_of_the_command_that_follows_nothing(
    command: StopCharge, body: str, thor: Thor, rests: Rests
) -> None:
    thor.add_answers("500 200")
    await stop(command, rests)
    for request in thor.requests:
        assert request["data"] == body.encode()
        assert request["headers"]["X-Api-Key"] == KEY
        assert request["headers"]["Content-Type"] == "application/json"
        assert request["allow_redirects"] is False
        assert request["raise_for_status"] is False


async def test_the_key_is_read_for_each_attempt(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("500 500 200")
    keys = iter(["old", "new", "newer"])
    await stop(command, rests, lambda: next(keys))
    assert [sent["headers"]["X-Api-Key"] for sent in thor.requests] == ["old", "new", "newer"]


@pytest.mark.parametrize("key", ["", f"{KEY}\n", None, KEY.encode()])
async def test_a_bad_key_of_a_callable_sends_nothing(
    key: Any, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        await stop(command, rests, lambda: key)
    assert KEY not in shown(caught.value)
    assert not thor.requests


async def test_what_a_callable_raises_for_its_key_is_raised_and_sends_nothing(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    vault = mock.Mock(side_effect=LookupError("the vault is sealed"))
    with pytest.raises(LookupError, match="the vault is sealed"):
        await stop(command, rests, vault)
    assert not thor.requests


@pytest.mark.parametrize("key", [f"{KEY} ", LookupError("the vault is sealed")])
async def test_a_key_that_fails_a_retry_leaves_the_error_before_it(
    key: Any, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("500 200")
    error = await fail(command, rests, mock.Mock(side_effect=[KEY, key]))
    assert type(error) is InternalServerError
    assert (error.attempts, error.maybe_applied) == (1, True)
    assert len(thor.requests) == 1


async def test_a_client_goes_on_after_a_key_that_failed(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("200")
    keys = mock.Mock(side_effect=[*[""] * 40, KEY])
    async with ThorClient(keys, base_url=BASE, retry=rests.policy()) as client:
        for _ in range(40):
            with pytest.raises(ValueError, match="API key"):
                await client.stop_charge(command)
        assert (await client.stop_charge(command)).verdict == "relayed"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["http://elsewhere.example/", STOP])
async def test_a_redirect_is_not_followed(
    status: int, location: str, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(status, headers={"Location": location})
    error = await fail(command, rests)
    assert type(error) is UnexpectedResponse
    assert error.status == status
    assert len(thor.requests) == 1


@pytest.mark.parametrize("status", [199, 201, 202, 204, 206, 304, 399, 600, 999])
async def test_an_odd_status_is_unexpected_and_not_retried(
    status: int, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(status, "NotInTransaction")
    error = await fail(command, rests)
    assert type(error) is UnexpectedResponse
    assert (error.status, error.attempts, error.maybe_applied) == (status, 1, True)
    assert len(thor.requests) == 1


@pytest.mark.parametrize(
    ("body", "content_type"),
    [("<html>", "application/json"), (" \n<p>", ""), ("<", "text/plain")],
)
async def test_a_200_with_a_page_is_unexpected(
    body: str, content_type: str, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(200, body=body, headers={"Content-Type": content_type})
    assert type(await fail(command, rests)) is UnexpectedResponse
    assert len(thor.requests) == 1


@pytest.mark.parametrize(
    ("status", "size", "error_class"),
    [
        (200, 65_536, None),
        (200, 65_537, UnexpectedResponse),
        (400, 65_536, NotInTransaction),
        (400, 65_537, RejectedError),
        (500, 65_536, InternalServerError),
        (500, 65_537, ServerError),
    ],
)
async def test_an_answer_is_read_to_64_kib(
    status: int,
    size: int,
    error_class: type[ThorError] | None,
    thor: Thor,
    rests: Rests,
    command: StopCharge,
) -> None:
    code = "InternalServerError" if status == 500 else "NotInTransaction"
    thor.add_answer(status, body=code + " " * (size - len(code)))
    if error_class is None:
        assert (await stop(command, rests)).error is None
    else:
        assert type(await fail(command, rests, max_attempts=1)) is error_class


@pytest.mark.parametrize(
    ("failure", "error_class"),
    [
        (aiohttp.ServerDisconnectedError(), ConnectionLost),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), ConnectionLost),
        (TimeoutError(), ResponseTimeout),
        (
            aiohttp.ClientResponseError(mock.Mock(), (), status=400, message=f"{KEY}"),
            UnexpectedResponse,
        ),
    ],
)
async def test_what_may_have_been_sent_is_indeterminate_and_not_retried(
    failure: Exception,
    error_class: type[ThorError],
    thor: Thor,
    rests: Rests,
    command: StopCharge,
) -> None:
    thor.mocked.post(STOP, exception=failure)
    error = await fail(command, rests, retry_not_sent=True)
    assert type(error) is error_class
    assert (error.attempts, error.maybe_applied) == (1, True)
    assert len(thor.requests) == 1


@pytest.mark.parametrize("status", [400, 403, 429, 500, 302, 200])
@pytest.mark.parametrize(
    "answer",
    [
        {"body": f"<p>{KEY} {TAG}"},
        {"payload": {"message": f"no {KEY}", "code": KEY, "error": TAG}},
        {"body": f"{TAG} {KEY}", "reason": KEY},
        {"body": "<p>", "headers": {"Content-Type": f"text/html; key={KEY}", "Location": KEY}},
    ],
)
async def test_what_the_server_echoes_is_never_shown(
    status: int, answer: dict[str, Any], thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(status, **answer)
    if status == 200 and "<" not in answer.get("body", ""):
        await stop(command, rests)
        return
    error = await fail(command, rests, max_attempts=1)
    row = StopOutcome(command, 0, error.verdict, error, 1, 0.0, maybe_applied=False).record()
    assert KEY not in repr(row)
    assert TAG not in repr(row)


async def test_calls_at_once_get_their_own_answers(thor: Thor, rests: Rests) -> None:
    async def answer(url: URL, **request: Any) -> Any:
        await asyncio.sleep(0)
        number = request["data"].split(b'"transaction":')[1].strip(b"}").decode()
        payload = {"message": f"Box{number}"}
        return CallbackResult(status=404, payload=payload)

    thor.mocked.post(STOP, callback=answer, repeat=True)
    async with ThorClient(KEY, base_url=BASE, retry=rests.policy()) as client:
        calls = [client.stop_charge(StopCharge("A", 1, TAG, n)) for n in range(1, 201)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
    for number, error in enumerate(errors, 1):
        assert isinstance(error, RejectedError)
        assert error.code == f"Box{number}"


@pytest.mark.parametrize(
    ("failure", "reason", "attempts"),
    [
        (aiohttp.ClientConnectorError(mock.Mock(), OSError(111, "refused")), "connect", 3),
        (aiohttp.ConnectionTimeoutError(), "connect", 3),
        (aiohttp.ClientConnectorDNSError(mock.Mock(), OSError(-2, "unknown")), "dns", 3),
        (aiohttp.ClientConnectorSSLError(mock.Mock(), OSError(1, "ssl")), "tls", 1),
    ],
)
async def test_what_was_never_sent_is_retried_by_request_but_never_over_tls(
    failure: Exception,
    reason: str,
    attempts: int,
    thor: Thor,
    rests: Rests,
    command: StopCharge,
) -> None:
    thor.mocked.post(STOP, exception=failure, repeat=True)
    error = await fail(command, rests, retry_not_sent=True)
    assert isinstance(error, NotSentError)
    assert (error.reason, error.attempts, error.maybe_applied) == (reason, attempts, False)
    assert len(thor.requests) == attempts


@pytest.mark.parametrize(("seconds", "requests"), [(0.001, 1), (0.0, 1), (-0.001, 0)])
async def test_past_its_not_after_a_command_is_not_sent(
    seconds: float, requests: int, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    until = datetime.fromtimestamp(NOW + seconds, UTC)
    thor.add_answers("NotInTransaction")
    error = await fail(msgspec.structs.replace(command, not_after=until), rests)
    assert len(thor.requests) == error.attempts == requests
    assert getattr(error, "reason", None) == (None if requests else "expired")


async def test_a_retry_past_its_not_after_is_not_sent_and_the_500_stands(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answers("500 200")
    until = datetime.fromtimestamp(NOW, UTC)
    retry = rests.policy(now=lambda: NOW + len(rests.waits))
    async with ThorClient(KEY, base_url=BASE, retry=retry) as client:
        with pytest.raises(InternalServerError) as caught:
            await client.stop_charge(msgspec.structs.replace(command, not_after=until))
    assert (caught.value.attempts, caught.value.maybe_applied) == (1, True)
    assert len(thor.requests) == 1


async def test_single_calls_share_a_budget_and_each_batch_has_its_own(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(500, "InternalServerError", repeat=True)
    async with ThorClient(KEY, base_url=BASE, retry=rests.policy()) as client:
        for _ in range(60):
            with pytest.raises(InternalServerError):
                await client.stop_charge(command)
        assert len(thor.requests) == 60 + 100
        commands = [msgspec.structs.replace(command, transaction=n) for n in range(1, 61)]
        batches = [await client.stop_many(commands) for _ in range(2)]
        assert [sum(one.attempts for one in batch) for batch in batches] == [160, 160]
        with pytest.raises(InternalServerError) as caught:
            await client.stop_charge(command)
        assert caught.value.attempts == 1


@pytest.mark.parametrize("name", ["x-amzn-RequestId", "X-Request-ID", "X-Correlation-Id"])
@pytest.mark.parametrize("status", [404, 429, 500, 302])
async def test_an_error_has_the_id_of_its_answer(
    status: int, name: str, thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(status, headers={name: f"id-7 {KEY} {TAG}\x1b[2J"})
    error = await fail(command, rests, max_attempts=1)
    assert error.request_id == "id-7 *** ***\\x1b[2J"
    assert pickle.loads(pickle.dumps(error)).request_id == error.request_id


async def test_an_outcome_has_the_id_of_its_last_answer(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(500, headers={"x-request-id": "id-1"})
    thor.add_answer(200, headers={"x-request-id": "id-2"})
    outcome = await stop(command, rests)
    assert (outcome.request_id, outcome.record().request_id) == ("id-2", "id-2")
    async with ThorClient(KEY, base_url=BASE, retry=rests.policy()) as client:
        thor.add_answer(404, headers={"x-request-id": "id-3"})
        [outcome] = await client.stop_many([command])
        assert (outcome.request_id, outcome.record().request_id) == ("id-3", "id-3")
        thor.add_answer(404)
        [outcome] = await client.stop_many([command])
        assert (outcome.request_id, outcome.record().request_id) == (None, None)


async def test_a_retry_that_was_not_sent_keeps_the_id_of_the_answer_before(
    thor: Thor, rests: Rests, command: StopCharge
) -> None:
    thor.add_answer(500, headers={"x-request-id": "id-1"})
    thor.add_answers("refused")
    error = await fail(command, rests)
    assert (error.status, error.request_id) == (500, "id-1")
