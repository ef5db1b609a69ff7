import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from thor_async import NextStep, RetryPolicy, StopCharge, StopOutcome, ThorClient


@dataclass(frozen=True)
class Account:
    name: str
    api_key: str
    commands: Sequence[StopCharge]
    waits_for_429: bool = True  # False: what Thor throttles is left for later
    max_rate: float | None = None  # requests a second, where the account's limit is known


@dataclass(frozen=True)
class Summary:
    next_steps: Counter[NextStep]
    left: list[StopOutcome]


async def stop_account(client: ThorClient, account: Account) -> Summary:
    outcomes = await client.stop_many(account.commands, within=600.0)
    left = [outcome for outcome in outcomes if outcome.next_step != "done"]
    return Summary(Counter(outcome.next_step for outcome in outcomes), left)


async def stop_accounts(accounts: Sequence[Account]) -> dict[str, Summary]:
    """Stops the fleets of all accounts at once; returns a summary for each, by its name."""
    async with ThorClient("unused", max_in_flight=64) as thor:  # each call is another account's
        # A key that cannot be one raises ValueError here, before anything is sent.
        clients = [
            thor.with_options(
                api_key=account.api_key,
                retry=RetryPolicy(retry_throttled=account.waits_for_429),
                max_rate=account.max_rate,
            )
            for account in accounts
        ]
        summaries = await asyncio.gather(*map(stop_account, clients, accounts))
    return {account.name: summary for account, summary in zip(accounts, summaries, strict=True)}
