"""What a verb hands back: where the policy was, where it is, and what was done or would be."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of one verb, for people and, as JSON, for programs."""

    verb: str
    policy: str
    policy_id: str
    state_before: str
    state_after: str
    steps: list[str]
    dry_run: bool = False
    resumed: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
