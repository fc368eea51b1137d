"""Parsers of keys and of what a host keeps: wraps, keystore, anchor, audit log, ids, requests."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from keyhierarchy import (
    administration,
    anchor,
    audit,
    documents,
    keystore,
    revocation,
    vaultkeyid,
    wrapping,
)
from keyhierarchy.errors import (
    AuditChainBroken,
    KeyHierarchyError,
    KeystoreInvalid,
    RootKeyNotListed,
    RootKeyRefused,
    WrappedKeyInvalid,
)
from keyhierarchy.lifecycle import backups, purgerecord
from keyhierarchy.roots.service_managed import MasterKey, ServiceManagedRoot
from keyhierarchy.wrapping import FileKeyWrapper
from tests.fuzz import world
from tests.fuzz.engine import Parser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msgspec import Struct

KEY = bytes(range(32))
ID = bytes(range(16))
PLACE = "the document"
BETWEEN = b"\0\0"
"""Between the pinned head and the log, which are one input."""


def document(name: str, kind: type[Struct], known_format: int = 1) -> Parser:
    """One of the versioned JSON documents, with its packing."""
    return Parser(
        name,
        lambda data: documents.parse(data, kind, known_format=known_format, place=PLACE),
        (KeystoreInvalid,),
        documents.pack,
        canonical=False,
    )


def keystore_document(data: bytes):
    found = keystore.parse(data, PLACE)
    for section in found.sections:
        # Whatever parsed has a canonical form, a state and a current key.
        keystore.canonical(section)
        keystore.check_seal(
            keystore.sealed(section, KEY, store_id=ID), KEY, store_id=ID, place=PLACE
        )
        _ = (section.state, section.policy.current_tik, section.policy.running)
    return found


def one_policy(data: bytes):
    """Where policies stand: in a section of a keystore."""
    around = b'{"format":2,"lowest_reader":2,"store_id":"%s","generation":1,"sections":[' % (
        b"0" * 32
    )
    section = b'{"sealed_generation":1,"policy":%s,"sites":[],"seal":""}]}' % data
    return keystore.parse(around + section, PLACE).sections[0].policy


def administration_document(data: bytes):
    world.write("state/administration.json", data)
    found = administration.load(str(world.folder() / "state"))
    with suppress(RootKeyNotListed):
        found.check("https://kv.vault.test/keys/k/" + "0" * 32, policy_id="0" * 32, slot="primary")
    return found


def audit_line(data: bytes):
    return audit._parse(data)


def packed_audit_line(record) -> bytes:
    return audit.msgspec.json.encode(record)


def audit_log(data: bytes):
    """The whole log with its head."""
    head, _end, log = data.partition(BETWEEN)
    world.write("log/audit.head", head)
    place = world.write("log/audit.log", log)
    checked = audit.AuditLog(str(place.parent), ID)
    list(checked.records())
    return checked.verify()


def audit_append(data: bytes):
    """What was left there is gone on with, mended or refused."""
    head, _end, log = data.partition(BETWEEN)
    world.write("log/audit.head", head)
    place = world.write("log/audit.log", log)
    log_file = audit.AuditLog(str(place.parent), ID)
    log_file.append("fuzz", "ok")
    return log_file.verify()


def wrapped_site_key(data: bytes):
    return wrapping.unwrap_site_key(
        KEY, data, policy_id=ID, tik_generation=1, site_id=ID, generation=1
    )


def wrapped_file_key(data: bytes):
    wrapper = FileKeyWrapper(KEY, site_id=ID, generation=1)
    return wrapper.unwrap(ID, data)


def service_wrap(data: bytes):
    return _service_root().unwrap(data)


def _service_root() -> ServiceManagedRoot:
    return ServiceManagedRoot(world.master_keys().folder, world.POLICY)


def key_id(data: bytes):
    found = vaultkeyid.parse(data.decode("utf-8", "surrogateescape"))
    _ = (found.vault_url, found.managed_hsm)
    return found


def availability_key(data: bytes):
    store = world.availability()
    with replaced(f"{world.AVAILABILITY}.key", data):
        return store.private_key(store.read(world.AVAILABILITY))


def availability_public(data: bytes):
    """The public key is used where no private one is opened, so nothing has vouched for it."""
    key_id = f"availability:{world.AVAILABILITY}"
    stored = msgspec.structs.replace(world.availability().read(world.AVAILABILITY), public=data)
    with replaced(f"{world.AVAILABILITY}.key", documents.pack(stored)):
        return world.availability().root(world.POLICY, key_id).wrap(KEY)


def availability_wrap(data: bytes):
    key_id = f"availability:{world.AVAILABILITY}"
    return world.availability().root(world.POLICY, key_id).unwrap(data)


def availability_secrets(data: bytes):
    """A secret store that somebody has written into, with the certificate as it was."""
    with replaced("secret-store.json", data):
        return world.availability()._secret_keys(make=False)


def certificate_key(data: bytes):
    with replaced("certificate.key", data):
        return world.availability()._secret_keys(make=False)


@contextmanager
def replaced(name: str, data: bytes) -> Iterator[None]:
    """A file of the availability store is another one for a moment."""
    before = Path(world.availability().folder, name).read_bytes()
    world.write(f"availability/{name}", data)
    try:
        yield
    finally:
        world.write(f"availability/{name}", before)


PARSERS = [
    Parser(
        "keystore",
        keystore_document,
        (KeystoreInvalid,),
        keystore.pack,
        canonical=False,
    ),
    Parser("policy", one_policy, (KeystoreInvalid,)),
    Parser("administration", administration_document, (KeyHierarchyError,)),
    document("anchor", anchor.Anchor),
    document("revocations", revocation.Revocations),
    document("audit-head", audit.Head),
    document("master-key", MasterKey),
    document("purge-request", purgerecord.PurgeRequest),
    document("backup", backups.Backup),
    document("backup-register", backups._Register),
    Parser("audit-line", audit_line, (), packed_audit_line, canonical=False),
    Parser("audit-log", audit_log, (AuditChainBroken, KeystoreInvalid)),
    Parser("audit-append", audit_append, (AuditChainBroken, KeystoreInvalid)),
    Parser("wrapped-site-key", wrapped_site_key, (WrappedKeyInvalid,)),
    Parser(
        "wrapped-file-key",
        wrapped_file_key,
        (WrappedKeyInvalid,),
        lambda value: FileKeyWrapper(KEY, site_id=ID, generation=1).wrap(ID, value),
    ),
    Parser("service-wrap", service_wrap, (KeyHierarchyError,)),
    Parser(
        "vault-key-id",
        key_id,
        (RootKeyRefused,),
        lambda value: value.text.encode(),
        canonical=False,
    ),
    Parser("availability-key", availability_key, (KeyHierarchyError,)),
    Parser("availability-public", availability_public, (KeyHierarchyError,)),
    Parser("availability-wrap", availability_wrap, (WrappedKeyInvalid,)),
    Parser("availability-secrets", availability_secrets, (KeyHierarchyError,)),
    Parser("availability-certificate-key", certificate_key, (KeyHierarchyError,)),
]
