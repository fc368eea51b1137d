"""Where keys of a policy can survive its purge: vaults, old service keys, backups, copies.

Looks; destroys nothing. A copy of the keystore is worth nothing once every root key that could open
it is gone, so only root keys and known backups decide whether a purge is complete.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct

from keyhierarchy.errors import KeyHierarchyError, RootKeyMissing, RootKeyRefused
from keyhierarchy.lifecycle import backups
from keyhierarchy.policy import VAULT_ALGORITHM, TikWrap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyhierarchy.keystore import Section
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Store
    from keyhierarchy.policy import Slot

# The one answer of a vault that means that a key version is nowhere any more.
_GONE = "key-not-found"


class Place(Struct, frozen=True, kw_only=True):
    """One place; `survives` is false only where that was seen, or cannot matter any more."""

    kind: str
    what: str
    survives: bool
    remedy: str

    def told(self) -> dict[str, str | bool]:
        """Return it as plain values."""
        return {
            "kind": self.kind,
            "what": self.what,
            "survives": self.survives,
            "remedy": self.remedy,
        }


def places(store: Store, rooms: Rooms, section: Section, keys: Iterable[str]) -> list[Place]:
    """List every place. `keys` are "slot key-id" of those that the keystore does not name now."""
    policy = section.policy
    named = {f"{wrap.slot} {wrap.key_id}" for tik in policy.tik_generations for wrap in tik.wraps}
    named |= {f"{old.slot} {old.key_id}" for old in policy.retired} | set(keys)
    found = []
    for one in sorted(named):
        slot, _, key_id = one.partition(" ")
        if slot in {"primary", "secondary"}:
            found.append(_vault_key(rooms, section, slot, key_id))
        elif slot == "service":
            found.append(_service_key(rooms, section, key_id))
        elif slot == "availability":
            found.append(_availability_key(rooms, section, key_id))
    opens = any(place.survives for place in found)
    found += _backups(store, opens=opens)
    found.append(
        Place(
            kind="copies",
            what="copies of the keystore that nobody told this host of: versions kept by a sync "
            "service, snapshots, free blocks of the disk",
            survives=opens,
            remedy="they open nothing once every root key above is gone",
        )
    )
    return found


def _vault_key(rooms: Rooms, section: Section, slot: str, key_id: str) -> Place:
    what = f"vault key {key_id}"
    try:
        rooms.facts(rooms.vault(section.policy.id, key_id))
    except (RootKeyMissing, RootKeyRefused) as error:
        if error.cause == _GONE or isinstance(error, RootKeyMissing):
            return Place(kind="vault", what=what, survives=False, remedy="")
        return Place(
            kind="vault",
            what=f"{what} ({slot}), disabled, denied or soft-deleted",
            survives=True,
            remedy="delete it and purge it in its vault, or wait until its retention has passed",
        )
    except KeyHierarchyError as error:
        return Place(
            kind="vault",
            what=f"{what} ({slot}), which could not be looked at: {error}",
            survives=True,
            remedy="run this again when the vault answers",
        )
    return Place(
        kind="vault",
        what=f"{what} ({slot}), which is there",
        survives=True,
        remedy="delete it and purge it in its vault",
    )


def _service_key(rooms: Rooms, section: Section, key_id: str) -> Place:
    what = f"master key {key_id} of this host"
    wrap = _probe_wrap("service", key_id)
    try:
        root = rooms.existing(section.policy, wrap)
        if root is not None:
            root.unwrap(wrap.wrapped)
    except RootKeyMissing:
        return Place(kind="service-key", what=what, survives=False, remedy="")
    except KeyHierarchyError:
        pass
    return Place(
        kind="service-key",
        what=f"{what}, which opens copies of the keystore from before customer keys were "
        "registered, and through them the files that were written before that",
        survives=True,
        remedy="move other stores off it (service-key roll, rewrap), then destroy its file here "
        "and in backups of the state folder",
    )


def _availability_key(rooms: Rooms, section: Section, key_id: str) -> Place:
    try:
        root = rooms.availability(section.policy.id, key_id)
        root.wrap(bytes(32))
    except RootKeyMissing:
        return Place(
            kind="availability", what=f"availability key {key_id}", survives=False, remedy=""
        )
    except KeyHierarchyError:
        pass
    return Place(
        kind="availability",
        what=f"availability key {key_id}",
        survives=True,
        remedy="purge execute destroys it; destroy backups of the availability store, too",
    )


def _backups(store: Store, *, opens: bool) -> list[Place]:
    return [
        Place(
            kind="backup",
            what=f"backup {known.path} of {known.created}",
            survives=opens and os.path.lexists(known.path),
            remedy="delete it; copies of it elsewhere, too",
        )
        for known in backups.known(store)
    ]


def _probe_wrap(slot: Slot, key_id: str) -> TikWrap:
    """Return a wrap that names a key and holds nothing, to learn whether the key is there."""
    identity = key_id.partition(":")[2]
    wrapped = (bytes.fromhex(identity) if len(identity) == 32 else b"") + bytes(48)  # noqa: PLR2004
    return TikWrap(
        slot=slot,
        key_id=key_id,
        algorithm=VAULT_ALGORITHM,
        wrapped=wrapped,
        created="2000-01-01T00:00:00.000Z",
    )
