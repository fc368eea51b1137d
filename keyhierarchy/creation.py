"""Make keys: the first keystore of a store, and a new site's first keys.

The order of effects is the point: what will be done is in the audit log, and the anchor has its
pin, before the keystore appears. Nothing here opens or changes keys that exist.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import customerkeys, opening, servicekeys, statedir, wrapping
from keyhierarchy import keystore as keystores
from keyhierarchy.audit import AuditLog
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import AnchorMismatch, TransitionRefused
from keyhierarchy.keystore import Keystore, Section, SiteKeyGeneration, SiteRecord
from keyhierarchy.policy import default_policy

if TYPE_CHECKING:
    from keyhierarchy.anchor import Anchor
    from keyhierarchy.audit import Outcome
    from keyhierarchy.keystore import Workload
    from keyhierarchy.opening import RootSource
    from keyhierarchy.rootkey import RootKey


def create_store_keys(
    control_folder: str,
    state_dir: str,
    store_id: bytes,
    root_directory_id: bytes,
    workload: Workload = "onedrive",
) -> bytes:
    """Give a new store its keystore: default policy, service-managed root, one site for its root.

    Makes the state folder and the first service-managed root key of this host where they are
    missing. Returns the id of the site.
    """
    wrapping.require_id(store_id)
    wrapping.require_id(root_directory_id)
    statedir.refuse_inside_store(state_dir, os.path.dirname(os.path.abspath(control_folder)))
    place = keystores.path(control_folder)
    with keystores.exclusive(control_folder):
        if os.path.lexists(place):
            raise TransitionRefused(
                f"{place} exists already: new keys would make every file of the store unreadable; "
                "choose an empty folder for a new store",
                place=place,
            )
        servicekeys.ensure_service_key(state_dir)
        folder = statedir.store_folder(state_dir, store_id)
        policy_id = secrets.token_hex(wrapping.ID_LENGTH)
        root = servicekeys.service_root(state_dir, policy_id)
        audit = AuditLog(folder, store_id)
        _record_policy(audit, "started", policy_id, root.key_id)
        keystore = _first_keystore(store_id, root_directory_id, workload, policy_id, root)
        site_id = keystore.sections[0].sites[0].site_id
        anchors.AnchorFile(folder).change(lambda known: _first_anchor(known, keystore, folder))
        keystores.store(control_folder, keystore)
        _record_policy(audit, "ok", policy_id, root.key_id)
        audit.append("site.create", "ok", policy_id=policy_id, site_id=site_id, generation=1)
    return bytes.fromhex(site_id)


def create_site(
    control_folder: str,
    state_dir: str,
    store_id: bytes,
    root_directory_id: bytes,
    workload: Workload,
    *,
    roots: RootSource | None = None,
    policy: str | None = None,
) -> bytes:
    """Give a new directory of the store a site of its own, under a policy's current keys.

    `policy` is a name or id; without it, the policy of the store's first site. Returns the id.
    The record is there before the directory names it, so a crash leaves a site without files.
    """
    wrapping.require_id(root_directory_id)
    place = keystores.path(control_folder)
    folder = statedir.store_folder(state_dir, store_id)
    anchor_file = anchors.AnchorFile(folder)
    with keystores.exclusive(control_folder, wait=True):
        keystore = keystores.load(control_folder, store_id)
        known = anchor_file.load()
        if known is None:
            raise TransitionRefused(
                f"this host has never opened store {store_id.hex()}; mount it once, then try again"
            )
        anchors.check_document(known, keystore, place)
        section = _policy_for_site(keystore, policy)
        tiks = opening.open_section(
            section,
            known.pin(section.policy.id),
            store_id=store_id,
            roots=roots or customerkeys.all_roots(state_dir),
            place=place,
        )
        current = section.policy.current_tik.generation
        site = new_site(
            tiks[current],
            policy_id=section.policy.id,
            tik_generation=current,
            root_directory_id=root_directory_id,
            workload=workload,
        )
        generation = keystore.generation + 1
        changed = keystores.sealed(
            replace(section, sites=(*section.sites, site), sealed_generation=generation),
            tiks[current],
            store_id=store_id,
        )
        sections = tuple(
            changed if one.policy.id == section.policy.id else one for one in keystore.sections
        )
        keystores.store(control_folder, replace(keystore, generation=generation, sections=sections))
        pin = anchors.pin_of(changed)
        anchor_file.change(lambda now: anchors.advance(now or known, pin))
        audit = AuditLog(folder, store_id)
        audit.append(
            "site.create", "ok", policy_id=section.policy.id, site_id=site.site_id, generation=1
        )
    return bytes.fromhex(site.site_id)


def _policy_for_site(keystore: Keystore, policy: str | None) -> Section:
    sections = [s for s in keystore.sections if policy in {None, s.policy.name, s.policy.id}]
    if not sections:
        raise TransitionRefused(f"the store has no policy {policy!r}")
    return sections[0]


def new_site(
    tik: bytes,
    *,
    policy_id: str,
    tik_generation: int,
    root_directory_id: bytes,
    workload: Workload,
) -> SiteRecord:
    """Make a site with fresh keys under this TIK."""
    site_id = secrets.token_bytes(wrapping.ID_LENGTH)
    site_key = secrets.token_bytes(wrapping.KEY_LENGTH)
    metadata_key = wrapping.derive_metadata_key(site_key, site_id=site_id)
    first = SiteKeyGeneration(
        generation=1,
        tik_generation=tik_generation,
        wrapped_site_key=wrapping.wrap_site_key(
            tik,
            site_key,
            policy_id=bytes.fromhex(policy_id),
            tik_generation=tik_generation,
            site_id=site_id,
            generation=1,
        ),
        commitment=wrapping.site_key_commitment(site_key, site_id=site_id, generation=1),
    )
    return SiteRecord(
        site_id=site_id.hex(),
        workload=workload,
        policy_id=policy_id,
        root_directory_id=root_directory_id.hex(),
        created=timestamp(),
        site_keys=(first,),
        wrapped_metadata_key=wrapping.wrap_metadata_key(
            site_key, metadata_key, site_id=site_id, generation=1
        ),
    )


def _first_keystore(
    store_id: bytes, root_directory_id: bytes, workload: Workload, policy_id: str, root: RootKey
) -> Keystore:
    tik = secrets.token_bytes(wrapping.KEY_LENGTH)
    policy = default_policy(
        policy_id,
        created=timestamp(),
        fingerprint=wrapping.tik_fingerprint(tik, policy_id=bytes.fromhex(policy_id), generation=1),
        wrap=servicekeys.new_tik_wrap(root, tik),
    )
    site = new_site(
        tik,
        policy_id=policy_id,
        tik_generation=1,
        root_directory_id=root_directory_id,
        workload=workload,
    )
    section = Section(sealed_generation=1, policy=policy, sites=(site,))
    return Keystore(
        store_id=store_id.hex(),
        generation=1,
        sections=(keystores.sealed(section, tik, store_id=store_id),),
    )


def _first_anchor(known: Anchor | None, keystore: Keystore, folder: str) -> Anchor:
    if known is not None:
        raise AnchorMismatch(
            f"{folder} shows that this host knows store {keystore.store_id} already; it is not "
            "made a second time: put its keystore back from a backup",
            place=folder,
        )
    return anchors.trust(keystore)


def _record_policy(audit: AuditLog, outcome: Outcome, policy_id: str, key_id: str) -> None:
    audit.append("policy.create", outcome, policy_id=policy_id, key_id=key_id, generation=1)
