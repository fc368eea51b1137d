"""Parsers of what clients and administrators send to `ckfs-vault`, by its real handlers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from keyhierarchy.vault import documents, identifiers, material, routes, tokens
from keyhierarchy.vault.administration import Administration, run_command
from keyhierarchy.vault.calls import Call
from keyhierarchy.vault.clock import Clock
from keyhierarchy.vault.errors import StateDamaged, VaultError
from keyhierarchy.vault.faults import FaultBoard
from keyhierarchy.vault.handlers_crypto import HANDLERS as USES
from keyhierarchy.vault.handlers_life import HANDLERS as LIFE
from keyhierarchy.vault.sealing import Sealer
from tests.fuzz import world
from tests.fuzz.engine import Parser

if TYPE_CHECKING:
    from collections.abc import Callable

TENANT = "00000000-0000-0000-0000-000000000000"
AUDIENCE = "https://managedhsm.test"
SEALER = Sealer(bytes(32), "fuzz")
TOKENS = tokens.Tokens(bytes(32), Clock())


def answered(operation: str, path: str, body: bytes, query: dict[str, str] | None = None) -> Any:
    """What a handler answers that waits for nothing."""
    route = routes.match(*path.split(" "))
    assert route is not None and route.operation.name == operation
    handler = (USES | LIFE)[operation]
    call = Call(world.ring(), "https://fuzz.managedhsm.test", route, query or {}, body, time.time())
    try:
        handler(call).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the handler waits")


def using(operation: str, key: str) -> Callable[[bytes], Any]:
    path = f"POST /keys/{key}/{world.VERSIONS[key]}/{operation}"
    return lambda data: answered(operation, path, data)


def imported(data: bytes):
    """As import does, but for waiting; checking an RSA key is the slow part of it."""
    request = documents.parse_body(data, documents.ImportKey)
    documents.check_metadata(request)
    return material.from_jwk(request.key)


def created(data: bytes):
    request = documents.parse_body(data, documents.CreateKey)
    documents.check_metadata(request)
    return material.canonical_type(request.kty), material.curve_named(request.crv)


def listed(data: bytes):
    pairs = (one.partition("=") for one in data.decode("utf-8", "surrogateescape").split("&"))
    query = {name: value for name, _equals, value in pairs}
    return answered("list", "GET /keys", b"", {"api-version": "7.4", **query})


def routed(data: bytes):
    method, _space, path = data.decode("latin-1").partition(" ")
    return routes.match(method, path)


def host(data: bytes):
    text = data.decode("latin-1")
    return identifiers.label_in_domain(text, "vault.test"), identifiers.split_host(text)


def bytes_of_base64url(data: bytes):
    return identifiers.from_base64url(data.decode("latin-1"))


def administered(data: bytes):
    """A command and its words; not the one that makes a client of each, until the disk is full."""
    command, _line, body = data.partition(b"\n")
    text = command.decode("latin-1")
    if text == "principal-add":
        raise ValueError(text)
    return run_command(Administration(world.site(), FaultBoard()), text, body)


def token(data: bytes):
    return TOKENS.check(data.decode("latin-1"), TENANT, AUDIENCE)


def signed_claims(data: bytes):
    """Claims that are authentic and may be anything."""
    signed = f"{tokens._HEADER}.{identifiers.to_base64url(data)}"
    return TOKENS.check(
        f"{signed}.{identifiers.to_base64url(TOKENS._mac(signed))}", TENANT, AUDIENCE
    )


PARSERS = [
    *(
        Parser(f"vault-{operation}-{key}", using(operation, key), (VaultError,))
        for operation, key in (
            ("wrapKey", "rsa"),
            ("unwrapKey", "rsa"),
            ("encrypt", "oct"),
            ("decrypt", "oct"),
            ("sign", "ec"),
            ("verify", "ec"),
            ("verify", "rsa"),
        )
    ),
    Parser("vault-rng", lambda data: answered("rng", "POST /rng", data), (VaultError,)),
    Parser("vault-import", imported, (VaultError,)),
    Parser("vault-create", created, (VaultError,)),
    Parser(
        "vault-update",
        lambda data: answered("update", f"PATCH /keys/oct/{world.VERSIONS['oct']}", data),
        (VaultError,),
    ),
    Parser(
        "vault-rotation-policy",
        lambda data: answered("setrotationpolicy", "PUT /keys/oct/rotationpolicy", data),
        (VaultError,),
    ),
    Parser(
        "vault-restore",
        lambda data: answered("restore", "POST /keys/restore", data),
        (VaultError,),
    ),
    Parser("vault-list", listed, (VaultError,)),
    Parser("vault-admin", administered, (ValueError,)),
    Parser("vault-route", routed, ()),
    Parser("vault-host", host, ()),
    Parser("vault-base64url", bytes_of_base64url, (ValueError,)),
    Parser("vault-token", token, (VaultError,)),
    Parser("vault-claims", signed_claims, (VaultError,)),
    Parser("vault-sealed", lambda data: SEALER.open(data, "context"), (StateDamaged,)),
]
