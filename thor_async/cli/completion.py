"""Prints the completion of the command for a shell; shtab writes it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, TypeVar

SHELLS = ("bash", "zsh")

_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}
_Action = TypeVar("_Action", bound=argparse.Action)


def completes_files(action: _Action) -> _Action:
    """Marks an option whose value is a file, for `PrintCompletion`."""
    action.complete = _FILES  # type: ignore[attr-defined]  # an attribute that shtab reads
    return action


class PrintCompletion(argparse.Action):
    """Prints the completion for a shell, and ends the command."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            import shtab  # noqa: PLC0415 - optional
        except ImportError:
            parser.error("shtab is not installed: run pip install 'thor_async[cli]'")
        print(shtab.complete(parser, str(values)))
        parser.exit()
