"""What is known of each customer root key: how it answered last, since when, and why.

Kept in memory, for status, for the order in which roots are asked, and for telling the audit log of
changes only.
Asks nobody; hierarchy.py feeds it with every answer, from whatever thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from keyhierarchy.clock import timestamp
from keyhierarchy.errors import RootKeyUnavailable, WrappedKeyInvalid

if TYPE_CHECKING:
    from collections.abc import Collection

    from keyhierarchy.hedging import Answer, Question

State = Literal["unknown", "ok", "unavailable", "refused", "wrong-key"]
Health = Literal["ok", "degraded", "unavailable", "locked"]


class RootStatus(Struct, frozen=True, kw_only=True):
    """One root key of one policy, for people and programs. Times as in the audit log.

    `doubted` from a wrong key on, whatever else it says, until it opens the right one.
    """

    policy_id: str
    slot: str
    key_id: str
    state: State = "unknown"
    cause: str | None = None
    since: str | None = None
    last_ok: str | None = None
    last_error: str | None = None
    last_error_at: str | None = None
    seconds: float | None = None
    doubted: bool = False


class PolicyStatus(Struct, frozen=True, kw_only=True):
    """How a policy stands on this mount. Seconds count from now; a renewal overdue has 0."""

    policy_id: str
    health: Health
    revoked_on_host: bool
    leases: int
    valid_leases: int
    lease_seconds_left: int
    renewal_in_seconds: int
    failed_renewals: int
    roots: tuple[RootStatus, ...]


class RootHealth:
    """All root keys that a hierarchy has asked. May be used from any thread."""

    def __init__(self) -> None:
        self._roots: dict[tuple[str, str, str], RootStatus] = {}
        self._lock = threading.Lock()

    def note(self, answer: Answer) -> tuple[RootStatus, RootStatus]:
        """Take an answer in; return how the root stood before and how it stands now."""
        question, error = answer.question, answer.error
        now = timestamp()
        state: State = "refused"
        if error is None:
            state = "ok"
        elif isinstance(error, RootKeyUnavailable):
            state = "unavailable"
        elif isinstance(error, WrappedKeyInvalid):
            state = "wrong-key"
        with self._lock:
            before = self._of(question)
            cause = None if error is None else error.cause
            same = (before.state, before.cause) == (state, cause)
            after = replace(
                before,
                state=state,
                cause=cause,
                since=before.since if same else now,
                last_ok=now if error is None else before.last_ok,
                last_error=before.last_error if error is None else str(error),
                last_error_at=before.last_error_at if error is None else now,
                seconds=round(answer.seconds, 3),
                doubted=state == "wrong-key" or (before.doubted and error is not None),
            )
            self._roots[question.policy_id, question.slot, question.key_id] = after
        return before, after

    def of_policy(self, policy_id: str) -> tuple[RootStatus, ...]:
        """Return the roots of a policy, in the order of their slots."""
        with self._lock:
            found = [root for root in self._roots.values() if root.policy_id == policy_id]
        return tuple(sorted(found, key=lambda root: (root.slot, root.key_id)))

    def keep(self, policy_id: str, keys: Collection[tuple[str, str]]) -> None:
        """Forget the roots of a policy that it does not name any more, as (slot, key id)."""
        with self._lock:
            self._roots = {
                key: root
                for key, root in self._roots.items()
                if root.policy_id != policy_id or (root.slot, root.key_id) in keys
            }

    def rank(self, question: Question) -> int:
        """Say who is asked first: those that answered, and those that were never asked."""
        with self._lock:
            return int(self._of(question).state not in {"ok", "unknown"})

    def doubted(self, question: Question) -> bool:
        """Say whether the last thing that this root opened was the wrong key."""
        with self._lock:
            return self._of(question).doubted

    def _of(self, question: Question) -> RootStatus:
        known = self._roots.get((question.policy_id, question.slot, question.key_id))
        return known or RootStatus(
            policy_id=question.policy_id, slot=question.slot, key_id=question.key_id
        )


def health_of(roots: Collection[RootStatus], *, valid: bool) -> Health:
    """Say in one word how a policy stands."""
    if not valid:
        return "locked"
    bad = [root for root in roots if root.state not in {"ok", "unknown"}]
    if not bad:
        return "ok"
    return "unavailable" if len(bad) == len(roots) else "degraded"
