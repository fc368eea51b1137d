"""Revoke and grant: close a policy at once, without its keys, and open it again.

Closes this host's mounts first; then a mark in the keystore closes other hosts at their next
renewal. Both only take away, so neither needs a key. The vault is where access really ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from keyhierarchy import keystore as keystores
from keyhierarchy.clock import timestamp
from keyhierarchy.keystore import Mark
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.lifecycle import verbs
from keyhierarchy.lifecycle.session import Watch
from keyhierarchy.policy import PolicyState
from keyhierarchy.transitions import Verb

if TYPE_CHECKING:
    from keyhierarchy.lifecycle.outcome import Outcome
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Session, Store

_CLOSE = (
    "close the policy on this host: its mounts stop within a second",
    "mark it revoked in the keystore: other hosts stop at their next renewal",
)
_OPEN = ("take the mark out of the keystore", "open the policy on this host again")


def revoke(
    store: Store,
    rooms: Rooms,
    *,
    reason: str,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Close a policy. May be called again."""
    with verbs.run(store, rooms, policy, Verb.REVOKE, watch or Watch()) as run:
        if dry_run:
            return run.would(*_CLOSE)
        with run.session.recorded("policy.revoke", reason):
            rooms.revoke_here(run.policy.id, reason)
            run.session.watch.step("closed-here")
            put_mark(run.session, PolicyState.Revoked)
        return run.done(*_CLOSE)


def undo_revoke(
    store: Store,
    rooms: Rooms,
    *,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Open a revoked policy again; it goes on in the state that it had."""
    with verbs.run(store, rooms, policy, Verb.UNDO_REVOKE, watch or Watch()) as run:
        if dry_run:
            return run.would(*_OPEN)
        with run.session.recorded("policy.grant"):
            take_mark(run.session)
            rooms.grant_here(run.policy.id)
        return run.done(*_OPEN)


def put_mark(session: Session, state: PolicyState) -> None:
    """Mark a policy in the keystore; an older mark gives way. Needs no key."""
    _mark(session, Mark(state=state, since=timestamp()))
    session.watch.step("marked")


def take_mark(session: Session) -> None:
    """Take the mark of a policy away."""
    _mark(session, None)
    session.watch.step("unmarked")


def _mark(session: Session, mark: Mark | None) -> None:
    store = session.store
    with keystores.exclusive(store.control_folder, wait=True):
        keystore = sessions.load(store)
        section = sessions.section_of(keystore, session.policy_id)
        changed = replace(section, mark=UNSET if mark is None else mark)
        sessions.write(store, sessions.with_sections(keystore, changed))
