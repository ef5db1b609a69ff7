"""What `--help` says."""

from __future__ import annotations

OVERALL = """\
environment:
  THOR_API_KEY    the key, unless --api-key-file holds it; without both it is asked for on the
                  terminal; it is never an argument, which everybody on this machine could see
  THOR_BASE_URL   the address, unless --base-url gives one; default: Thor's own
  THOR_LOG        debug, info, warning or error: the log from that level on, on standard error

exit status:
  0    everything is done
  1    something is left to do: resend, check or fix, or a row was left out
  2    bad usage or bad input: nothing was sent
  130  interrupted by Ctrl-C

example: thor-async demo --charges 200
"""

CHECK = """\
Finds out whether key, source IP address, addresses and answers are as they should be, without
touching a charge: reads the list of running charges, then asks to stop one at a chargebox that
does not exist. Each line that begins with FAIL ends with its cure.
"""
CHECK_END = """\
exit status: 0 all is as it should be, 1 something is not, 2 bad usage or no key.

example: thor-async check
"""
RUNNING = """\
Lists the charges that run now, as stop-many takes them. A charge whose id_tag the list hides,
because it was started from the app or the API, is filled in from --tags; else it is named on
standard error and left out, because no stop could be sent for it.
"""
RUNNING_END = """\
exit status: 0 all of them are listed, 1 some were left out, 2 bad usage or no list.

example: thor-async running --alias 'Harbour*' | thor-async stop-many - --output harbour.jsonl
"""
DEMO = """\
Stops charges of an emulator inside this process, shows what became of each command, and checks the
verdicts against what the emulator really did. It needs no account and talks to nothing else,
whatever the environment says.
"""
DEMO_END = """\
stories, each one hard moment:
  outage       Thor refuses connections for a while in the middle of a batch
  wrong-key    Thor does not know the key
  next-driver  a stop works but is answered 500, and the next driver plugs in

exit status: 0 when the demo ran, also when some charges are not done, for that is what it shows;
1 when a verdict claimed more than happened or an outcome is missing.

example: thor-async demo --charges 1000 --faults 0.2
"""
EMULATE = """\
Runs the emulator until Ctrl-C. Its first line of output is its address, its second the key.
"""
EMULATE_END = "example: thor-async emulate --port 8080 --fleet fleet.csv\n"
STOP = """\
Stops one charge and says in one line what happened and what to do.
"""
STOP_END = "example: thor-async stop EaJ7cU9NJ3YkTNgy 2 0012847382 --transaction 52\n"
STOP_MANY = """\
Stops the charges of a file and writes one line of JSON for each, as it ends. The whole file is
checked first: if any row is bad, all bad rows are named and nothing is sent. Against any address
but this machine's own, the number of charges must be typed on the terminal.
"""
STOP_MANY_END = """\
the file:
  CSV in UTF-8, separated by commas, semicolons or tabs, with the columns chargebox, connector,
  id_tag and transaction in any order; transaction may be empty. A column not_after holds the time
  past which a row is not sent. Other columns are kept as the row's ref. Or JSON lines: objects
  with these names. Exact duplicates go once.

the journal:
  --output FILE.jsonl has a line for each outcome, written when it is known. A row's last line
  counts. After any end, a crash or a full disk too, the same command with --resume sends what is
  left: all but relayed, the domain errors, and indeterminate. An outcome says maybe_applied when a
  run that was cut off may have sent that row before.

Ctrl-C once sends nothing more and waits for what is in flight; twice ends at once.

exit status: 0 all done, 1 something is left to do or a row was left out, 2 nothing was sent,
130 interrupted.

example: thor-async stop-many fleet.csv --output stopped.jsonl
"""
WORKER = """\
Serves commands from NATS JetStream until SIGTERM or Ctrl-C: each message is a StopCharge as JSON,
and is acknowledged only after its effect. Any number of workers share one subject. Stream and
consumer are created when missing and never altered.
"""
WORKER_END = """\
what becomes of a message:
  done           its outcome is published, then it is acknowledged
  resend, check  delivered again, later and later; a check without a transaction is a dead letter
  fix            a dead letter; but a refused account pauses the worker, and loses nothing
A command older than --max-age without a not_after is a dead letter, and is not sent: a stop that
comes late stops the next driver. The log is on standard error, from THOR_LOG=warning on.

exit status: 0 ended as it was told, 2 bad usage, or a stream that cannot serve.

example: thor-async worker --nats nats://127.0.0.1:4222
"""
