"""One verb at work on one policy of one store: lock, checked load, one write for each step.

A step reads the keystore anew, proves it against anchor and seal, changes one section, writes,
syncs, reads back and compares; then it moves the anchor on. Knows no verb.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import durable, opening, statedir, wrapping
from keyhierarchy import keystore as keystores
from keyhierarchy.audit import AuditLog
from keyhierarchy.errors import (
    KeyHierarchyError,
    KeystoreInvalid,
    StorageUnavailable,
    TransitionRefused,
)
from keyhierarchy.transitions import Move, Verb, move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyhierarchy.anchor import Anchor
    from keyhierarchy.audit import Outcome
    from keyhierarchy.keystore import Keystore, Section
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.opening import RootSource

LOCK = "lifecycle.lock"


class Store(NamedTuple):
    """Where a store and what this host knows of it are."""

    control_folder: str
    state_dir: str
    store_id: bytes

    @property
    def folder(self) -> str:
        """What this host keeps of the store."""
        return statedir.store_folder(self.state_dir, self.store_id)

    @property
    def place(self) -> str:
        """The keystore, as errors name it."""
        return keystores.path(self.control_folder)


class Watch(NamedTuple):
    """Whom a verb tells how far it is: a step that was done, and the share of sites from 0 to 1."""

    step: Callable[[str], object] = str
    progress: Callable[[float], object] = float


class Session:
    """The policy that a verb works on, with its tenant intermediate keys once they are opened."""

    def __init__(self, store: Store, rooms: Rooms, policy_id: str, watch: Watch) -> None:
        self.store = store
        self.rooms = rooms
        self.policy_id = policy_id
        self.watch = watch
        self.audit = AuditLog(store.folder, store.store_id)
        self._anchor = anchors.AnchorFile(store.folder)
        self._tiks = opening.Tiks()

    def __repr__(self) -> str:
        return f"<Session of policy {self.policy_id}>"

    def load(self) -> Keystore:
        """Read the keystore, checked against what this host knows. Opens no key."""
        return load(self.store)

    def section(self) -> Section:
        """Return the policy's section as it is now."""
        return section_of(self.load(), self.policy_id)

    def allow(self, verb: Verb) -> tuple[Section, Move]:
        """Return the section and where the verb leads; TransitionRefused where it leads nowhere."""
        section = self.section()
        return section, move(section.state, verb, named=section.policy.named)

    def open(self, roots: RootSource | None = None) -> dict[int, bytes]:
        """Open the policy's keys as a mount does, and check all that a mount checks."""
        section = self.section()
        known = require_known(self._anchor.load(), self.store)
        pin = known.pin(self.policy_id)
        anchors.check_section(pin, section, self.store.place)
        self._tiks = opening.open_section(
            section,
            pin,
            store_id=self.store.store_id,
            roots=roots or self.rooms.existing,
            place=self.store.place,
        )
        self.pin(section)
        return self._tiks

    def commit(
        self,
        name: str,
        change: Callable[[Section], Section],
        *,
        tik: tuple[int, bytes] | None = None,
    ) -> Section:
        """Do one step: change the section, seal, write, read back, pin. `tik` is a new current TIK.

        The keys must have been opened. The change is applied to what is on disk now, so a site that
        was made meanwhile is not lost.
        """
        store = self.store
        with keystores.exclusive(store.control_folder, wait=True):
            keystore = self.load()
            before = section_of(keystore, self.policy_id)
            self.require_current(before)
            after = replace(change(before), sealed_generation=keystore.generation + 1)
            if tik is not None:
                self._tiks[tik[0]] = tik[1]
            sealing = self._tiks[after.policy.current_tik.generation]
            after = keystores.sealed(after, sealing, store_id=store.store_id)
            write(store, with_sections(keystore, after))
        self.pin(after)
        self.watch.step(name)
        return after

    def tik(self, generation: int) -> bytes:
        """Return a TIK that was opened or made in this session."""
        return self._tiks[generation]

    def record(
        self, event: str, outcome: Outcome, *, key_id: str | None = None, reason: str = ""
    ) -> None:
        """Write an audit record about the policy."""
        self.audit.append(event, outcome, policy_id=self.policy_id, key_id=key_id, reason=reason)

    @contextmanager
    def recorded(self, event: str, reason: str = "") -> Iterator[None]:
        """Record start and end of a verb, or why it failed."""
        self.record(event, "started", reason=reason)
        try:
            yield
        except KeyHierarchyError as error:
            self.record(
                event, "failed", key_id=error.key_id, reason=f"{type(error).__name__}: {error}"
            )
            raise
        self.record(event, "ok", reason=reason)

    def require_current(self, section: Section) -> None:
        """Raise unless the current TIK is one of this session's, and has sealed the section."""
        tik = self._tiks.get(section.policy.current_tik.generation, b"")
        policy = section.policy
        fingerprint = (
            wrapping.tik_fingerprint(
                tik, policy_id=bytes.fromhex(policy.id), generation=policy.current_tik.generation
            )
            if tik
            else b""
        )
        if not wrapping.same(fingerprint, policy.current_tik.fingerprint):
            raise KeystoreInvalid(
                f"{self.store.place}: the tenant intermediate key of policy {policy.named} was "
                "changed by somebody else while this verb ran; run it again",
                policy_id=policy.id,
                place=self.store.place,
            )
        keystores.check_seal(section, tik, store_id=self.store.store_id, place=self.store.place)

    def pin(self, section: Section) -> None:
        """Move this host's anchor on to a section that this session has sealed or checked."""
        pin = anchors.pin_of(section)
        self._anchor.change(lambda known: anchors.advance(require_known(known, self.store), pin))


@contextmanager
def one_verb(store: Store) -> Iterator[None]:
    """Hold the store's verb lock; KeystoreBusy while another verb runs."""
    with durable.locked(os.path.join(store.control_folder, LOCK)):
        yield


def load(store: Store) -> Keystore:
    """Read the keystore of a store and compare it with this host's anchor. Opens no key."""
    keystore = keystores.load(store.control_folder, store.store_id)
    known = require_known(anchors.AnchorFile(store.folder).load(), store)
    opening.require_log(known, AuditLog(store.folder, store.store_id))
    anchors.check_document(known, keystore, store.place)
    return keystore


def find_policy(keystore: Keystore, wanted: str | None) -> Section:
    """Find a policy by name or id; without one, the only policy of the store."""
    sections = keystore.sections
    if wanted is None and len(sections) == 1:
        return sections[0]
    found = [s for s in sections if wanted in {s.policy.name, s.policy.id}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(section.policy.name for section in sections)
    if wanted is None:
        raise TransitionRefused(f"the store has several policies; name one with --policy: {names}")
    raise TransitionRefused(f"the store has no policy {wanted!r}; it has: {names}")


def require_known(known: Anchor | None, store: Store) -> Anchor:
    """Raise TransitionRefused where this host has never opened the store."""
    if known is None:
        raise TransitionRefused(
            f"this host has never opened store {store.store_id.hex()}, so it cannot tell whether "
            "its keystore is the newest; run ckfs-keys status on it, or mount it once, then try "
            "again"
        )
    return known


def with_sections(keystore: Keystore, *changed: Section) -> Keystore:
    """Return the next generation of the keystore with these sections in place of the old ones."""
    new = {section.policy.id: section for section in changed}
    sections = tuple(new.pop(old.policy.id, old) for old in keystore.sections)
    return replace(
        keystore,
        sections=(*sections, *new.values()),
        generation=max(s.sealed_generation for s in (*sections, *new.values())),
    )


def write(store: Store, keystore: Keystore) -> None:
    """Write, sync, read back and compare. The caller holds the keystore's lock."""
    keystores.store(store.control_folder, keystore)
    written = keystores.load(store.control_folder, store.store_id)
    if written.sections != keystore.sections:
        raise StorageUnavailable(
            f"{store.place} does not read back as it was written; check the disk below it, then "
            "run: ckfs-keys resume",
            place=store.place,
        )


def section_of(keystore: Keystore, policy_id: str) -> Section:
    """Return the section of a policy that is known to be there."""
    section = keystore.section(policy_id)
    if section is None:
        raise TransitionRefused(f"the keystore has no policy {policy_id}")
    return section
