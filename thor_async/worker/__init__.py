"""Commands from a message broker: each message ends only after its effect.

What becomes of a message is decided by pure functions, for any broker: `read_command`,
`find_expiry` and `decide` give a `Fate`. `thor_async.worker.service` is the worker on NATS
JetStream by FastStream and needs the extra `worker`.
"""

from .fate import Fate, decide, find_expiry, read_command

__all__ = ["Fate", "decide", "find_expiry", "read_command"]
