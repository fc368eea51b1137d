"""Open one policy: its tenant intermediate keys (TIK) from their wraps, checked against everything.

The order of the checks is the point: no key made here is used before the fingerprint, the anchor's
pin and the section's seal all agree. Asks root keys; keeps nothing, and writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import wrapping
from keyhierarchy.errors import (
    AnchorMismatch,
    AuditChainBroken,
    KeyHierarchyError,
    KeystoreInvalid,
    RootKeyNotListed,
    WrappedKeyInvalid,
)
from keyhierarchy.hedging import Hedge, Question
from keyhierarchy.policy import require_usable, successor_key_id
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


class Tiks(dict[int, bytes]):
    """Tenant intermediate keys by generation. Prints without the keys, and is not pickled."""

    def __repr__(self) -> str:
        return f"<Tiks of generations {sorted(self)}>"

    def __reduce__(self) -> str:
        raise TypeError("Tiks hold keys and are not pickled")


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
    section: Section,
    pin: PolicyPin | None,
    *,
    store_id: bytes,
    roots: RootSource,
    place: str,
    hedge: Hedge | None = None,
) -> Tiks:
    """Return the TIKs of a policy by generation: the current one and all that its sites need.

    `pin` is what the anchor knows, None only where this host sees the store for the first time.
    """
    policy = section.policy
    needed = needed_generations(section, pin, place)
    tiks = Tiks()
    for number in sorted(needed, reverse=True):  # a newer one opens those before it
        tiks[number] = _through_successor(policy, number, tiks) or open_generation(
            policy, number, roots, place, hedge
        )
    _check(section, pin, tiks, store_id, place)
    return tiks


def still_opens(
    section: Section,
    pin: PolicyPin | None,
    tiks: Mapping[int, bytes],
    *,
    store_id: bytes,
    place: str,
) -> bool:
    """Tell whether TIKs that were opened before serve this section, too; asks no root.

    Every check of `open_section` is made again; False only where a generation is missing.
    """
    if not needed_generations(section, pin, place) <= tiks.keys():
        return False
    _check(section, pin, tiks, store_id, place)
    return True


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
    policy: DataEncryptionPolicy,
    generation: int,
    roots: RootSource,
    place: str,
    hedge: Hedge | None = None,
) -> bytes:
    """Return one generation of the TIK: the first answer of the roots that can open it."""
    tik = policy.tik(generation)
    if tik is None:
        raise KeystoreInvalid(
            f"{place}: policy {policy.name} ({policy.id}) lacks generation {generation} of its "
            "tenant intermediate key, which is still needed; put the keystore back from a backup",
            policy_id=policy.id,
            generation=generation,
            place=place,
        )
    asked = questions(policy, tik, roots)
    if not asked:
        raise KeystoreInvalid(
            f"{place}: generation {generation} of the tenant intermediate key of policy "
            f"{policy.name} ({policy.id}) has no wrap that this process may open",
            policy_id=policy.id,
            generation=generation,
            place=place,
        )
    return (hedge or Hedge()).first(asked)


def questions(
    policy: DataEncryptionPolicy, tik: TikGeneration, roots: RootSource
) -> list[Question]:
    """Return what to ask of whom for one generation; an answer is checked by its fingerprint.

    Raises RootKeyNotListed before anybody is asked: where a store names one key that this host's
    administrator has not allowed, nothing else that it says about keys is taken on trust either.
    """
    return [
        Question(policy.id, wrap.slot, wrap.key_id, ask)
        for wrap in tik.wraps
        if (ask := _asking(policy, tik, wrap, roots)) is not None
    ]


def _asking(
    policy: DataEncryptionPolicy, tik: TikGeneration, wrap: TikWrap, roots: RootSource
) -> Callable[[], bytes] | None:
    try:
        root = roots(policy, wrap)
    except RootKeyNotListed:
        raise
    except KeyHierarchyError as error:
        trouble = error.again()

        def fail() -> bytes:
            raise trouble.again()

        return fail
    if root is None:
        return None
    return lambda: _checked(policy, tik, wrap, root.unwrap(wrap.wrapped))


def needed_generations(section: Section, pin: PolicyPin | None, place: str) -> set[int]:
    """Return the generations that opening a section takes, after what needs no key was checked."""
    policy = section.policy
    require_usable(replace(policy, state=section.state))
    needed = {key.tik_generation for site in section.sites for key in site.site_keys}
    needed.add(policy.current_tik.generation)
    if pin is not None:
        anchors.check_section(pin, section, place)
        # What was pinned must vouch for each generation that has come since.
        needed.update(range(pin.tik_generation, policy.current_tik.generation))
    return needed


def _check(
    section: Section,
    pin: PolicyPin | None,
    tiks: Mapping[int, bytes],
    store_id: bytes,
    place: str,
) -> None:
    if pin is not None:
        _check_endorsements(section.policy, tiks, pin, place)
    current = tiks[section.policy.current_tik.generation]
    keystores.check_seal(section, current, store_id=store_id, place=place)


def _through_successor(
    policy: DataEncryptionPolicy, generation: int, tiks: Mapping[int, bytes]
) -> bytes | None:
    """Open a generation that is no longer current by the one after it; None if it is not so."""
    tik = policy.tik(generation)
    successor = tiks.get(generation + 1)
    for wrap in tik.wraps if tik and successor else ():
        if wrap.key_id == successor_key_id(generation + 1):
            opened = wrapping.unwrap_tik(
                successor or b"",
                wrap.wrapped,
                policy_id=bytes.fromhex(policy.id),
                generation=generation,
            )
            return _checked(policy, tik, wrap, opened) if tik else None
    return None


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
            cause="wrong-key",
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
