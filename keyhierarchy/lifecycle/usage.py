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
    from keyhierarchy.lifecycle.session import Store

_USES = frozenset({"site-key.open", "root-key.answer", "availability.use", "tik.rewrap"})


def usage(store: Store) -> list[dict[str, Any]]:
    """Return one entry for each root key version that this store has ever named."""
    keystore = sessions.load(store)
    entries: dict[str, dict[str, Any]] = {}
    for section in keystore.sections:
        policy = section.policy
        for tik in policy.tik_generations:
            for wrap in tik.wraps:
                if wrap.slot != "successor":
                    entry = _entry(entries, wrap.key_id, wrap.slot, policy.name)
                    entry["wraps"].append(tik.generation)
                    entry["since"] = entry["since"] or wrap.created
        for old in policy.retired:
            entry = _entry(entries, old.key_id, old.slot, policy.name)
            entry["retired"] = old.retired
    for backup in backups.known(store):
        if not os.path.lexists(backup.path):
            continue
        for need in backup.needs:
            name, slot, key_id = need.split(" ", 2)
            _entry(entries, key_id, slot, name)["backups"].append(backup.path)
    for record in AuditLog(store.folder, store.store_id).records():
        if record is not None and record.outcome == "ok" and record.event in _USES:
            used = entries.get(record.key_id or "")
            if used is not None:
                used["last_use"] = record.time
    for entry in entries.values():
        entry["may_disable"], entry["why"] = _verdict(entry)
    return sorted(entries.values(), key=lambda one: (one["policy"], one["slot"], one["key_id"]))


def _entry(
    entries: dict[str, dict[str, Any]], key_id: str, slot: str, policy: str
) -> dict[str, Any]:
    return entries.setdefault(
        key_id,
        {
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
    return True, (
        "nothing that this host knows of needs it; copies of the keystore from before "
        f"{entry['retired']} do, so disable it before you delete it, and wait"
    )
