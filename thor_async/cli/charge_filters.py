"""Selects running charges by the options of a command; a filter that matches none says so."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import NamedTuple

from thor_async import RunningCharge

from .errors import UsageError
from .output.durations import format_duration
from .sites import find_site

_NEAREST = 3
_CUTOFF = 0.4

Aliases = Mapping[str, str | None]


class Selection(NamedTuple):
    """The charges that match, and those of which it is not known whether they match."""

    matching: list[RunningCharge]
    unclear: list[RunningCharge]


class _Filter(NamedTuple):
    """A filter by name: what is wanted, whether a name is that, and the name of a charge."""

    option: str
    wanted: str
    is_match: Callable[[str], bool]
    find_name: Callable[[RunningCharge], str | None]


def needs_aliases(args: argparse.Namespace) -> bool:
    return args.site is not None or args.alias is not None


def select_charges(
    args: argparse.Namespace, charges: list[RunningCharge], aliases: Aliases
) -> Selection:
    """Applies one filter after the other. Raises UsageError if one of them matches nothing."""
    for name_filter in _find_filters(args, aliases):
        charges = _select(charges, name_filter, aliases)
    limits = list(_find_limits(args))
    found = [(charge, [limit(charge) for limit in limits]) for charge in charges]
    matching = [charge for charge, answers in found if all(answers)]
    unclear = [charge for charge, answers in found if False not in answers and None in answers]
    if limits and not matching and not unclear:
        raise UsageError(f"no charge that matches {_describe_limits(args, charges)}")
    return Selection(matching, unclear)


def describe_unknown(charge: RunningCharge) -> str:
    """Returns what the list does not tell of a charge that may match a limit."""
    return "start time" if charge.date_started is None else "energy"


def _find_filters(args: argparse.Namespace, aliases: Aliases) -> Iterator[_Filter]:
    def find_alias(charge: RunningCharge) -> str | None:
        return aliases.get(charge.chargebox)

    def find_site_of(charge: RunningCharge) -> str | None:
        alias = find_alias(charge)
        return None if alias is None else find_site(alias)

    if args.chargebox is not None:
        same = args.chargebox.__eq__
        yield _Filter("--chargebox", args.chargebox, same, lambda charge: charge.chargebox)
    if args.site is not None:
        site = args.site.casefold()
        yield _Filter("--site", args.site, lambda name: name.casefold() == site, find_site_of)
    if args.alias is not None:
        glob = args.alias.casefold()
        is_match = lambda name: fnmatchcase(name.casefold(), glob)  # noqa: E731
        yield _Filter("--alias", args.alias, is_match, find_alias)
    if args.type is not None:
        kind = args.type.casefold()
        yield _Filter("--type", args.type, lambda name: name.casefold() == kind, lambda c: c.type)


def _select(
    charges: list[RunningCharge], name_filter: _Filter, aliases: Aliases
) -> list[RunningCharge]:
    """Returns the charges that match. Raises UsageError, with the nearest names, without one."""
    option, wanted, is_match, find_name = name_filter
    named = [(charge, find_name(charge) or "") for charge in charges]
    matching = [charge for charge, name in named if is_match(name)]
    if matching:
        return matching
    names = {name for _, name in named if name}
    if not names and option in {"--alias", "--site"}:
        names = {name for name in aliases.values() if name}
    raise UsageError(
        f"{option} {wanted!r} matches no running charge: {_describe_nearest(wanted, names)}"
    )


def _describe_nearest(wanted: str, names: Iterable[str]) -> str:
    originals = {name.casefold(): name for name in sorted(names)}
    text = wanted.casefold().strip("*?")
    near = difflib.get_close_matches(text, originals, _NEAREST, _CUTOFF)
    shown = ", ".join(repr(originals[name]) for name in near or list(originals)[:_NEAREST])
    return f"the nearest names are {shown}" if shown else "no charge runs that it could match"


def _find_limits(
    args: argparse.Namespace,
) -> Iterator[Callable[[RunningCharge], bool | None]]:
    """Yields whether a charge matches each limit: None if the list does not tell."""
    if args.older_than is not None:
        latest = datetime.now(UTC) - timedelta(seconds=args.older_than)
        yield lambda c: None if c.date_started is None else c.date_started <= latest
    if args.min_energy is not None:
        least = args.min_energy
        yield lambda c: None if c.energy is None else c.energy >= least


def _describe_limits(args: argparse.Namespace, charges: list[RunningCharge]) -> str:
    """Returns which limits no charge reaches, and the highest values that there are."""
    words = []
    if args.older_than is not None:
        ages = [datetime.now(UTC) - c.date_started for c in charges if c.date_started]
        oldest = f" (the oldest: {_age(max(ages))})" if ages else ""
        words.append(f"runs longer than {format_duration(args.older_than)}{oldest}")
    if args.min_energy is not None:
        energies = [c.energy for c in charges if c.energy is not None]
        most = f" (the most: {max(energies):g} Wh)" if energies else ""
        words.append(f"has taken {args.min_energy:g} Wh{most}")
    return " and ".join(words)


def _age(age: timedelta) -> str:
    return format_duration(age.total_seconds())
