"""Open one policy: its tenant intermediate keys (TIK) from their wraps, checked against everything.

The order of the checks is the point: no key made here is used before the fingerprint, the anchor's
pin and the section's seal all agree. Asks root keys; keeps nothing, and writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import wrapping
from keyhierarchy.errors import (
    AnchorMismatch,
    AuditChainBroken,
    KeyHierarchyError,
    KeystoreInvalid,
    RootKeyUnavailable,
    WrappedKeyInvalid,
)
from keyhierarchy.policy import require_usable
from keyhierarchy.wrapping import FileKeyWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyhierarchy.anchor import Anchor, PolicyPin
    from keyhierarchy.audit import AuditLog
    from keyhierarchy.keystore import Section, SiteRecord
    from keyhierarchy.policy import DataEncryptionPolicy, TikGeneration, TikWrap
    from keyhierarchy.rootkey import RootKey

    # Builds the root key for a wrap of a policy, or None for a slot this process must not use.
    RootSource = Callable[[DataEncryptionPolicy, TikWrap], RootKey | None]


def require_log(known: Anchor | None, audit: AuditLog) -> None:
    """Raise AuditChainBroken where a store that this host knows has no audit log any more.

    A store that has an anchor has a record, because that is written before the anchor is.
    """
    if known is not None and audit.head().count == 0:
        raise AuditChainBroken(
            f"the audit log {audit.path} of a store that this host knows is gone; put it back from "
            "a backup, or go on with a new one: ckfs-keys audit restart",
            place=audit.path,
        )


def open_section(
    section: Section, pin: PolicyPin | None, *, store_id: bytes, roots: RootSource, place: str
) -> dict[int, bytes]:
    """Return the TIKs of a policy by generation: the current one and all that its sites need.

    `pin` is what the anchor knows, None only where this host sees the store for the first time.
    """
    policy = section.policy
    require_usable(policy)
    needed = {key.tik_generation for site in section.sites for key in site.site_keys}
    needed.add(policy.current_tik.generation)
    if pin is not None:
        anchors.check_section(pin, section, place)
        # What was pinned must vouch for each generation that has come since.
        needed.update(range(pin.tik_generation, policy.current_tik.generation))
    tiks = {number: open_generation(policy, number, roots, place) for number in sorted(needed)}
    if pin is not None:
        _check_endorsements(policy, tiks, pin, place)
    current = tiks[policy.current_tik.generation]
    keystores.check_seal(section, current, store_id=store_id, place=place)
    return tiks


def open_site(
    site: SiteRecord, tiks: Mapping[int, bytes]
) -> tuple[dict[int, FileKeyWrapper], bytes]:
    """Return the site's file-key wrappers by site-key generation, and its metadata key."""
    site_id = bytes.fromhex(site.site_id)
    wrappers = {}
    site_key = b""
    for key in site.site_keys:
        site_key = wrapping.unwrap_site_key(
            tiks[key.tik_generation],
            key.wrapped_site_key,
            policy_id=bytes.fromhex(site.policy_id),
            tik_generation=key.tik_generation,
            site_id=site_id,
            generation=key.generation,
        )
        commitment = wrapping.site_key_commitment(
            site_key, site_id=site_id, generation=key.generation
        )
        if not wrapping.same(commitment, key.commitment):
            raise WrappedKeyInvalid(
                f"site key generation {key.generation} of site {site.site_id} is not the one its "
                "record commits to; put the keystore back from a backup",
                site_id=site.site_id,
                generation=key.generation,
            )
        wrappers[key.generation] = FileKeyWrapper(
            site_key, site_id=site_id, generation=key.generation
        )
    metadata_key = wrapping.unwrap_metadata_key(
        site_key,
        site.wrapped_metadata_key,
        site_id=site_id,
        generation=site.site_keys[-1].generation,
    )
    return wrappers, metadata_key


def open_generation(
    policy: DataEncryptionPolicy, generation: int, roots: RootSource, place: str
) -> bytes:
    """Return one generation of the TIK: ask the roots one by one until one opens it."""
    tik = policy.tik(generation)
    if tik is None:
        raise KeystoreInvalid(
            f"{place}: policy {policy.name} ({policy.id}) lacks generation {generation} of its "
            "tenant intermediate key, which is still needed; put the keystore back from a backup",
            policy_id=policy.id,
            generation=generation,
            place=place,
        )
    troubles: list[KeyHierarchyError] = []
    for wrap in tik.wraps:
        try:
            root = roots(policy, wrap)
            if root is not None:
                return _checked(policy, tik, wrap, root.unwrap(wrap.wrapped))
        except KeyHierarchyError as error:
            troubles.append(error)
    if not troubles:
        raise KeystoreInvalid(
            f"{place}: generation {generation} of the tenant intermediate key of policy "
            f"{policy.name} ({policy.id}) has no wrap that this process may open",
            policy_id=policy.id,
            generation=generation,
            place=place,
        )
    # One root that may answer later keeps the hope alive; else the first refusal tells most.
    passing = [trouble for trouble in troubles if isinstance(trouble, RootKeyUnavailable)]
    raise (passing or troubles)[0]


def _checked(
    policy: DataEncryptionPolicy, tik: TikGeneration, wrap: TikWrap, opened: bytes
) -> bytes:
    policy_id = bytes.fromhex(policy.id)
    right_length = len(opened) == wrapping.KEY_LENGTH
    if not right_length or not wrapping.same(
        wrapping.tik_fingerprint(opened, policy_id=policy_id, generation=tik.generation),
        tik.fingerprint,
    ):
        raise WrappedKeyInvalid(
            f"what {wrap.key_id} opens is not generation {tik.generation} of the tenant "
            f"intermediate key of policy {policy.name} ({policy.id}): the wrap was substituted; "
            "put the keystore back from a backup",
            key_id=wrap.key_id,
            policy_id=policy.id,
            generation=tik.generation,
        )
    return opened


def _check_endorsements(
    policy: DataEncryptionPolicy, tiks: Mapping[int, bytes], pin: PolicyPin, place: str
) -> None:
    for tik in policy.tik_generations:
        if tik.generation <= pin.tik_generation:
            continue
        expected = wrapping.endorse_tik(
            tiks[tik.generation - 1],
            policy_id=bytes.fromhex(policy.id),
            generation=tik.generation,
            fingerprint=tik.fingerprint,
        )
        if not wrapping.same(expected, tik.endorsement):
            raise AnchorMismatch(
                f"{place}: generation {tik.generation} of the tenant intermediate key of policy "
                f"{policy.name} ({policy.id}) is not endorsed by generation {tik.generation - 1}, "
                "which this host trusts: it was substituted; do not write to the store, and put "
                "the newest keystore back from a backup",
                policy_id=policy.id,
                generation=tik.generation,
                place=place,
            )
