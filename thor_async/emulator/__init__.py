"""A Thor to test against: a real HTTP server with charges, faults, and a record of the truth.

It listens on loopback and behaves as Thor's public documentation says. What that leaves open is
decided here and marked as the emulator's own. Nothing in it is for production.
"""

from .chargers import Behaviour
from .charges import Charge, StopBody
from .emulator import ThorEmulator
from .faults import Faults
from .ledger import Ledger, LoggedRequest, Read
from .running_list import Lists
from .scripted_answers import ScriptedAnswer
from .webhooks import Notifications

__all__ = [
    "Behaviour",
    "Charge",
    "Faults",
    "Ledger",
    "Lists",
    "LoggedRequest",
    "Notifications",
    "Read",
    "ScriptedAnswer",
    "StopBody",
    "ThorEmulator",
]
