"""Stops charges on commands from a message broker: each message ends only after its effect.

Pure functions decide how a message ends, for any broker: `read_command`, `find_expiry` and
`decide` return a `Settlement`; `apply_as_of` makes a repeat of a command safe. `CircuitBreaker` is
the pause that a `Settlement` may ask for.
`thor_async.worker.service` is the worker for NATS JetStream, built on FastStream; it needs the
extra `worker`.

How it grows to a million chargeboxes, calculated. One charge a day for each chargebox is 12 stops a
second, and perhaps 100 in the busy hour. One worker with 32 in flight stops 640 a second at 50 ms,
so two workers are enough; the second one covers a crash of the first. A stop of all million
chargeboxes at once is different:

- Limits. Thor sees at most workers times `max_in_flight` requests at once, and this number divided
  by the latency in a second, whatever the backlog: a worker pulls nothing without room for it.
  Choose the number by what Thor can bear: 10 workers of 32 stop a million in 160 s at 50 ms. A
  worker does not send a command that is older than `max_age`, so give the commands of a mass stop
  a `not_after`.
- Partitions. One stream and one consumer carry this load. A subject, a stream and workers for each
  region or account (`thor-eu.stop`, with its own dead letters and outcomes) isolate failures: a
  refused key pauses only its own workers. NATS can map chargeboxes to subjects, with `partition()`
  in a subject mapping.
- Replays. JetStream does not deliver an acknowledged message again. If a consumer is deleted and
  created again, JetStream delivers all messages that the stream still holds. A message older than
  `max_age` costs no request. Each other message costs one request, at the same pace, and Thor
  answers NotInTransaction. A message that has an outcome or a dead letter gets no second one: for
  messages older than the duplicate window, a worker reads the headers of the stored results once.
  No later charge is stopped: a command without a `transaction` that was delivered before, or is
  older than 30 s when a worker takes it, is sent only for a charge that began before its message
  was stored. What then waits for the pace does so for its `timeout` at most.
- Rate limits. With `RetryPolicy(retry_throttled=True)`, as in `thor-async worker`, each worker
  learns from the answers 429 at which pace it may send, and the workers of one account share its
  limit. A command that waits for the pace stays in hand and is not redelivered. One that ends with
  a 429 is redelivered after its Retry-After at the earliest. `max_rate` is that of one worker.
- Requests. A delivery costs at most 3 requests, besides those that are answered 429. All
  deliveries of a worker cost on average at most 1.2, plus 100 in total, by the retry budget of the
  client. After 64 outcomes in a row without an answer of Thor, a worker sends one probe at a time,
  at most 15 s apart. A command is delivered again after 2 to 60 s, so about 15 times within
  `max_age`, and at most 30 times.
"""

from .breaker import CircuitBreaker
from .settlement import Settlement, apply_as_of, decide, find_expiry, read_command

__all__ = ["CircuitBreaker", "Settlement", "apply_as_of", "decide", "find_expiry", "read_command"]
