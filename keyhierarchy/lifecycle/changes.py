"""What the steps change in a section: a new TIK, a site moved to it, wraps dropped. PURE.

Values in, values out; fresh keys come from `secrets`. Nothing here asks a root key or writes.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from keyhierarchy import wrapping
from keyhierarchy.keystore import SiteKeyGeneration
from keyhierarchy.policy import (
    SUCCESSOR_ALGORITHM,
    TikGeneration,
    TikWrap,
    successor_key_id,
    with_added_wrap,
    with_retired,
    without_wraps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyhierarchy.keystore import Section, SiteRecord
    from keyhierarchy.policy import DataEncryptionPolicy, Operation, PolicyState


def with_new_tik(
    policy: DataEncryptionPolicy,
    old_tik: bytes,
    new_tik: bytes,
    wraps: Sequence[TikWrap],
    created: str,
) -> DataEncryptionPolicy:
    """Add a TIK generation that the current one endorses, and wrap the current one under it."""
    policy_id = bytes.fromhex(policy.id)
    old = policy.current_tik.generation
    new = old + 1
    fingerprint = wrapping.tik_fingerprint(new_tik, policy_id=policy_id, generation=new)
    endorsement = wrapping.endorse_tik(
        old_tik, policy_id=policy_id, generation=new, fingerprint=fingerprint
    )
    successor = TikWrap(
        slot="successor",
        key_id=successor_key_id(new),
        algorithm=SUCCESSOR_ALGORITHM,
        wrapped=wrapping.wrap_tik(new_tik, old_tik, policy_id=policy_id, generation=old),
        created=created,
    )
    added = TikGeneration(
        generation=new, fingerprint=fingerprint, endorsement=endorsement, wraps=tuple(wraps)
    )
    policy = with_added_wrap(policy, old, successor)
    return replace(policy, tik_generations=(*policy.tik_generations, added))


def begun(
    policy: DataEncryptionPolicy, state: PolicyState, operation: Operation
) -> DataEncryptionPolicy:
    """Return the policy with an operation running."""
    return replace(policy, state=state, operation=operation)


def finished(policy: DataEncryptionPolicy, state: PolicyState) -> DataEncryptionPolicy:
    """Return the policy with no operation running."""
    return replace(policy, state=state, operation=UNSET)


def only_successors(policy: DataEncryptionPolicy, now: str) -> DataEncryptionPolicy:
    """Drop every root's wrap of TIKs that are not current; their successor opens them."""
    dropped: list[TikWrap] = []
    for tik in policy.tik_generations[:-1]:
        roots = [wrap for wrap in tik.wraps if wrap.slot != "successor"]
        if roots:
            dropped += roots
            policy = without_wraps(policy, tik.generation, lambda wrap: wrap.slot != "successor")
    return _retire(policy, dropped, now)


def without_old_root(
    policy: DataEncryptionPolicy, slot: str, keep: str, now: str
) -> DataEncryptionPolicy:
    """Drop the wraps of the current TIK in a slot, all but that by the key `keep`."""
    tik = policy.current_tik
    old = [wrap for wrap in tik.wraps if wrap.slot == slot and wrap.key_id != keep]
    if old:
        policy = without_wraps(policy, tik.generation, old.__contains__)
    return _retire(policy, old, now)


def is_moved(policy: DataEncryptionPolicy, site: SiteRecord) -> bool:
    """Tell whether all of a site's keys are under the current TIK."""
    return site.is_under(policy.current_tik.generation)


def share_moved(section: Section) -> float:
    """Return the share of sites whose keys are under the current TIK, from 0 to 1."""
    if not section.sites:
        return 1.0
    return sum(is_moved(section.policy, site) for site in section.sites) / len(section.sites)


def moved_site(
    site: SiteRecord,
    tiks: Mapping[int, bytes],
    policy: DataEncryptionPolicy,
    *,
    from_policy: str | None = None,
    target: tuple[int, bytes] | None = None,
    fresh: bool,
) -> SiteRecord:
    """Wrap all of a site's keys under the current TIK, or `target`; `fresh`: add a new one.

    Older site keys stay, because headers of files name them. `from_policy` is where the site comes
    from, when it changes its policy.
    """
    generation, tik = target or (policy.current_tik.generation, tiks[policy.current_tik.generation])
    site_id = bytes.fromhex(site.site_id)
    old_policy = bytes.fromhex(from_policy or policy.id)
    opened = [
        (
            key,
            wrapping.unwrap_site_key(
                tiks[key.tik_generation],
                key.wrapped_site_key,
                policy_id=old_policy,
                tik_generation=key.tik_generation,
                site_id=site_id,
                generation=key.generation,
            ),
        )
        for key in site.site_keys
    ]
    last, last_key = opened[-1]
    keys = [
        _site_key(key.generation, site_key, site_id, policy.id, generation, tik)
        for key, site_key in opened
    ]
    metadata = site.wrapped_metadata_key
    if fresh:
        new = last.generation + 1
        new_key = secrets.token_bytes(wrapping.KEY_LENGTH)
        metadata_key = wrapping.unwrap_metadata_key(
            last_key, metadata, site_id=site_id, generation=last.generation
        )
        metadata = wrapping.wrap_metadata_key(
            new_key, metadata_key, site_id=site_id, generation=new
        )
        keys.append(_site_key(new, new_key, site_id, policy.id, generation, tik))
    return replace(site, policy_id=policy.id, site_keys=tuple(keys), wrapped_metadata_key=metadata)


def _site_key(
    number: int, site_key: bytes, site_id: bytes, policy_id: str, tik_generation: int, tik: bytes
) -> SiteKeyGeneration:
    return SiteKeyGeneration(
        generation=number,
        tik_generation=tik_generation,
        wrapped_site_key=wrapping.wrap_site_key(
            tik,
            site_key,
            policy_id=bytes.fromhex(policy_id),
            tik_generation=tik_generation,
            site_id=site_id,
            generation=number,
        ),
        commitment=wrapping.site_key_commitment(site_key, site_id=site_id, generation=number),
    )


def _retire(
    policy: DataEncryptionPolicy, dropped: Sequence[TikWrap], now: str
) -> DataEncryptionPolicy:
    still = {wrap.key_id for tik in policy.tik_generations for wrap in tik.wraps}
    return with_retired(policy, (wrap for wrap in dropped if wrap.key_id not in still), now)
