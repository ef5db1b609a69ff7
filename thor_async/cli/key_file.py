"""An API key in a file, which changes while a command runs."""

from __future__ import annotations

from pathlib import Path

from thor_async._config import check_key
from thor_async._events import CallFinished, Event
from thor_async._models import MaskedText

from .errors import UsageError

_FAULT = "does not hold an API key: it must be printable ASCII"
_ACCOUNT_ERRORS = {"AccountError", "APIKeyNotFound", "RestAPINotEnabled", "InvalidSourceIPAddr"}


def read_key(path: Path) -> str:
    """Returns the text of the file without its line end. Raises UsageError if it is no text."""
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # The error holds the content of the file, so UsageError is raised after this block.
        pass
    raise UsageError(f"{path} {_FAULT}")


class KeyFile:
    """The `api_key` function of a client: reads the file again when it has changed.

    Also after a refusal, whatever its times say; `note_event` takes in the events of the client.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._key: MaskedText | None = None
        self._stamp: tuple[int, ...] = ()

    def __call__(self) -> str:
        """Returns the key. Raises OSError, or ValueError for a key that cannot be used."""
        status = self._path.stat()
        stamp = status.st_mtime_ns, status.st_ino, status.st_size
        if self._key is None or stamp != self._stamp:
            self._key = check_key(read_key(self._path))
            self._stamp = stamp
        return str.__str__(self._key)

    def note_event(self, event: Event) -> None:
        if isinstance(event, CallFinished) and event.error in _ACCOUNT_ERRORS:
            self._key = None
