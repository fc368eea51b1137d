"""The anchor: what this host knows of a store and keeps outside it, so that the store cannot lie.

STATE/stores/<store id>/anchor.json pins each policy's tenant intermediate key (TIK) by fingerprint
and the newest generations seen. Compares and records; opens no key. The head of the audit log is
pinned beside it by audit.py. Form and rules: HIERARCHY.md section 5.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from keyhierarchy import documents, durable
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import AnchorMismatch, KeystoreMissing
from keyhierarchy.policy import Generation, HexId, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyhierarchy.keystore import Keystore, Section

FORMAT = 1
_NAME = "anchor.json"
_LOCK = "anchor.lock"
_LIMIT = 16 << 20


class PolicyPin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one policy: its TIK, and the newest section sealed with it."""

    policy_id: HexId
    tik_generation: Generation
    fingerprint: Annotated[bytes, Meta(min_length=32, max_length=32)]
    sealed_generation: Generation


class Anchor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    store_id: HexId
    first_seen: Timestamp
    keystore_generation: Generation
    policies: tuple[PolicyPin, ...]

    def pin(self, policy_id: str) -> PolicyPin | None:
        """Find what is known of a policy, or None."""
        return next((pin for pin in self.policies if pin.policy_id == policy_id), None)


class AnchorFile:
    """The anchor of one store on this host."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, _NAME)
        self._folder = folder

    def load(self) -> Anchor | None:
        """Return what is known, or None where this host sees the store for the first time."""
        if not os.path.lexists(self._folder):
            return None
        durable.require_private_folder(self._folder)
        try:
            document = durable.read_document(self.path, limit=_LIMIT, private=True)
        except KeystoreMissing:
            return None
        return documents.parse(document, Anchor, known_format=FORMAT, place=self.path)

    def change(self, change: Callable[[Anchor | None], Anchor]) -> Anchor:
        """Apply a change to what is there now, alone among processes, and keep the outcome."""
        durable.make_private_folder(self._folder)
        with durable.locked(os.path.join(self._folder, _LOCK), wait=True):
            before = self.load()
            after = change(before)
            if after != before:
                durable.replace_document(self.path, documents.pack(after))
        return after


def trust(keystore: Keystore) -> Anchor:
    """Pin everything that the keystore says: for a store that was just made or is first seen."""
    return Anchor(
        store_id=keystore.store_id,
        first_seen=timestamp(),
        keystore_generation=keystore.generation,
        policies=tuple(pin_of(section) for section in keystore.sections),
    )


def pin_of(section: Section) -> PolicyPin:
    """Return the pin that describes this section. Its seal must have been checked."""
    tik = section.policy.current_tik
    return PolicyPin(
        policy_id=section.policy.id,
        tik_generation=tik.generation,
        fingerprint=tik.fingerprint,
        sealed_generation=section.sealed_generation,
    )


def advance(anchor: Anchor, pin: PolicyPin) -> Anchor:
    """Return the anchor with a newer pin for a policy, whose seal must have been checked.

    Never goes back, whatever order processes come in. Only what a seal vouches for counts, lest
    somebody who can write to the store makes this host wait for a generation that never comes.
    """
    known = anchor.pin(pin.policy_id)
    if known is not None and known.sealed_generation >= pin.sealed_generation:
        pin = known
    others = tuple(old for old in anchor.policies if old.policy_id != pin.policy_id)
    return replace(
        anchor,
        keystore_generation=max(anchor.keystore_generation, pin.sealed_generation),
        policies=tuple(sorted((*others, pin), key=lambda one: one.policy_id)),
    )


def check_document(anchor: Anchor, keystore: Keystore, place: str) -> None:
    """Raise AnchorMismatch where the keystore is another store's, older, or lacks a policy.

    Needs no key; what only the TIK can show is checked by `check_section` when it has been opened.
    """
    if anchor.store_id != keystore.store_id:
        raise AnchorMismatch(
            f"{place} belongs to store {keystore.store_id}, this host's anchor to store "
            f"{anchor.store_id}; one of the two folders was moved: move it back",
            place=place,
        )
    if keystore.generation < anchor.keystore_generation:
        raise _rolled_back(place, keystore.generation, anchor.keystore_generation)
    for pin in anchor.policies:
        if keystore.section(pin.policy_id) is None:
            raise AnchorMismatch(
                f"{place} no longer has policy {pin.policy_id}, which this host knows; "
                "put the newest keystore back",
                policy_id=pin.policy_id,
                place=place,
            )


def check_section(pin: PolicyPin | None, section: Section, place: str) -> None:
    """Raise AnchorMismatch where a section is older than the pin or names another TIK.

    A newer TIK generation passes here; the caller checks that the pinned one endorses it.
    """
    policy = section.policy
    if pin is None:
        raise AnchorMismatch(
            f"{place} has policy {policy.name} ({policy.id}), which this host does not know: it "
            "was added elsewhere or planted; ask the store's administrator, and if it is theirs "
            "make this host see the store anew (HIERARCHY.md, runbook)",
            policy_id=policy.id,
            place=place,
        )
    if section.sealed_generation < pin.sealed_generation:
        raise _rolled_back(place, section.sealed_generation, pin.sealed_generation)
    pinned = policy.tik(pin.tik_generation)
    if policy.current_tik.generation < pin.tik_generation or (
        pinned is not None and pinned.fingerprint != pin.fingerprint
    ):
        raise AnchorMismatch(
            f"{place}: the tenant intermediate key of policy {policy.name} ({policy.id}) is not "
            f"generation {pin.tik_generation} that this host has pinned: it was substituted; "
            "do not write to the store, and put the newest keystore back from a backup",
            policy_id=policy.id,
            generation=pin.tik_generation,
            place=place,
        )


def _rolled_back(place: str, found: int, known: int) -> AnchorMismatch:
    return AnchorMismatch(
        f"{place} was rolled back: it is generation {found}, this host has seen {known}; "
        "put the newest keystore back",
        generation=known,
        place=place,
    )
