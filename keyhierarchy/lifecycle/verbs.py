"""What the verbs that change keys have in common: lock, table, dry run, audit, outcome.

A verb hands over what it checks and what it does; this module knows the order. Knows no root key.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keyhierarchy.errors import TransitionRefused
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.lifecycle.outcome import Outcome
from keyhierarchy.transitions import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyhierarchy.keystore import Section
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Session, Store, Watch
    from keyhierarchy.policy import DataEncryptionPolicy, PolicyState
    from keyhierarchy.transitions import Move, Verb


class Run:
    """One verb on one policy, from the check of its state to its outcome."""

    def __init__(self, session: Session, verb: Verb, section: Section, move: Move) -> None:
        self.session = session
        self.verb = verb
        self.section = section
        self.move = move
        self.facts: dict[str, Any] = {}

    @property
    def policy(self) -> DataEncryptionPolicy:
        """The policy as it was when the verb began."""
        return self.section.policy

    @property
    def after(self) -> PolicyState:
        """The state in which the verb ends; the present one where it leads back."""
        return self.section.state if self.move.after is None else self.move.after

    def require_same(self, target: str = "", key_ids: Sequence[str | None] = ()) -> None:
        """Refuse to go on with something else than what was begun. None stands for "whatever"."""
        operation = self.policy.running
        if operation is None:
            return
        others = [one for one in key_ids if one is not None and one not in operation.key_ids]
        if operation.verb != self.verb or (target and operation.target != target) or others:
            begun = f"{operation.verb} {operation.target}".strip()
            raise TransitionRefused(
                f"{self.verb} is refused for policy {self.policy.named}: {begun} was begun at "
                f"{operation.started} with {', '.join(operation.key_ids) or 'no new root key'}; "
                f"{REFUSALS['b']}",
                policy_id=self.policy.id,
            )

    def would(self, *steps: str) -> Outcome:
        """Tell what the verb would do; nothing was changed."""
        return Outcome(
            verb=self.verb,
            policy=self.policy.name,
            policy_id=self.policy.id,
            state_before=self.section.state.name,
            state_after=self.after.name,
            steps=list(steps),
            dry_run=True,
            resumed=self.move.resumes,
            facts=self.facts,
        )

    def done(self, *steps: str) -> Outcome:
        """Tell what the verb has done."""
        return Outcome(
            verb=self.verb,
            policy=self.policy.name,
            policy_id=self.policy.id,
            state_before=self.section.state.name,
            state_after=self.session.section().state.name,
            steps=list(steps),
            resumed=self.move.resumes,
            facts=self.facts,
        )


@contextmanager
def run(store: Store, rooms: Rooms, policy: str | None, verb: Verb, watch: Watch) -> Iterator[Run]:
    """Hold the store's verb lock and check that the policy's state allows the verb."""
    with sessions.one_verb(store):
        found = sessions.find_policy(sessions.load(store), policy)
        session = sessions.Session(store, rooms, found.policy.id, watch)
        section, move = session.allow(verb)
        yield Run(session, verb, section, move)
