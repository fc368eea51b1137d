"""The mount's door to the keys: leases on site keys, renewed ahead of time, ended on refusal.

Hands out one SiteLease for each site of a store, and keeps it right: renewal, probe and revocation
are called from the mount's control tasks; the data path looks only at a lease. What opens a policy
is openpolicies.py's work. Changes no key: that is creation.py's, servicekeys.py's and lifecycle's.
"""

from __future__ import annotations

import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from keyhierarchy import administration, opening, policystatus, revocation, statedir
from keyhierarchy.audit import AuditLog, Outcome
from keyhierarchy.creation import create_store_keys
from keyhierarchy.customerkeys import CUSTOMER_SLOTS, VaultRoots, all_roots
from keyhierarchy.errors import (
    KeyHierarchyError,
    WrappedKeyInvalid,
)
from keyhierarchy.hedging import Hedge
from keyhierarchy.lease import SiteLease
from keyhierarchy.leasebook import FINAL, LeaseBook
from keyhierarchy.openpolicies import OpenPolicies
from keyhierarchy.prober import Prober
from keyhierarchy.roothealth import RootHealth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keyhierarchy.administration import Settings
    from keyhierarchy.hedging import Answer
    from keyhierarchy.keystore import Keystore, Section, SiteRecord
    from keyhierarchy.opening import RootSource
    from keyhierarchy.policy import DataEncryptionPolicy
    from keyhierarchy.roothealth import PolicyStatus

__all__ = ["DEFAULT_LEASE_SECONDS", "Hierarchy", "SiteLease", "create_store_keys"]

# A service-managed root is on this host, so a lease only has to outlive a disk's bad day.
DEFAULT_LEASE_SECONDS = 24 * 3600.0


class Hierarchy:
    """The keys of one store, for one process. Its methods may be called from any thread.

    `_renewing` is held while leases are renewed, which may wait for a root key; nothing else takes
    it, so that `expire`, `check_revocation` and `close` never wait for one that hangs.
    """

    def __init__(  # use `open`
        self,
        control_folder: str,
        state_dir: str,
        store_id: bytes,
        *,
        lease_seconds: float | None,
        clock: Callable[[], float],
        roots: RootSource | None,
        settings: Settings,
    ) -> None:
        self.store_id = store_id
        self.lease_seconds = lease_seconds or DEFAULT_LEASE_SECONDS
        self._given_lease_seconds = lease_seconds
        self._settings = settings
        self._clock = clock
        self._vaults = VaultRoots(state_dir)
        self._audit = AuditLog(statedir.store_folder(state_dir, store_id), store_id)
        self._health = RootHealth()
        self._revocations = revocation.Watch(state_dir)
        self._revoked = revocation.Revocations()
        self._policies = OpenPolicies(
            control_folder,
            statedir.store_folder(state_dir, store_id),
            store_id,
            audit=self._audit,
            clock=clock,
            roots=roots or all_roots(state_dir, self._vaults),
            hedge=Hedge(
                offset_seconds=settings.hedge_offset_seconds,
                deadline_seconds=settings.opening_deadline_seconds,
                observe=self._observe,
                rank=self._health.rank,
                doubted=self._health.doubted,
            ),
            revocations=self._revocations,
        )
        self._book = LeaseBook(
            self._policies,
            self._audit,
            clock=clock,
            revocations=self._revocations,
            retry_seconds=settings.probe_seconds,
        )
        self._prober = Prober(self._policies, settings.probe_seconds)
        self._unlogged: SimpleQueue[KeyHierarchyError] = SimpleQueue()
        self._renewing = threading.Lock()

    @classmethod
    def open(
        cls,
        control_folder: str,
        state_dir: str,
        store_id: bytes,
        *,
        lease_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        roots: RootSource | None = None,
    ) -> Self:
        """Read the keystore and compare it with the anchor. Opens no key yet.

        `first_sight` of the result says that this host has never seen the store and will trust it
        when its first lease is granted. `lease_seconds` is for all policies what otherwise the
        settings of this host say; `roots` builds the root keys in place of the real ones.
        """
        statedir.require_private(state_dir)
        statedir.refuse_inside_store(state_dir, os.path.dirname(os.path.abspath(control_folder)))
        hierarchy = cls(
            control_folder,
            state_dir,
            store_id,
            lease_seconds=lease_seconds,
            clock=clock,
            roots=roots,
            settings=administration.load(state_dir).settings,
        )
        hierarchy._policies.read()
        return hierarchy

    @property
    def first_sight(self) -> bool:
        """Whether this host had never seen the store when it was opened."""
        return self._policies.first_sight

    def sites(self) -> list[SiteRecord]:
        """Return the records of all sites, as the keystore has them now; no seal is checked."""
        return [site for section in self._policies.read().sections for site in section.sites]

    def lease(self, site_id: bytes) -> SiteLease:
        """Return the lease on a site, granted now if there is none yet or it has ended.

        Raises why it cannot be granted. No key is handed out without a record in the audit log.
        Asks a root key only where the policy is not open yet.
        """
        lease = self._book.by_site.get(site_id)
        if lease is not None and lease.valid:
            return lease
        keystore = self._policies.read()
        section, site = keystore.find_site(site_id)
        if lease is None:
            lease = SiteLease(
                site_id,
                policy_id=section.policy.id,
                root_directory_id=bytes.fromhex(site.root_directory_id),
            )
        try:
            self._fill(keystore, section, [(lease, site)], fresh=False)
        except KeyHierarchyError as error:
            self._book.record("site-key.open", "refused", lease, error)
            raise
        try:
            self._book.record("site-key.open", "ok", lease)
        except KeyHierarchyError as error:
            lease.end(error)
            raise
        return self._book.add(lease)

    def renew(self, lease: SiteLease) -> None:
        """Open the lease's keys anew and set its deadline forward; raise what kept it from that.

        An outage leaves the lease alone until its deadline, a refusal ends it at once; both have
        been acted on when this raises. A lease that had ended becomes valid again.
        """
        for trouble in self._renew([lease]):
            raise trouble

    def renew_all(self) -> list[KeyHierarchyError]:
        """Renew every lease, asking once for each policy; return what went wrong.

        Raises no KeyHierarchyError: the state of every lease is right when it returns.
        """
        return self._renew(self._book.all())

    def work_due(self) -> list[KeyHierarchyError]:
        """Renew and probe what is due now, and nothing else; return what went wrong.

        For a control task, on a thread: it may wait for root keys, at most for the deadlines that
        the settings give. Call it again in `seconds_until_due`.
        """
        due = self._book.due()
        troubles = self._renew(due) if due else []
        if self._prober.due <= self._clock():
            troubles += self.probe()
        while not self._unlogged.empty():
            troubles.append(self._unlogged.get())
        return troubles

    def seconds_until_due(self) -> float:
        """Return how long a control task may sleep before `work_due`."""
        plans = [self._book.plans[lease.policy_id].due for lease in self._book.all()]
        if self._book.closed or not plans:
            return self._settings.probe_seconds
        return max(0.0, min(self._prober.due, *plans) - self._clock())

    def probe(self) -> list[KeyHierarchyError]:
        """Let each customer root key open its wrap of each policy in use, and act on the answers.

        A policy that all its root keys deny ends at once, one that answers again is renewed.
        Raises no KeyHierarchyError; returns what went wrong.
        """
        self._prober.probed(self._clock())
        leases = self._book.all()
        troubles: list[KeyHierarchyError] = []
        closed = {one.policy_id for one in self._revoked.policies}
        outcomes = self._prober.probe({one.policy_id for one in leases} - closed, troubles)
        back: list[SiteLease] = []
        for policy_id, error in outcomes.items():
            if isinstance(error, FINAL):
                self._book.end_policy(policy_id, error)
                troubles.append(error.again())
            elif error is None:
                mine = [lease for lease in leases if lease.policy_id == policy_id]
                if self._prober.changed(policy_id) or not all(lease.valid for lease in mine):
                    back += mine
        return troubles + (self._renew(back) if back else [])

    def check_revocation(self) -> list[SiteLease]:
        """End the leases of policies that were revoked on this host, and return them.

        One stat while nothing changes, so a control task calls it each second. Asks no root; raises
        where the document, or the audit log, cannot be used. What was given back is due at once.
        """
        now = self._revocations.now()
        if now is self._revoked:
            return []
        before, self._revoked = self._revoked, now
        ended: list[SiteLease] = []
        for policy_id, plan in list(self._book.plans.items()):
            found = now.find(policy_id)
            if found is not None:
                ended += self._book.end_policy(policy_id, revocation.refusal(found))
            elif before.find(policy_id) is not None:
                plan.at_once(self._clock())
        return ended

    def policy_status(self) -> list[PolicyStatus]:
        """Return how each policy in use stands: root keys, leases, what is due. Asks nobody."""
        return policystatus.gather(
            self._book.all(), self._book.plans, self._health, self._revoked, self._clock()
        )

    def note_incident(self, event: str, outcome: Outcome, reason: str) -> None:
        """Record what the mount found in the store; it is on disk when this returns.

        On any thread. Raises AuditChainBroken or StorageUnavailable where it cannot be written.
        """
        self._audit.append(event, outcome, reason=reason)

    def expire(self) -> list[SiteLease]:
        """End the leases whose deadline has passed and return them. Asks no root; does not wait.

        Raises only where the audit log cannot be written, with all of them ended.
        """
        return self._book.expire()

    def close(self) -> None:
        """End every lease and drop the keys. May be called again. Does not wait for a root."""
        self._book.close()
        self._vaults.close()

    def _renew(self, leases: Sequence[SiteLease]) -> list[KeyHierarchyError]:
        with self._renewing:
            was_valid = {lease: lease.valid for lease in leases}
            try:
                keystore = self._policies.read()
            except KeyHierarchyError as error:
                failed: dict[SiteLease, KeyHierarchyError] = dict.fromkeys(leases, error)
            else:
                failed = self._open_again(keystore, leases)
            self._book.plan_again(leases, failed)
            troubles = [error.again() for error in dict.fromkeys(failed.values())]
            for lease in leases:
                try:
                    self._book.settle(lease, failed.get(lease), was_valid=was_valid[lease])
                except KeyHierarchyError as trouble:  # the log; the lease is in its right state
                    troubles.append(trouble.again())
            return troubles

    def _open_again(
        self, keystore: Keystore, leases: Sequence[SiteLease]
    ) -> dict[SiteLease, KeyHierarchyError]:
        """Fill the leases again, one policy after the other; return those that were not."""
        failed: dict[SiteLease, KeyHierarchyError] = {}
        by_policy: dict[str, tuple[Section, list[tuple[SiteLease, SiteRecord]]]] = {}
        for lease in leases:
            try:
                section, site = keystore.find_site(lease.site_id)
            except KeyHierarchyError as error:
                failed[lease] = error
            else:
                by_policy.setdefault(section.policy.id, (section, []))[1].append((lease, site))
        for section, members in by_policy.values():
            try:
                self._fill(keystore, section, members, fresh=True)
            except KeyHierarchyError as error:
                failed.update((lease, error) for lease, _ in members)
        return failed

    def _fill(
        self,
        keystore: Keystore,
        section: Section,
        members: Sequence[tuple[SiteLease, SiteRecord]],
        *,
        fresh: bool,
    ) -> None:
        """Open everything from the root down, as if for the first time, and fill the leases.

        Because the keystore was read again, a mount follows what `ckfs-keys` did meanwhile.
        """
        policy = section.policy
        lifetime = self._lifetime(policy)
        opened = self._policies.open(keystore, section, fresh=fresh, age=lifetime)
        fillings = [(lease, site, *opening.open_site(site, opened.tiks)) for lease, site in members]
        self._health.keep(policy.id, {(w.slot, w.key_id) for w in policy.current_tik.wraps})
        self._book.fill(opened, fillings, lifetime=lifetime)

    def _observe(self, answer: Answer) -> None:
        """Hear what a root key said, on whatever thread: remember, tell changes, end forgeries."""
        question, error = answer.question, answer.error
        if question.slot not in CUSTOMER_SLOTS or self._book.closed:
            return
        before, after = self._health.note(answer)
        news = (before.state, before.cause) != (after.state, after.cause)
        try:
            if news and (before.state, after.state) != ("unknown", "ok"):
                self._audit.append(
                    "root.disagree" if after.state == "wrong-key" else "root.change",
                    policystatus.OUTCOMES[after.state],
                    policy_id=question.policy_id,
                    key_id=question.key_id,
                    reason=policystatus.told(question.slot, before, after, error),
                )
            if isinstance(error, WrappedKeyInvalid):
                self._book.end_policy(question.policy_id, error)
        except KeyHierarchyError as trouble:  # the log; `work_due` tells of it
            self._unlogged.put(trouble.again())

    def _lifetime(self, policy: DataEncryptionPolicy) -> float:
        if self._given_lease_seconds is not None:
            return self._given_lease_seconds
        if any(wrap.slot in CUSTOMER_SLOTS for wrap in policy.current_tik.wraps):
            return self._settings.lease_seconds
        return DEFAULT_LEASE_SECONDS


def note_refused_store(state_dir: str, store_id: bytes, event: str, reason: str) -> None:
    """Record that a store was not opened at all; nothing on a host that does not know it.

    Raises AuditChainBroken or StorageUnavailable where it cannot be written.
    """
    folder = statedir.store_folder(state_dir, store_id)
    if os.path.isdir(folder):
        AuditLog(folder, store_id).append(event, "refused", reason=reason)
