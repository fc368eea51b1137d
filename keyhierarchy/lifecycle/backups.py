"""Back up the keystore with the list of root keys that it needs, and put a backup back.

The backup holds wrapped keys only. What was backed up and where is kept by the host, so that `keys
usage` and a purge know of it. A backup is opened by a root before it replaces anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import documents, durable, opening
from keyhierarchy import keystore as keystores
from keyhierarchy.audit import AuditLog
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import (
    AnchorMismatch,
    KeystoreInvalid,
    KeystoreMissing,
    PolicyPurged,
    TransitionRefused,
)
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.policy import Generation, HexId, PolicyState, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyhierarchy.anchor import Anchor
    from keyhierarchy.keystore import Keystore
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Store

FORMAT = 1
_LIMIT = 512 << 20
_REGISTER = "backups.json"


class Backup(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file: a keystore as it was, and the root keys of which one for each policy opens it."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    store_id: HexId
    created: Timestamp
    keystore_generation: Generation
    needs: tuple[str, ...]
    keystore: bytes


class Known(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the host remembers of one backup."""

    path: Annotated[str, Meta(max_length=4096)]
    created: Timestamp
    keystore_generation: Generation
    needs: tuple[str, ...]


class _Register(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: int = FORMAT
    lowest_reader: int = FORMAT
    backups: tuple[Known, ...] = ()


def known(store: Store) -> tuple[Known, ...]:
    """Return the backups of a store that this host has made."""
    return _register(store).backups


def needs(keystore: Keystore) -> tuple[str, ...]:
    """Return the root keys that wrap something in this keystore, as "policy slot key-id"."""
    return tuple(
        sorted(
            {
                f"{section.policy.name} {wrap.slot} {wrap.key_id}"
                for section in keystore.sections
                for tik in section.policy.tik_generations
                for wrap in tik.wraps
                if wrap.slot != "successor"
            }
        )
    )


def back_up(store: Store, path: str) -> dict[str, Any]:
    """Write a backup to a new file. Needs no key."""
    path = os.path.abspath(path)
    if os.path.lexists(path):
        raise TransitionRefused(f"{path} exists already; name a new file for the backup")
    keystore = sessions.load(store)
    backup = Backup(
        store_id=keystore.store_id,
        created=timestamp(),
        keystore_generation=keystore.generation,
        needs=needs(keystore),
        keystore=keystores.pack(keystore),
    )
    audit = AuditLog(store.folder, store.store_id)
    audit.append("keystore.backup", "started", generation=keystore.generation, reason=path)
    # Before the file is there, so that no backup exists that this host does not know of.
    remembered = Known(
        path=path,
        created=backup.created,
        keystore_generation=backup.keystore_generation,
        needs=backup.needs,
    )
    _remember(store, remembered)
    durable.replace_document(path, documents.pack(backup))
    audit.append("keystore.backup", "ok", generation=keystore.generation, reason=path)
    return {
        "path": path,
        "keystore_generation": backup.keystore_generation,
        "needs": list(backup.needs),
    }


def read(store: Store, path: str) -> tuple[Backup, Keystore]:
    """Read a backup of this store."""
    document = durable.read_document(path, limit=_LIMIT)
    backup = documents.parse(document, Backup, known_format=FORMAT, place=path)
    keystore = keystores.parse(backup.keystore, path)
    if keystore.store_id != store.store_id.hex():
        raise KeystoreInvalid(
            f"{path} is a backup of store {keystore.store_id}, this is store "
            f"{store.store_id.hex()}; name a backup of this store",
            place=path,
        )
    return backup, keystore


def put_back(
    store: Store, rooms: Rooms, path: str, *, accept_older: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Replace the keystore by a backup of it, after a root has opened every policy in it.

    `accept_older` gives up what this host knows to be newer: files whose site key came after the
    backup cannot be opened any more. The replaced keystore is kept by this host.
    """
    with sessions.one_verb(store), keystores.exclusive(store.control_folder, wait=True):
        backup, keystore = read(store, path)
        anchor_file = anchors.AnchorFile(store.folder)
        anchor = sessions.require_known(anchor_file.load(), store)
        older = keystore.generation < anchor.keystore_generation
        _refuse_purged(store, keystore, anchor)
        if older and not accept_older:
            raise AnchorMismatch(
                f"{path} is keystore generation {keystore.generation}, this host has seen "
                f"{anchor.keystore_generation}: files written since may need keys that it lacks; "
                "look for a newer backup, or accept the loss with --accept-older",
                generation=anchor.keystore_generation,
                place=path,
            )
        for section in keystore.sections:
            pin = None if older else anchor.pin(section.policy.id)
            if not older:
                anchors.check_section(pin, section, path)
            opening.open_section(
                section, pin, store_id=store.store_id, roots=rooms.existing, place=path
            )
        facts = {
            "path": path,
            "keystore_generation": keystore.generation,
            "older": older,
            "needs": list(backup.needs),
            "dry_run": dry_run,
        }
        if not dry_run:
            facts["replaced"] = _replace(store, keystore, anchor_file, older=older)
        return facts


def _replace(
    store: Store, keystore: Keystore, anchor_file: anchors.AnchorFile, *, older: bool
) -> str | None:
    audit = AuditLog(store.folder, store.store_id)
    audit.append(
        "keystore.restore", "started", generation=keystore.generation, reason=f"older: {older}"
    )
    aside = _keep_aside(store)
    if older:
        audit.append(
            "store.trust",
            "ok",
            generation=keystore.generation,
            reason="an older backup was accepted by the administrator",
        )
        # What was pinned must be given up first: a kill in between only asks for a repetition.
        anchor_file.change(lambda known: _trusting(known, keystore))
    keystores.store(store.control_folder, keystore)
    audit.append("keystore.restore", "ok", generation=keystore.generation)
    return aside


def _trusting(known: Anchor | None, keystore: Keystore) -> Anchor:
    anchor = anchors.trust(keystore)
    return anchor if known is None else replace(anchor, first_seen=known.first_seen)


def _keep_aside(store: Store) -> str | None:
    """Keep the keystore that is about to be replaced, whatever is in it; tell where."""
    try:
        document = durable.read_document(store.place, limit=_LIMIT)
    except KeystoreMissing:
        return None
    created = timestamp()
    aside = os.path.join(store.folder, f"keystore-{created.replace(':', '')}.json")
    _remember(store, Known(path=aside, created=created, keystore_generation=1, needs=()))
    durable.replace_document(aside, document)
    return aside


def _refuse_purged(store: Store, keystore: Keystore, anchor: Anchor) -> None:
    """Refuse to bring back keys whose purge was executed, as the present keystore tells."""
    del anchor
    try:
        present = keystores.load(store.control_folder, store.store_id)
    except (KeystoreMissing, KeystoreInvalid):
        return
    for section in present.sections:
        if section.policy.state is PolicyState.Purged and keystore.section(section.policy.id):
            raise PolicyPurged(
                f"policy {section.policy.named} was purged: no backup of its keys is put back",
                policy_id=section.policy.id,
            )


def _remember(store: Store, backup: Known) -> None:
    change: Callable[[_Register], _Register] = lambda before: replace(  # noqa: E731
        before, backups=(*(one for one in before.backups if one.path != backup.path), backup)
    )
    durable.make_private_folder(store.folder)
    place = os.path.join(store.folder, _REGISTER)
    with durable.locked(f"{place}.lock", wait=True):
        durable.replace_document(place, documents.pack(change(_register(store))))


def _register(store: Store) -> _Register:
    place = os.path.join(store.folder, _REGISTER)
    try:
        document = durable.read_document(place, limit=16 << 20, private=True)
    except KeystoreMissing:
        return _Register()
    return documents.parse(document, _Register, known_format=FORMAT, place=place)
