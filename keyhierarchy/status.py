"""What `ckfs-keys status` tells: the keystore of a store beside what this host knows of it.

Gathers facts as plain values for JSON and for people; prints nothing. Asks every policy's root key
once, through the same door as a mount, so that what it says is what a mount would meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import statedir
from keyhierarchy.audit import AuditLog
from keyhierarchy.errors import KeyHierarchyError
from keyhierarchy.hierarchy import Hierarchy

if TYPE_CHECKING:
    from keyhierarchy.keystore import Section, SiteRecord
    from keyhierarchy.policy import TikGeneration


def gather(
    control_folder: str, state_dir: str, store_id: bytes
) -> tuple[dict[str, Any], KeyHierarchyError | None]:
    """Return the facts, and the first thing that keeps keys from being opened, if any does.

    Facts about policies and sites are only claims of the store where their policy has a trouble.
    """
    folder = statedir.store_folder(state_dir, store_id)
    hierarchy = Hierarchy.open(control_folder, state_dir, store_id)
    try:
        keystore = keystores.load(control_folder, store_id)
        policies = []
        first: KeyHierarchyError | None = None
        for section in keystore.sections:
            trouble = _try(hierarchy, section)
            first = first or trouble
            policies.append(_policy(section, trouble))
    finally:
        hierarchy.close()
    known = anchors.AnchorFile(folder).load()
    facts = {
        "store_id": keystore.store_id,
        "keystore": {"path": keystores.path(control_folder), "generation": keystore.generation},
        "policies": policies,
        "sites": [_site(site) for section in keystore.sections for site in section.sites],
        "host": {
            "state_dir": state_dir,
            "first_sight": hierarchy.first_sight,
            "first_seen": known.first_seen if known else None,
            "keystore_generation": known.keystore_generation if known else None,
            "audit_records": AuditLog(folder, store_id).head().count,
        },
    }
    return facts, first


def _try(hierarchy: Hierarchy, section: Section) -> KeyHierarchyError | None:
    """Open the keys of all sites of a policy, as a mount does."""
    try:
        for site in section.sites:
            hierarchy.lease(bytes.fromhex(site.site_id))
    except KeyHierarchyError as error:
        return error.again()
    return None


def _policy(section: Section, trouble: KeyHierarchyError | None) -> dict[str, Any]:
    policy = section.policy
    return {
        "id": policy.id,
        "name": policy.name,
        "state": section.state.name,
        "state_number": int(section.state),
        "created": policy.created,
        "sealed_generation": section.sealed_generation,
        "opens": trouble is None,
        "trouble": None if trouble is None else f"{type(trouble).__name__}: {trouble}",
        "tenant_intermediate_keys": [_tik(tik) for tik in policy.tik_generations],
    }


def _tik(tik: TikGeneration) -> dict[str, Any]:
    return {
        "generation": tik.generation,
        "fingerprint": tik.fingerprint.hex(),
        "wraps": [
            {
                "slot": wrap.slot,
                "key_id": wrap.key_id,
                "algorithm": wrap.algorithm,
                "created": wrap.created,
            }
            for wrap in tik.wraps
        ],
    }


def _site(site: SiteRecord) -> dict[str, Any]:
    return {
        "id": site.site_id,
        "workload": site.workload,
        "policy_id": site.policy_id,
        "created": site.created,
        "site_key_generations": [key.generation for key in site.site_keys],
    }
