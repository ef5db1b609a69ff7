"""A Thor to test against: a real HTTP server with charges, faults, and a record of the truth.

It listens on loopback and behaves as Thor's public documentation says. What that leaves open is
decided here and marked as the emulator's own. Nothing in it is for production.
"""

from .answers import Answer
from .charges import Charge, StopBody
from .faults import Faults
from .fleet import Behaviour
from .ledger import Ledger, Read, Request
from .lists import Lists
from .notifications import Notifications
from .thor import ThorEmulator

__all__ = [
    "Answer",
    "Behaviour",
    "Charge",
    "Faults",
    "Ledger",
    "Lists",
    "Notifications",
    "Read",
    "Request",
    "StopBody",
    "ThorEmulator",
]
