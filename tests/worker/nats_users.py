"""Users of a nats-server: nkeys, and credentials as an operator signs them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

import nkeys


class Key:
    """A key pair. `kind` is nkeys' byte of an operator, an account or a user."""

    def __init__(self, kind: int) -> None:
        self.seed: bytes = bytes(nkeys.encode_seed(secrets.token_bytes(32), kind))
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def sign(self, claims: dict[str, Any], subject: Key, kind: str) -> str:
        """Returns a JWT about `subject`."""
        body: dict[str, Any] = {
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject.public,
            "name": kind,
            "nats": {"type": kind, "version": 2, **claims},
        }
        digest = hashlib.sha256(json.dumps(body).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = f"{_encode(json.dumps(head).encode())}.{_encode(json.dumps(body).encode())}"
        return f"{text}.{_encode(self._pair.sign(text.encode()))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def make_user_key() -> Key:
    return Key(nkeys.PREFIX_BYTE_USER)


def make_credentials(file: Path) -> str:
    """Writes the credentials of a user; returns the settings of a server that takes them."""
    operator, account = Key(nkeys.PREFIX_BYTE_OPERATOR), Key(nkeys.PREFIX_BYTE_ACCOUNT)
    user, none = make_user_key(), -1
    system = Key(nkeys.PREFIX_BYTE_ACCOUNT)
    core = ("subs", "conn", "leaf", "imports", "exports", "data", "payload")
    jetstream = ("mem_storage", "disk_storage", "streams", "consumer")
    limits = {**dict.fromkeys(core, none), "wildcards": True}
    system_jwt = operator.sign({"limits": limits}, system, "account")
    limits |= dict.fromkeys(jetstream, none)
    account_jwt = operator.sign({"limits": limits}, account, "account")
    user_limits = {"subs": none, "data": none, "payload": none, "pub": {}, "sub": {}}
    user_jwt = account.sign(user_limits, user, "user")
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    operator_jwt = operator.sign({}, operator, "operator")
    return (
        f"operator: {operator_jwt}\nsystem_account: {system.public}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account.public}: {account_jwt}, {system.public}: {system_jwt} }}\n"
    )
