"""An emulator of Thor for tests: a real HTTP server with charges, faults and a ledger.

It listens on loopback and behaves as Thor's public documentation says. Where the documentation is
silent, a comment or docstring says "the emulator's choice". Do not use it in production.
"""

from .answers import ScriptedAnswer
from .chargers import Behaviour
from .charges import Charge, StopBody
from .emulator import ThorEmulator
from .faults import Faults
from .ledger import Ledger, LoggedRequest, Read
from .rate_limits import RateLimits
from .running_list import Lists
from .webhooks import Notifications

__all__ = [
    "Behaviour",
    "Charge",
    "Faults",
    "Ledger",
    "Lists",
    "LoggedRequest",
    "Notifications",
    "RateLimits",
    "Read",
    "ScriptedAnswer",
    "StopBody",
    "ThorEmulator",
]
