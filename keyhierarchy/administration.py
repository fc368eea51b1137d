"""What the administrator of this host has set for customer keys: STATE/administration.json, 0600.

Which vaults and keys a store may name, how a vault is reached, and how patient to be. Lies outside
the store, because a store must not choose whom this host shows its tokens to. Reads and writes one
document; asks no vault. Form: HIERARCHY.md section 15.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from keyhierarchy import documents, durable, vaultkeyid
from keyhierarchy.errors import KeystoreInvalid, KeystoreMissing, RootKeyNotListed
from keyhierarchy.policy import HexId, KeyId

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
NAME = "administration.json"
_LOCK = "administration.lock"
_LIMIT = 1 << 20

CustomerSlot = Literal["primary", "secondary"]
Host = Annotated[str, Meta(pattern=r"^[a-z0-9.-]{1,253}(:[0-9]{1,5})?\Z")]
Seconds = Annotated[float, Meta(gt=0, le=30 * 86400)]
Path = Annotated[str, Meta(pattern=r"^/", max_length=4096)]


class AllowedKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One vault key that one policy may name in one slot."""

    policy_id: HexId
    slot: CustomerSlot
    key_id: KeyId


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How vaults are reached and how long things last. Every member has a default."""

    ca_file: Path | None = None
    authority_host: str | None = None
    authority_ca_file: Path | None = None
    disable_instance_discovery: bool = False
    hedge_offset_seconds: Seconds = 0.25
    opening_deadline_seconds: Seconds = 15.0
    call_deadline_seconds: Seconds = 10.0
    connect_seconds: Seconds = 3.0
    read_seconds: Seconds = 5.0
    lease_seconds: Seconds = 3600.0
    probe_seconds: Seconds = 60.0
    purge_waiting_seconds: Seconds = 72 * 3600.0


class Administration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document. Without one, no vault is allowed and every setting has its default."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    vault_hosts: tuple[Host, ...] = ()
    keys: tuple[AllowedKey, ...] = ()
    settings: Settings = Settings()

    def check(self, key_id: str, *, policy_id: str, slot: str) -> None:
        """Raise RootKeyNotListed unless the administrator lets this policy use this key there."""
        parsed = vaultkeyid.parse(key_id)
        if parsed.host in self.vault_hosts:
            return
        wanted = (policy_id, slot, parsed.text)
        if any((key.policy_id, key.slot, key.key_id) == wanted for key in self.keys):
            return
        known = any(vaultkeyid.parse(key.key_id).host == parsed.host for key in self.keys)
        what = "this key" if known else f"the vault {parsed.host}"
        raise RootKeyNotListed(
            f"the store names {key_id} as {slot} key of policy {policy_id}, and the administrator "
            f"of this host has not allowed {what}: it was planted, or registered from another "
            f"host; if it is yours: ckfs-keys vault allow --policy {policy_id} --slot {slot} "
            f"{key_id}",
            key_id=key_id,
            policy_id=policy_id,
            cause="not-listed",
        )


def path(state_dir: str) -> str:
    """Return where the document is."""
    return os.path.join(state_dir, NAME)


def load(state_dir: str) -> Administration:
    """Read the document; the defaults where there is none. Refuses one that others can change."""
    place = path(state_dir)
    try:
        document = durable.read_document(place, limit=_LIMIT, private=True)
    except KeystoreMissing:
        return Administration()
    found = documents.parse(document, Administration, known_format=FORMAT, place=place)
    _check_settings(found.settings, place)
    return found


def allow(state_dir: str, key_id: str, *, policy_id: str, slot: CustomerSlot) -> Administration:
    """Let a policy use a key in a slot. Running mounts follow at their next renewal or probe."""
    entry = AllowedKey(policy_id=policy_id, slot=slot, key_id=vaultkeyid.parse(key_id).text)

    def change(before: Administration) -> Administration:
        others = (key for key in before.keys if key != entry)
        return replace(before, keys=(*others, entry))

    return _change(state_dir, change)


def disallow(
    state_dir: str, key_id: str, *, policy_id: str | None = None, slot: str | None = None
) -> Administration:
    """Take the permission for a key back, for one policy and slot or for all."""
    text = vaultkeyid.parse(key_id).text

    def goes(key: AllowedKey) -> bool:
        return (
            key.key_id == text and policy_id in {None, key.policy_id} and slot in {None, key.slot}
        )

    def change(before: Administration) -> Administration:
        return replace(before, keys=tuple(key for key in before.keys if not goes(key)))

    return _change(state_dir, change)


def allow_host(state_dir: str, host: str) -> Administration:
    """Let every policy use every key of a vault: for fleets whose keys roll on another host."""
    host = host.lower().removesuffix(":443")

    def change(before: Administration) -> Administration:
        return replace(before, vault_hosts=tuple(sorted({*before.vault_hosts, host})))

    return _change(state_dir, change)


def disallow_host(state_dir: str, host: str) -> Administration:
    """Take the permission for a whole vault back; keys that were allowed by name stay."""
    host = host.lower().removesuffix(":443")

    def change(before: Administration) -> Administration:
        return replace(before, vault_hosts=tuple(h for h in before.vault_hosts if h != host))

    return _change(state_dir, change)


def configure(state_dir: str, settings: Settings) -> Administration:
    """Replace the settings. Running mounts follow when they are mounted again."""
    return _change(state_dir, lambda before: replace(before, settings=settings))


def _change(state_dir: str, change: Callable[[Administration], Administration]) -> Administration:
    durable.make_private_folder(state_dir)
    place = path(state_dir)
    with durable.locked(os.path.join(state_dir, _LOCK), wait=True):
        before = load(state_dir)
        after = change(before)
        document = documents.pack(after)
        # Values are checked when they are parsed: never replace a good document by one that is not.
        documents.parse(document, Administration, known_format=FORMAT, place=place)
        _check_settings(after.settings, place)
        if after != before or not os.path.lexists(place):
            durable.replace_document(place, document)
    return after


def _check_settings(settings: Settings, place: str) -> None:
    if settings.lease_seconds < 2 * settings.opening_deadline_seconds:
        raise KeystoreInvalid(
            f"{place}: lease_seconds ({settings.lease_seconds:g}) must be at least twice "
            f"opening_deadline_seconds ({settings.opening_deadline_seconds:g}), or leases end "
            "while they are renewed; correct one of them",
            place=place,
        )
