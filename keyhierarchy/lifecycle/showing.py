"""Show policies and sites: state, keys, progress. Works in default mode, and asks no root key.

What it tells are claims of the keystore; `ckfs-keys status` opens the keys and so proves them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from keyhierarchy.lifecycle import changes
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.lifecycle.rolling import find_site
from keyhierarchy.policy import PolicyState

if TYPE_CHECKING:
    from keyhierarchy.keystore import Section, SiteRecord
    from keyhierarchy.lifecycle.session import Store


def policies(store: Store) -> list[dict[str, Any]]:
    """Return every policy of a store."""
    return [policy(section) for section in sessions.load(store).sections]


def one_policy(store: Store, wanted: str | None) -> dict[str, Any]:
    """Return a policy with its sites."""
    section = sessions.find_policy(sessions.load(store), wanted)
    return policy(section) | {"sites": [site(section, one) for one in section.sites]}


def one_site(store: Store, wanted: str) -> dict[str, Any]:
    """Return a site, its policy's state and its own progress."""
    section, found = find_site(sessions.load(store), wanted)
    return site(section, found)


def policy(section: Section) -> dict[str, Any]:
    """Return the facts of one policy."""
    one = section.policy
    operation = one.running
    return {
        "id": one.id,
        "name": one.name,
        "state": section.state.name,
        "state_number": int(section.state),
        "created": one.created,
        "progress": _progress(section),
        "operation": None if operation is None else msgspec.to_builtins(operation),
        "closed_since": section.mark.since if section.mark else None,
        "keys": {
            wrap.slot: wrap.key_id for wrap in one.current_tik.wraps if wrap.slot != "successor"
        },
        "tik_generation": one.current_tik.generation,
        "tik_fingerprint": one.current_tik.fingerprint.hex(),
        "retired_keys": [msgspec.to_builtins(old) for old in one.retired],
        "site_count": len(section.sites),
    }


def site(section: Section, one: SiteRecord) -> dict[str, Any]:
    """Return the facts of one site."""
    return {
        "id": one.site_id,
        "workload": one.workload,
        "policy": section.policy.name,
        "policy_id": one.policy_id,
        "state": section.state.name,
        "state_number": int(section.state),
        "progress": 1.0 if changes.is_moved(section.policy, one) else 0.0,
        "site_key_generation": one.site_keys[-1].generation,
        "site_key_generations": [key.generation for key in one.site_keys],
        "tik_generation": one.site_keys[-1].tik_generation,
        "created": one.created,
    }


def _progress(section: Section) -> float:
    """Return 1.0 where no change is running, else the share of sites that it has done."""
    if section.policy.running is None or section.state is PolicyState.Purged:
        return 1.0
    return changes.share_moved(section)
