"""The options of the commands about NATS."""

from __future__ import annotations

import argparse

from . import option_types as types


def add_login_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of every command that connects to NATS."""
    command.add_argument(
        "--nats",
        action="append",
        metavar="URL",
        help="such as nats://host:4222, several times or with commas; in place of NATS_URL",
    )
    add = command.add_argument_group("getting into NATS").add_argument
    add("--nats-creds", metavar="FILE", help="credentials: the user's JWT and its key")
    add("--nats-nkey", metavar="FILE", help="the seed of an nkey")
    add("--nats-password-file", metavar="FILE", help="the password of NATS_USER")
    add("--nats-ca", metavar="FILE", help="certificates of the authority of NATS, as PEM")
    add("--nats-cert", metavar="FILE", help="certificate of this client, as PEM")
    add("--nats-key", metavar="FILE", help="its key, unless the certificate's file holds it")


def add_seen_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of `worker` for what orchestrators and people see of it."""
    add = command.add_argument_group("how it is watched").add_argument
    add("--health-file", metavar="FILE", help="file for the state as JSON, written every 5 s")
    add(
        "--health-port",
        type=types.port,
        metavar="PORT",
        help="serve /healthz (alive), /readyz (serving) and /metrics (Prometheus); 0: any port",
    )
    add(
        "--health-host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address of that port; 0.0.0.0 for the probes of a pod (127.0.0.1)",
    )
    add("--log-format", choices=("text", "json"), default="text", help="lines of the log (text)")


def add_init_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of `worker` that create stream and consumer."""
    add = command.add_argument_group("creating stream and consumer").add_argument
    add(
        "--init",
        action="store_true",
        help="create what is missing, say what does not fit in what exists, and end",
    )
    add(
        "--replicas",
        type=types.count,
        metavar="COUNT",
        help="with --init: copies of the stream (1)",
    )
    add(
        "--stream-max-age",
        type=types.duration,
        metavar="DURATION",
        help="with --init: how long the stream keeps a message, like 12h or 7d (7d)",
    )


def add_publish_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="CSV or JSON lines; - for standard input")
    _add_nats_options(command)
    add = command.add_argument_group("which charges are stopped").add_argument
    add("--skip-bad", action="store_true", help="leave out the rows that cannot be used")
    add(
        "--as-of",
        type=types.timestamp,
        metavar="TIME",
        help="stop only charges that began before it, like 2026-01-31T18:00:00Z (now)",
    )
    _add_guards(command)


def add_dead_options(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the dead letters, the oldest first")
    listing.add_argument("--reason", metavar="GLOB", help="only those, as '*ChargeboxNotFound*'")
    showing = actions.add_parser("show", help="print one dead letter, without its id_tag")
    showing.add_argument(
        "number", metavar="NUMBER", type=types.integer, help="its number in the list"
    )
    sending = actions.add_parser("send", help="send dead letters again, as commands")
    which = sending.add_mutually_exclusive_group(required=True)
    which.add_argument("--reason", metavar="GLOB", help="all that died of it")
    which.add_argument(
        "number",
        metavar="NUMBER",
        nargs="*",
        default=[],
        type=types.integer,
        help="by their numbers",
    )
    _add_guards(sending)
    for action in (listing, showing, sending):
        _add_nats_options(action)


def _add_nats_options(command: argparse.ArgumentParser) -> None:
    add_login_options(command)
    add_subject_options(command)


def add_subject_options(command: argparse.ArgumentParser) -> None:
    """Adds the names of the stream and of its three subjects."""
    add = command.add_argument_group("stream and subjects").add_argument
    add("--stream", default="THOR", metavar="NAME", help="stream of all three subjects (THOR)")
    add("--subject", default="thor.stop", metavar="SUBJECT", help="of the commands (thor.stop)")
    add("--dead-letter", default="thor.stop.dead", metavar="SUBJECT", help="(thor.stop.dead)")
    add("--outcomes", default="thor.stop.outcomes", metavar="SUBJECT", help="(thor.stop.outcomes)")


def _add_guards(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("guards").add_argument
    add("--yes", action="store_true", help="do not ask for confirmation; needs --at-most")
    add(
        "--at-most",
        type=types.count,
        metavar="COUNT",
        help="send nothing if there are more charges",
    )
