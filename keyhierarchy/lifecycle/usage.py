"""Which root key versions are needed, by what, since when, and whether one may be disabled.

Reads the keystore, the backups that this host knows of and the audit log. Asks no root key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from keyhierarchy.audit import AuditLog
from keyhierarchy.lifecycle import backups
from keyhierarchy.lifecycle import session as sessions

if TYPE_CHECKING:
    from keyhierarchy.audit import Record
    from keyhierarchy.lifecycle.session import Store
    from keyhierarchy.policy import DataEncryptionPolicy

# A mount asks for both keys of a policy when it opens; which of the two answered is not recorded.
_ASKED = frozenset({"site-key.open", "lease.restore"})
_USED = frozenset({"root.change", "availability.use", "tik.rewrap"})


def usage(store: Store) -> list[dict[str, Any]]:
    """Return one entry for each root key version that this store has ever named."""
    entries: dict[str, dict[str, Any]] = {}
    for section in sessions.load(store).sections:
        _add_policy(entries, section.policy)
    for backup in backups.known(store):
        for need in backup.needs if os.path.lexists(backup.path) else ():
            name, slot, key_id = need.split(" ", 2)
            _entry(entries, key_id, slot, name)["backups"].append(backup.path)
    for record in AuditLog(store.folder, store.store_id).records():
        if record is not None and record.outcome == "ok":
            _note(entries, record)
    for entry in entries.values():
        entry["may_disable"], entry["why"] = _verdict(entry)
    return sorted(entries.values(), key=lambda one: (one["policy"], one["slot"], one["key_id"]))


def _add_policy(entries: dict[str, dict[str, Any]], policy: DataEncryptionPolicy) -> None:
    for tik in policy.tik_generations:
        for wrap in tik.wraps:
            if wrap.slot != "successor":
                entry = _entry(entries, wrap.key_id, wrap.slot, policy.name, policy.id)
                entry["wraps"].append(tik.generation)
                entry["since"] = entry["since"] or wrap.created
    for old in policy.retired:
        entry = _entry(entries, old.key_id, old.slot, policy.name, policy.id)
        if not entry["wraps"]:  # a key may come back, as the service-managed one does
            entry["retired"] = old.retired


def _note(entries: dict[str, dict[str, Any]], record: Record) -> None:
    """Move the last use on: by the key's own record, or by one of the policy in the key's time."""
    if record.event in _USED and record.key_id in entries:
        entries[record.key_id]["last_use"] = record.time
    elif record.event in _ASKED:
        for entry in entries.values():
            is_asked = entry["slot"] != "availability" and entry["policy_id"] == record.policy_id
            before = entry["since"] is not None and record.time < entry["since"]
            after = entry["retired"] is not None and record.time > entry["retired"]
            if is_asked and not before and not after:
                entry["last_use"] = record.time


def _entry(
    entries: dict[str, dict[str, Any]],
    key_id: str,
    slot: str,
    policy: str,
    policy_id: str | None = None,
) -> dict[str, Any]:
    return entries.setdefault(
        key_id,
        {
            "policy_id": policy_id,
            "key_id": key_id,
            "slot": slot,
            "policy": policy,
            "wraps": [],
            "since": None,
            "retired": None,
            "backups": [],
            "last_use": None,
        },
    )


def _verdict(entry: dict[str, Any]) -> tuple[bool, str]:
    if entry["wraps"]:
        return False, "the keystore needs it now; roll it first"
    if entry["backups"]:
        told = ", ".join(entry["backups"])
        return False, f"these backups need it: {told}; back up anew and delete them first"
    if entry["slot"] == "service":
        return False, (
            "this store does not need it, but others of this host may: roll, rewrap every store, "
            "then destroy its file where copies of the keystore must not be opened any more"
        )
    return True, (
        "nothing that this host knows of needs it; copies of the keystore from before "
        f"{entry['retired']} do, so disable it before you delete it, and wait"
    )
