"""Every lease of one hierarchy and what becomes of it: filled, bridged, ended, brought back.

The one place where leases change, under one lock that is never held while a root key is asked.
Each change that matters goes to the audit log after it has been made. Opens no key.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from keyhierarchy import policystatus, revocation
from keyhierarchy.errors import (
    AnchorMismatch,
    KeyHierarchyError,
    PolicyPurged,
    RootKeyMissing,
    RootKeyRefused,
    UnsafePermissions,
    WrappedKeyInvalid,
)
from keyhierarchy.renewal import Renewal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from keyhierarchy.audit import AuditLog, Outcome
    from keyhierarchy.keystore import SiteRecord
    from keyhierarchy.lease import SiteLease
    from keyhierarchy.openpolicies import OpenPolicies, OpenPolicy
    from keyhierarchy.wrapping import FileKeyWrapper

    # A lease with what fills it: its site's record, its wrappers and its metadata key.
    Filling = tuple[SiteLease, SiteRecord, Mapping[int, FileKeyWrapper], bytes]

# HIERARCHY.md 7.2: somebody or something says no, or a key was substituted. All else may pass, and
# a lease bridges it until its deadline.
FINAL = (
    RootKeyRefused,
    RootKeyMissing,
    UnsafePermissions,
    PolicyPurged,
    AnchorMismatch,
    WrappedKeyInvalid,
)


class LeaseBook:
    """The leases by site, and the plans for their renewal by policy."""

    def __init__(
        self,
        policies: OpenPolicies,
        audit: AuditLog,
        *,
        clock: Callable[[], float],
        revocations: revocation.Watch,
        retry_seconds: float,
    ) -> None:
        self.by_site: dict[bytes, SiteLease] = {}
        self.plans: dict[str, Renewal] = {}
        self.closed = False
        self._policies = policies
        self._audit = audit
        self._clock = clock
        self._revocations = revocations
        self._retry_seconds = retry_seconds
        self._bridging: set[SiteLease] = set()
        # For each policy that was closed: the moment and the reason. What was asked before that
        # moment brings no lease back.
        self._ended: dict[str, tuple[int, KeyHierarchyError]] = {}
        self._lock = threading.Lock()

    def all(self) -> list[SiteLease]:
        """Return every lease, valid or not."""
        return list(self.by_site.values())

    def of_policy(self, policy_id: str) -> list[SiteLease]:
        """Return the leases of one policy."""
        return [lease for lease in self.all() if lease.policy_id == policy_id]

    def due(self) -> list[SiteLease]:
        """Return the leases whose renewal is due."""
        now = self._clock()
        return [lease for lease in self.all() if self.plans[lease.policy_id].due <= now]

    def add(self, lease: SiteLease) -> SiteLease:
        """Enter a lease that was granted; return the one to use."""
        with self._lock:
            other = self.by_site.get(lease.site_id)
            if other is not None and other is not lease and other.valid:
                return other  # another thread was quicker, and one site has one lease
            # Into a new mapping, because others may be walking over the old one.
            self.by_site = {**self.by_site, lease.site_id: lease}
        return lease

    def fill(self, opened: OpenPolicy, fillings: Sequence[Filling], *, lifetime: float) -> None:
        """Fill leases of one policy, unless it was closed since its root keys were asked."""
        policy_id = opened.policy.id
        with self._lock:
            self._require_open(policy_id, opened.moment, fillings[0][0])
            self._policies.keep(opened)
            plan = self.plans.setdefault(policy_id, Renewal(lifetime, self._retry_seconds))
            plan.lease_seconds = lifetime
            plan.succeeded(opened.asked_at)
            for lease, site, wrappers, metadata_key in fillings:
                lease.policy_id = policy_id
                lease.fill(
                    wrappers,
                    metadata_key,
                    generation=site.site_keys[-1].generation,
                    # From when the root was asked: an answer that took long is old already.
                    deadline=opened.asked_at + lifetime,
                )

    def end_policy(self, policy_id: str, reason: KeyHierarchyError) -> list[SiteLease]:
        """End all leases of a policy at once, and whatever is on its way to them."""
        with self._lock:
            self._ended[policy_id] = (self._policies.moment(), reason.again())
            self._policies.drop(policy_id)
            mine = self.of_policy(policy_id)
            ended = [lease for lease in mine if lease.valid]
            for lease in mine:
                lease.end(reason)
            if policy_id in self.plans:
                self.plans[policy_id].refused(self._clock())
        for lease in ended:
            self.record("lease.end", "refused", lease, reason)
        return ended

    def expire(self) -> list[SiteLease]:
        """End the leases whose deadline has passed and return them."""
        with self._lock:
            now = self._clock()
            late = [one for one in self.all() if one.valid and now >= one.deadline]
            for lease in late:
                lifetime = self.plans[lease.policy_id].lease_seconds
                lease.end(policystatus.expired(lease, lifetime))
                self._policies.drop_older(lease.policy_id, lifetime)
        for lease in late:
            self.record("lease.expire", "ok", lease)
        return late

    def close(self) -> None:
        """End every lease for good. May be called again."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            open_ones = [lease for lease in self.all() if lease.valid]
            for lease in self.all():
                lease.end(policystatus.closed(lease))
                self._policies.drop(lease.policy_id)
        for lease in open_ones:
            self.record("site-key.close", "ok", lease)

    def plan_again(
        self, leases: Iterable[SiteLease], failed: Mapping[SiteLease, KeyHierarchyError]
    ) -> None:
        """Set the next try for each policy of which no lease could be renewed."""
        succeeded = {lease.policy_id for lease in leases if lease not in failed}
        errors = {lease.policy_id: error for lease, error in failed.items()}
        for policy_id in errors.keys() - succeeded:
            plan = self.plans.get(policy_id)
            if plan is None:
                continue
            if isinstance(errors[policy_id], FINAL):
                plan.refused(self._clock())
            else:
                plan.failed(self._clock())

    def settle(self, lease: SiteLease, error: KeyHierarchyError | None, *, was_valid: bool) -> None:
        """Act on the outcome of one renewal first, and tell the audit log what changed then."""
        if error is None:
            if not was_valid or lease in self._bridging:
                self._bridging.discard(lease)
                self.record("lease.restore", "ok", lease)
            return
        final = isinstance(error, FINAL)
        with self._lock:
            still_valid = lease.valid
            late = still_valid and self._clock() >= lease.deadline
            if final or late:
                lease.end(error)
            if final:
                self._policies.drop(lease.policy_id)
        if final and still_valid:
            self.record("lease.end", "refused", lease, error)
        elif late:
            self.record("lease.expire", "failed", lease, error)
        elif still_valid and lease not in self._bridging:
            self._bridging.add(lease)
            self.record("lease.bridge", "failed", lease, error)

    def record(
        self,
        event: str,
        outcome: Outcome,
        lease: SiteLease,
        error: KeyHierarchyError | None = None,
    ) -> None:
        """Tell the audit log."""
        self._audit.append(
            event,
            outcome,
            policy_id=lease.policy_id,
            site_id=lease.site_id.hex(),
            key_id=None if error is None else error.key_id,
            generation=lease.generation or None,
            reason="" if error is None else f"{type(error).__name__}: {error}",
        )

    def _require_open(self, policy_id: str, moment: int, lease: SiteLease) -> None:
        """Raise where the policy, or the mount, was closed since its root keys were asked."""
        if self.closed:
            raise policystatus.closed(lease)
        found = self._revocations.now().find(policy_id)
        if found is not None:
            raise revocation.refusal(found)
        ended_at, reason = self._ended.get(policy_id, (0, None))
        if reason is not None and moment < ended_at:
            raise reason.again()
