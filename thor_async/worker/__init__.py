"""Commands from a message broker: each message ends only after its effect.

What becomes of a message is decided by pure functions, for any broker: `read_command`,
`find_expiry` and `decide` give a `Fate`. `thor_async.worker.service` is the worker on NATS
JetStream by FastStream and needs the extra `worker`.

How it grows to a million chargeboxes, on paper. One charge a day for each is 12 stops a second, and
perhaps 100 in the busy hour: one worker of 32 in flight does 640 a second at 50 ms, so two are
enough, for the one that is killed. All million at once is another matter:

- Limits. What Thor sees is workers times `max_in_flight` requests at once, and that through the
  latency a second, whatever the backlog: nothing is pulled without room for it. Choose the product
  by what Thor bears: 10 workers of 32 stop a million in 160 s at 50 ms. What takes longer than
  `max_age` is not sent any more, so a mass stop wants a `not_after` of its own.
- Partitions. One stream and one consumer carry this; a subject, stream and workers for each region
  or account (`thor-eu.stop`, with its own dead letters and outcomes) keep the trouble of one from
  the others: a refused key pauses only its own workers. NATS can map chargeboxes to subjects by
  itself, with `partition()` in a subject mapping.
- A replay. What is acknowledged is not delivered again. Where a consumer is lost and made anew, all
  that the stream still holds is: what is older than `max_age` becomes a dead letter without any
  request, and the rest costs one request each, at the same pace, to be told NotInTransaction. A
  command with its `transaction` cannot hit another charge then; one without can, for `max_age`.
- Requests. A delivery costs at most 3, and over all of a worker at most 1.2 for each delivery and
  100 more, by the client's budget of retries. After 64 outcomes without an answer of Thor's, a
  worker sends one probe at a time, at most 15 s apart. A command is delivered again after 2 to
  60 s, so about 15 times within `max_age`, and at most 30.
"""

from .settlement import Settlement, decide, find_expiry, read_command

__all__ = ["Settlement", "decide", "find_expiry", "read_command"]
