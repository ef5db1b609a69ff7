"""What the calls of an open client share: budgets, poller and resolver."""

from __future__ import annotations

from tests.fake_transport import OK, FakeTransport
from thor_async import ThorClient
from thor_async._runtime import ClientRuntime


def runtime_of(client: ThorClient) -> ClientRuntime:
    assert client._runtime is not None
    return client._runtime


async def test_single_calls_batches_and_lists_have_budgets_of_their_own() -> None:
    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client() as client:
            runtime = runtime_of(client)
            budgets = {
                id(runtime.stops.context.budget),
                id(runtime.make_stop_operation().context.budget),
                id(runtime.make_stop_operation().context.budget),
                id(runtime.lists._context.budget),
            }
    assert len(budgets) >= 3
    assert runtime.lists._context.budget is not runtime.stops.context.budget


async def test_all_confirmations_share_one_poller() -> None:
    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client() as client:
            runtime = runtime_of(client)
            first, second = (
                runtime.make_confirm_operation(runtime.make_stop_operation()) for _ in range(2)
            )
    assert first.poller is second.poller is runtime.poller
    assert first.resolver is second.resolver
