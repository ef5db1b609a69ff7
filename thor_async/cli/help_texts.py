"""The texts of `--help`."""

from __future__ import annotations

from typing import NamedTuple


class CommandHelp(NamedTuple):
    """The help of a command: a line for the list of commands, and its own page."""

    summary: str
    description: str
    epilog: str


RESULTS = """\
verdicts, what is known of a stop; never better than the truth:
  relayed        Thor answered 200: it handed the stop on to the chargebox, which may still refuse
  rejected       Thor said no
  not_sent       certainly no request reached Thor
  indeterminate  Thor may or may not have handed the stop on

states, what is known of the charge; with --wait or --ensure:
  stopped        a notification, or Thor's lists of running charges, prove that it is over
  refused        the chargebox refused the stop
  still_running  Thor's last list shows the charge
  unconfirmed    nothing proves that it is over, or that it runs

next steps:
  done           nothing is left to do
  resend         send it again: a repeat cannot stop another charge
  check          look whether the charge still runs before you send it again
  fix            correct the data or the account: the same command would be refused again
"""

OVERALL = f"""\
{RESULTS}
environment:
  THOR_API_KEY    the API key, unless --api-key-file is given; without both, thor-async asks on the
                  terminal; the key is never an argument, because all users of this machine could
                  read it
  THOR_BASE_URL   the address, unless --base-url is given; default: Thor's own two addresses, one
                  for stops and one for lists, which thor-async check explains
  THOR_LOG        debug, info, warning or error: writes the log from this level on standard error

exit status:
  0    all is done
  1    something is left to do; of stop-many: another run with --resume may finish it
  2    bad usage or bad input: nothing was sent
  3    of stop-many and status: only a person can finish it
  130  interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP

example: thor-async demo --charges 200
"""

_CHECK = """\
Checks the API key, the source IP address, the addresses and Thor's answers, and touches no charge:
it reads the list of running charges, then sends a stop for a chargebox that does not exist. Each
line that begins with FAIL ends with the cure.
"""
_CHECK_END = """\
exit status: 0 all checks passed, 1 a check failed, 2 bad usage or no API key.

example: thor-async check
"""
_RUNNING = """\
Lists the running charges in the format that stop-many reads. Thor's list hides the id_tag of a
charge that was started from the app or the API: --tags fills it in. Without it, no stop could be
sent for the charge, so the charge is left out and named on standard error. energy_wh is the energy
in Wh, as in Thor's list. With --file, it lists the rows of a file, with the column running: yes, no
for a charge that the list does not show, or other if another charge runs on that connector.
"""
_RUNNING_END = """\
exit status: 0 all charges are listed, 1 some were left out, 2 bad usage or no list; with --file: 0
all rows run, 1 some do not.

example: thor-async running --site Harbour | thor-async stop-many - --output harbour.jsonl
"""
_DEMO = """\
Stops charges of an emulator inside this process, shows the outcomes, and checks the verdicts
against what the emulator really did. It needs no account, ignores the environment and makes no
other connection.
"""
_DEMO_END = """\
stories, each shows one difficult case:
  outage       Thor refuses connections for some seconds in the middle of a batch
  rate-limit   the account has a limit, which the client learns from Thor's answers 429
  wrong-key    Thor does not know the API key
  next-driver  a stop works but is answered 500, and the next driver plugs in

exit status: 0 the demo ran, even if some charges are not done; 1 a verdict claimed more than
happened, or an outcome is missing.

example: thor-async demo --charges 1000 --faults 0.2
"""
_EMULATE = """\
Runs the emulator until Ctrl-C. It prints its address on the first line, its API key on the second.
With --rate, it limits the account as a token bucket does: the bucket starts with BURST tokens and
gains PER_SECOND each second, and every request takes one. A request without a token is answered 429
TooManyRequests and has no effect. The ledger has a line for each stop request, with the transaction
whose stop was relayed, and a line for each charge, with the time at which it really ended.
"""
_EMULATE_END = """\
example: thor-async emulate --fleet fleet.csv --alias site --latency 0.1-2 --faults 0.2 --rate 20/5
"""
_STOP = """\
Stops one charge, and prints one line: what happened, and what to do next. A 429 is sent again at
the pace that Thor allows.
"""
_STOP_END = f"""\
{RESULTS}
exit status: 0 nothing is left to do, 1 something is, 2 bad usage: nothing was sent, 130 Ctrl-C.

example: thor-async stop EaJ7cU9NJ3YkTNgy 2 0012847382 --transaction 52
"""
_STOP_MANY = """\
Stops the charges of a file and writes one line of JSON for each one when it ends. The whole file is
checked first: if any row is bad, the first 20 are named and nothing is sent. Unless the address is
on this machine, the number of charges must be typed on the terminal first.
"""
_STOP_MANY_END = f"""\
{RESULTS}
the file:
  CSV in UTF-8, UTF-16 or Windows-1252, separated by commas, semicolons, tabs or what a line sep=;
  names, with the columns chargebox, connector, id_tag and, if known, transaction in any order;
  Id Tag or idTag is id_tag, too. The optional column not_after is a time: a row is not sent after
  it. With the optional column as_of, a time too, only a charge that began before that time is
  stopped. Other columns are kept as the row's ref. A cell '=A is the text =A, as running and status
  write it, because a spreadsheet takes =A for a formula. What a spreadsheet did to an identifier,
  as in 1.28E+10, is named with its line. Or JSON lines: objects with these names. Duplicates are
  sent once: exact ones, and rows without a transaction that have the same chargebox, connector and
  id_tag.

the journal:
  --output FILE.jsonl gets a line for each outcome as soon as it is known. Without --output, a file
  with more than one charge gets a journal thor-stops-TIME.jsonl beside it, and standard output gets
  the lines too, unless it is a terminal; --no-journal writes none. The last line of a row counts. A
  copy of standard input is kept beside it, as FILE.jsonl.input. Repeat the command with --resume
  while its exit status is 1; it begins a journal that does not exist yet. It sends the rows that
  were not sent, and the resend rows. For the check rows it reads the running list first, and sends
  only where the same charge still runs. A row without a transaction gets the time of the first run:
  no charge that began later is stopped. --resend fix sends the fix rows again, too.
  thor-async status FILE.jsonl prints what is left.
  --repair goes on with a journal that a power failure has damaged: each row without an outcome may
  have been sent. --no-lock writes where no file can be locked: then let only one process write it.
  After a crash, maybe_applied in an outcome means that the crashed run may have sent that row.

the rate limit:
  A 429 is sent again at the pace that Thor allows, and costs no attempt. The pace is learnt from
  the answers 429; if you know your rate limit, --rate avoids them: at most N requests begin in a
  second, first attempts and retries alike. --over is for a rate limit too, or to be gentle: it
  begins one row after the other, evenly over a time that does not depend on their number, and does
  not count retries. --spread random gives each row a random moment of that time instead: the load
  of a grid then falls without a step. A 429 that is still the end of a row, as at the end of
  --within or after a quota of the day, is a resend row.

the wrong environment:
  If Thor knows none of the first 50 chargeboxes, the address or the account is probably not that of
  the file. Then nothing more is sent before an answer on the terminal; without a terminal, the run
  ends with status 3. --go-on sends the rest without the question.

Ctrl-C, SIGTERM or SIGHUP once: nothing more is sent, and requests in flight are awaited. Twice:
ends at once.

exit status, for all rows of the file, also those of earlier runs:
  0  nothing is left; without --wait or --ensure, a relayed stop counts as done
  1  another run with --resume may finish it
  2  nothing was sent
  3  only a person can finish it: correct the data or the account, or look at the charge
  130, 143 or 129: interrupted by Ctrl-C, SIGTERM or SIGHUP

example: thor-async stop-many fleet.csv --output stopped.jsonl
"""
_STATUS = """\
Prints how many rows of a journal of stop-many need which next step, and sends nothing. With
--remaining, writes the rows that are left as CSV that stop-many reads. A row without a transaction
gets the column as_of, so that a later run cannot stop a later charge.
"""
_STATUS_END = f"""\
{RESULTS}
exit status: 0 nothing is left, 1 another run with --resume may finish it, 2 bad usage, 3 only a
person can finish it.

example: thor-async status stopped.jsonl --remaining > left.csv
"""
_STOP_RUNNING = """\
Stops the charges that run now and match all given options, each by its transaction. A charge whose
id_tag or transaction is not in the list is named on standard error and not stopped. The guards and
the journal are those of stop-many; continue with stop-many --resume --output FILE.jsonl. A 429 is
sent again at the pace that Thor allows, as in stop-many.
"""
_STOP_RUNNING_END = f"""\
{RESULTS}
exit status: as of stop-many; 1 also if a charge that matches could not be stopped, 2 also if an
option matches no charge.

example: thor-async stop-running --alias 'Harbour*' --older-than 12h --output harbour.jsonl
"""
_WORKER = """\
Serves commands from NATS JetStream until SIGTERM or Ctrl-C. Each message is a StopCharge as JSON
and is acknowledged only after its effect. Any number of workers can share one subject. The stream
and the consumer are created if they are missing, and never changed.
"""
_WORKER_END = """\
how a message ends:
  done           its outcome is published, then the message is acknowledged
  resend, check  redelivered after a growing delay; check without a transaction is a dead letter
  fix            a dead letter; but a refused account pauses the worker, and no message is lost
A 429 is sent again at the pace that Thor allows, for up to 30 s; then the message is redelivered,
after its Retry-After at the earliest. --max-rate is for one worker: divide your rate limit by the
number of workers, or leave it out, and they share the pace.
A command that is older than --max-age and has no not_after is a dead letter and is not sent: a late
stop would stop the next driver's charge. The log is on standard error, from THOR_LOG=info on.

--init creates stream and consumer, names every setting that does not fit in existing ones with
the cure, and ends: with 1 if a worker could not serve or commands could be lost.

exit status: 0 ended by a signal; 2 bad usage, a stream that cannot serve, or a worker that failed.

NATS_URL, NATS_USER and NATS_PASSWORD are read where no option is given. A secret is never an
argument, because all users of this machine could read it.

example: thor-async worker --nats nats://127.0.0.1:4222
"""

_PUBLISH = """\
Publishes a command for each charge of a file to the subject of the workers. The whole file is
checked first, as by stop-many: if any row is bad, the first 20 are named and nothing is sent.
Unless NATS runs on this machine, the number of charges must be typed on the terminal first.
"""
_PUBLISH_END = """\
A row without as_of gets the time of --as-of, by default the current one: only a charge that began
before it is stopped, however late a worker takes the command. A second run with the same file
within the duplicate window of the stream (600 s if a worker made it) stores nothing twice, and
says so: after a failure, run the same command again.

exit status: 0 all commands are stored, 1 not all are: standard error has the numbers, 2 nothing
was sent, 130, 143 or 129: interrupted by Ctrl-C, SIGTERM or SIGHUP.

example: thor-async publish fleet.csv --nats nats://127.0.0.1:4222
"""
_DEAD = """\
Lists, shows or sends again the dead letters of the workers: commands that could not end.
"""
_DEAD_END = """\
list shows for each its number, age, chargebox, connector, whether its stop may have worked, and the
reason. show NUMBER prints one as JSON; its id_tag is masked. send NUMBER or send --reason GLOB
publishes them as commands again. Each gets the time of its first message as its as_of, unless it
has one of its own, so that no charge is stopped that began later; one without a transaction, of
which that time is not known any more, is not sent. The headers Thor-Sent-By and Thor-Dead-Sequence
tell who sent it, and from where. Unless NATS runs on this machine, the number of charges must be
typed on the terminal first, or --yes given: with --reason, it needs --at-most. A dead letter stays
in the stream; within its duplicate window it is not sent twice.

exit status: 0 done, 1 some were not sent, each is named, 2 nothing was sent, 130, 143 or 129:
interrupted by Ctrl-C, SIGTERM or SIGHUP.

example: thor-async dead send --reason '*ChargeboxNotFound*' --nats nats://127.0.0.1:4222
"""

COMMANDS = {
    "check": CommandHelp("check whether stops can work", _CHECK, _CHECK_END),
    "demo": CommandHelp("show stops without an account", _DEMO, _DEMO_END),
    "dead": CommandHelp("list, show or resend dead letters", _DEAD, _DEAD_END),
    "emulate": CommandHelp("run an emulator of Thor to test against", _EMULATE, _EMULATE_END),
    "publish": CommandHelp("send a file to the workers", _PUBLISH, _PUBLISH_END),
    "running": CommandHelp("list the running charges", _RUNNING, _RUNNING_END),
    "stop": CommandHelp("stop one charge", _STOP, _STOP_END),
    "stop-many": CommandHelp("stop the charges of a file", _STOP_MANY, _STOP_MANY_END),
    "stop-running": CommandHelp("stop what runs and matches", _STOP_RUNNING, _STOP_RUNNING_END),
    "status": CommandHelp("print what is left of a journal", _STATUS, _STATUS_END),
    "worker": CommandHelp("serve commands from NATS", _WORKER, _WORKER_END),
}
