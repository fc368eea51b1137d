"""From a store's keystore to the tenant intermediate keys (TIKs) in memory, and nothing further.

Reads keystore and anchor, asks the root keys once for each policy, pins what was proved, and keeps
the TIKs so that any number of sites costs one opening. Knows no lease and no schedule.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import opening, revocation
from keyhierarchy.policy import require_usable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from keyhierarchy.audit import AuditLog
    from keyhierarchy.hedging import Answer, Hedge, Question
    from keyhierarchy.keystore import Keystore, Section
    from keyhierarchy.opening import RootSource
    from keyhierarchy.policy import DataEncryptionPolicy


class OpenPolicy:
    """The TIKs of one policy by generation. `asked_at` is a time, `moment` an order of events."""

    __slots__ = ("asked_at", "moment", "policy", "tiks")

    def __init__(
        self,
        policy: DataEncryptionPolicy,
        tiks: Mapping[int, bytes],
        *,
        asked_at: float,
        moment: int,
    ) -> None:
        self.policy = policy
        self.tiks = tiks
        self.asked_at = asked_at
        self.moment = moment

    def __repr__(self) -> str:
        return f"<OpenPolicy {self.policy.id} with generations {sorted(self.tiks)}>"

    def __reduce__(self) -> str:
        raise TypeError("an OpenPolicy holds keys and is not pickled")


class OpenPolicies:
    """The policies of one store that were opened. May be used from any thread."""

    def __init__(
        self,
        control_folder: str,
        folder: str,
        store_id: bytes,
        *,
        audit: AuditLog,
        clock: Callable[[], float],
        roots: RootSource,
        hedge: Hedge,
        revocations: revocation.Watch,
    ) -> None:
        self.first_sight = False
        self.place = keystores.path(control_folder)
        self._control_folder = control_folder
        self._store_id = store_id
        self._anchor = anchors.AnchorFile(folder)
        self._audit = audit
        self._clock = clock
        self._roots = roots
        self._hedge = hedge
        self._revocations = revocations
        self._open: dict[str, OpenPolicy] = {}
        # One for each policy, because a vault that hangs must not keep another policy waiting.
        self._asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._moments = itertools.count(1)

    def moment(self) -> int:
        """Return the next number in the order of events; clocks are too coarse for that."""
        return next(self._moments)

    def read(self) -> Keystore:
        """Read the keystore and compare it with the anchor. Opens no key."""
        keystore = keystores.load(self._control_folder, self._store_id)
        known = self._anchor.load()
        if known is None:
            self.first_sight = True
            return keystore
        opening.require_log(known, self._audit)
        anchors.check_document(known, keystore, self.place)
        return keystore

    def open(self, keystore: Keystore, section: Section, *, fresh: bool, age: float) -> OpenPolicy:
        """Return the TIKs of a policy: fresh from a root key, else those kept for at most `age`.

        Everything is checked as if for the first time. The caller hands what it could use to
        `keep`.
        """
        policy = section.policy
        # The state of the policy says more than this host's switch, where both close it.
        require_usable(replace(policy, state=section.state))
        found = self._revocations.now().find(policy.id)
        if found is not None:
            raise revocation.refusal(found)
        if not fresh and (kept := self._kept(section, age)) is not None:
            return kept
        with self._asking[policy.id]:
            if not fresh and (kept := self._kept(section, age)) is not None:
                return kept
            known = self._anchor.load()
            pin = self._pin_of(known, section)
            asked_at, moment = self._clock(), self.moment()
            tiks = opening.open_section(
                section,
                pin,
                store_id=self._store_id,
                roots=self._roots,
                place=self.place,
                hedge=self._hedge,
            )
            self._pin(keystore, anchors.pin_of(section), first=known is None)
            return OpenPolicy(policy, tiks, asked_at=asked_at, moment=moment)

    def keep(self, opened: OpenPolicy) -> None:
        """Keep TIKs for the next site."""
        self._open[opened.policy.id] = opened

    def drop(self, policy_id: str) -> None:
        """Forget the TIKs of a policy."""
        self._open.pop(policy_id, None)

    def drop_older(self, policy_id: str, age: float) -> None:
        """Forget the TIKs of a policy when they are too old to be used again."""
        kept = self._open.get(policy_id)
        if kept is not None and self._clock() >= kept.asked_at + age:
            self.drop(policy_id)

    def changed(self, section: Section) -> bool:
        """Tell whether a policy's record is another one than when it was opened."""
        kept = self._open.get(section.policy.id)
        return kept is not None and kept.policy != section.policy

    def questions(self, section: Section) -> list[Question]:
        """Return what a probe asks: each root key for the current TIK."""
        pin = self._pin_of(self._anchor.load(), section)
        opening.needed_generations(section, pin, self.place)  # for its checks
        return opening.questions(section.policy, section.policy.current_tik, self._roots)

    def ask(self, asked: Sequence[Question]) -> list[Answer]:
        """Ask all at once."""
        return self._hedge.all(asked)

    def _kept(self, section: Section, age: float) -> OpenPolicy | None:
        kept = self._open.get(section.policy.id)
        if (
            kept is None
            or kept.policy != section.policy
            or self._clock() >= kept.asked_at + age
            or not opening.still_opens(
                section,
                self._pin_of(self._anchor.load(), section),
                kept.tiks,
                store_id=self._store_id,
                place=self.place,
            )
        ):
            return None
        return kept

    def _pin_of(self, known: anchors.Anchor | None, section: Section) -> anchors.PolicyPin | None:
        if known is None:
            return None
        pin = known.pin(section.policy.id)
        anchors.check_section(pin, section, self.place)
        return pin

    def _pin(self, keystore: Keystore, pin: anchors.PolicyPin, *, first: bool) -> None:
        """Remember what was just proved, if it is news; a forgery never comes this far."""
        if first:
            self._audit.append(
                "store.trust",
                "ok",
                policy_id=pin.policy_id,
                generation=keystore.generation,
                reason="this host sees the store for the first time and trusts it",
            )
        self._anchor.change(lambda known: anchors.advance(known or anchors.trust(keystore), pin))
