"""Words for what a hierarchy knows: the status of its policies, and why a lease ended. PURE.

Everything comes in as values; nothing is asked and nothing changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyhierarchy.errors import RootKeyUnavailable
from keyhierarchy.roothealth import PolicyStatus, RootStatus, health_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyhierarchy.audit import Outcome
    from keyhierarchy.errors import KeyHierarchyError
    from keyhierarchy.lease import SiteLease
    from keyhierarchy.renewal import Renewal
    from keyhierarchy.revocation import Revocations
    from keyhierarchy.roothealth import RootHealth, State

OUTCOMES: dict[State, Outcome] = {
    "unknown": "ok",
    "ok": "ok",
    "unavailable": "failed",
    "refused": "refused",
    "wrong-key": "refused",
}


def gather(
    leases: Iterable[SiteLease],
    plans: Mapping[str, Renewal],
    health: RootHealth,
    revoked: Revocations,
    now: float,
) -> list[PolicyStatus]:
    """Return the status of each policy that has leases."""
    mine: dict[str, list[SiteLease]] = {}
    for lease in leases:
        mine.setdefault(lease.policy_id, []).append(lease)
    found = []
    for policy_id, ones in sorted(mine.items()):
        plan, roots = plans.get(policy_id), health.of_policy(policy_id)
        valid = [lease for lease in ones if lease.valid]
        found.append(
            PolicyStatus(
                policy_id=policy_id,
                health=health_of(roots, valid=bool(valid)),
                revoked_on_host=revoked.find(policy_id) is not None,
                leases=len(ones),
                valid_leases=len(valid),
                lease_seconds_left=round(
                    max(0.0, min((lease.deadline - now for lease in valid), default=0.0))
                ),
                renewal_in_seconds=0 if plan is None else round(max(0.0, plan.due - now)),
                failed_renewals=0 if plan is None else plan.failures,
                roots=roots,
            )
        )
    return found


def told(slot: str, before: RootStatus, after: RootStatus, error: KeyHierarchyError | None) -> str:
    """Say in an audit record how a root key has changed."""
    change = f"{slot} root key: {before.state} to {after.state}"
    return change if error is None else f"{change} ({error.cause or 'no cause known'}): {error}"


def expired(lease: SiteLease, lease_seconds: float) -> RootKeyUnavailable:
    """Say why a lease ended whose deadline has passed."""
    return RootKeyUnavailable(
        f"the lease on site {lease.site_id.hex()} ended: its keys could not be renewed for "
        f"{lease_seconds:.0f} s; the audit log says why",
        site_id=lease.site_id.hex(),
        policy_id=lease.policy_id,
        cause="lease-expired",
    )


def closed(lease: SiteLease) -> RootKeyUnavailable:
    """Say why a lease ended when the mount did."""
    return RootKeyUnavailable(
        f"the keys of site {lease.site_id.hex()} were given back: the mount is ending; mount the "
        "store again",
        site_id=lease.site_id.hex(),
    )
