"""Make the keys of one more site of a store. The folder where it begins is the mount's to make.

The site's record is durable before its folder exists: a folder without keys would be unreadable,
a record without a folder is only unused.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import opening, statedir, wrapping
from keyhierarchy.audit import AuditLog
from keyhierarchy.creation import new_site
from keyhierarchy.errors import TransitionRefused
from keyhierarchy.servicekeys import service_roots

if TYPE_CHECKING:
    from keyhierarchy.keystore import Keystore, Section, SiteRecord, Workload
    from keyhierarchy.opening import RootSource


def create_site(
    control_folder: str,
    state_dir: str,
    store_id: bytes,
    workload: Workload,
    *,
    policy_id: str | None = None,
    roots: RootSource | None = None,
) -> SiteRecord:
    """Give a new site its key under a policy, by default the store's first; opens that policy.

    Raises TransitionRefused for a policy that the store does not have, or on a host that has never
    opened the store.
    """
    place = keystores.path(control_folder)
    folder = statedir.store_folder(state_dir, store_id)
    with keystores.exclusive(control_folder):
        keystore = keystores.load(control_folder, store_id)
        anchor_file = anchors.AnchorFile(folder)
        known = anchor_file.load()
        if known is None:
            raise TransitionRefused(
                f"this host has never opened store {keystore.store_id}, so it cannot tell whether "
                "its keystore is the newest; mount the store once, then try again"
            )
        anchors.check_document(known, keystore, place)
        section = _section(keystore, policy_id)
        pin = known.pin(section.policy.id)
        anchors.check_section(pin, section, place)
        tiks = opening.open_section(
            section, pin, store_id=store_id, roots=roots or service_roots(state_dir), place=place
        )
        current = section.policy.current_tik.generation
        site = new_site(
            tiks[current],
            policy_id=section.policy.id,
            tik_generation=current,
            root_directory_id=secrets.token_bytes(wrapping.ID_LENGTH),
            workload=workload,
        )
        generation = keystore.generation + 1
        changed = keystores.sealed(
            replace(section, sites=(*section.sites, site), sealed_generation=generation),
            tiks[current],
            store_id=store_id,
        )
        after = replace(
            keystore,
            generation=generation,
            sections=tuple(changed if one is section else one for one in keystore.sections),
        )
        audit = AuditLog(folder, store_id)
        audit.append(
            "site.create", "started", policy_id=site.policy_id, site_id=site.site_id, generation=1
        )
        keystores.store(control_folder, after)
        anchor_file.change(lambda anchor: anchors.advance(anchor or known, anchors.pin_of(changed)))
        audit.append(
            "site.create", "ok", policy_id=site.policy_id, site_id=site.site_id, generation=1
        )
    return site


def _section(keystore: Keystore, policy_id: str | None) -> Section:
    if policy_id is None:
        return keystore.sections[0]
    section = keystore.section(policy_id)
    if section is None:
        raise TransitionRefused(
            f"the store has no policy {policy_id}; `ckfs-keys status` lists the ones it has",
            policy_id=policy_id,
        )
    return section
