"""The probe: ask every customer root key of the policies in use, all at once, once a minute.

Asks with the real wrap of the current tenant intermediate key (TIK), because a test value would not
show that this key still opens it. Says what was answered; what follows from it is hierarchy.py's.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from keyhierarchy.customerkeys import CUSTOMER_SLOTS
from keyhierarchy.errors import KeyHierarchyError
from keyhierarchy.hedging import trouble_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from keyhierarchy.hedging import Answer, Question
    from keyhierarchy.openpolicies import OpenPolicies

_JITTER = (0.9, 1.0)  # downwards, because the interval is promised
_jitter = random.SystemRandom()


class Prober:
    """When the next probe is due, and what the last one found."""

    def __init__(self, policies: OpenPolicies, interval_seconds: float) -> None:
        self.due = 0.0
        self._policies = policies
        self._interval_seconds = interval_seconds
        self._changed: set[str] = set()

    def probed(self, now: float) -> None:
        """Plan the next probe."""
        self.due = now + self._interval_seconds * _jitter.uniform(*_JITTER)

    def changed(self, policy_id: str) -> bool:
        """Tell whether the record of a policy was a new one at the last probe."""
        return policy_id in self._changed

    def probe(
        self, policy_ids: Collection[str], troubles: list[KeyHierarchyError]
    ) -> dict[str, KeyHierarchyError | None]:
        """Return for each policy with customer keys None where a root key opens it, else why not.

        What has nothing to do with one policy goes to `troubles`.
        """
        outcomes: dict[str, KeyHierarchyError | None] = {}
        asked: list[Question] = []
        try:
            sections = self._policies.read().sections
        except KeyHierarchyError as error:
            troubles.append(error.again())
            return outcomes
        self._changed = set()
        for section in sections:
            policy = section.policy
            slots = {wrap.slot for wrap in policy.current_tik.wraps}
            if policy.id not in policy_ids:
                continue
            if self._policies.changed(section):
                self._changed.add(policy.id)
            if slots.isdisjoint(CUSTOMER_SLOTS):
                if policy.id in self._changed:
                    outcomes[policy.id] = None
                continue
            try:
                asked += self._policies.questions(section)
            except KeyHierarchyError as error:
                outcomes[policy.id] = error.again()
        heard: dict[str, list[Answer]] = {}
        for answer in self._policies.ask(asked):
            heard.setdefault(answer.question.policy_id, []).append(answer)
        for policy_id, answers in heard.items():
            opens = any(answer.error is None for answer in answers)
            outcomes[policy_id] = None if opens else trouble_of(answers)
        return outcomes
