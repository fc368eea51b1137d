"""Which verb a data encryption policy allows in which state, as one table. PURE.

Every pair of a state and a verb either moves, goes on with what was cut short, or is refused with
a reason. The same table stands in HIERARCHY.md section 8, and a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from keyhierarchy.errors import TransitionRefused
from keyhierarchy.policy import PolicyState


class Verb(StrEnum):
    """What an administrator can ask of a policy; reading verbs are allowed in every state."""

    REGISTER = "register"
    ROLL_ROOT = "roll-root"
    ROLL_TIK = "roll-tik"
    ROLL_SITE_KEY = "roll-site-key"
    ASSIGN = "assign"
    RESTORE = "restore"
    REVOKE = "revoke"
    UNDO_REVOKE = "undo-revoke"
    OFFBOARD = "offboard"
    PURGE_REQUEST = "purge-request"
    PURGE_APPROVE = "purge-approve"
    PURGE_EXECUTE = "purge-execute"
    PURGE_CANCEL = "purge-cancel"


class Move(NamedTuple):
    """The verb is allowed: the state while it runs, and the one that it ends in.

    `after` is None where the verb leads back to what was before, or goes on to what it began.
    """

    running: PolicyState
    after: PolicyState | None
    resumes: bool = False

    def __str__(self) -> str:
        if self.resumes:
            return "goes on"
        after = "the state before" if self.after is None else self.after.name
        return after if self.running == self.after else f"{self.running.name}, {after}"


# Each refusal says what is so and what to do next; the letter names it in the table.
REFUSALS = {
    "a": "it has customer keys already: change one with roll, or give them up with offboard",
    "b": "another change of it is not finished: finish that with ckfs-keys resume",
    "c": "it is revoked: give access back with ckfs-keys revoke --undo",
    "d": "its purge was requested: withdraw that with ckfs-keys purge cancel, or let it run",
    "e": "its keys are destroyed, and nothing can be done with them any more",
    "f": "it has no customer keys: give it two with ckfs-keys policy register",
    "g": "it is not revoked",
    "h": "it is service-managed already",
    "i": "its service-managed root opens every copy of the keystore, so a purge would destroy "
    "nothing: register customer keys, or delete the store and the master keys",
    "j": "its purge was requested already: see ckfs-keys purge show",
    "k": "no purge of it was requested",
}

_UNREGISTERED = PolicyState.Unregistered
_REGISTERED = PolicyState.Registered
_ROLLING = PolicyState.Rolling
_REVOKED = PolicyState.Revoked
_REQUESTED = PolicyState.PurgeRequested
_PURGED = PolicyState.Purged
_RESTORE = Move(PolicyState.Recovering, _REGISTERED)
_REVOKE = Move(_REVOKED, _REVOKED)
_BACK = None


def _on(state: PolicyState) -> Move:
    return Move(state, None, resumes=True)


_ROLL_ON = _on(_ROLLING)
_ROLL = Move(_ROLLING, _REGISTERED)
_ROLL_SERVICE = Move(_ROLLING, _UNREGISTERED)

# In the order of the states' numbers: Unregistered, Registering, Registered, Rolling, Recovering,
# Revoked, Offboarding, PurgeRequested, Purged.
_ROWS: dict[Verb, tuple[Move | str, ...]] = {
    Verb.REGISTER: (
        Move(PolicyState.Registering, _REGISTERED),
        _on(PolicyState.Registering),
        *"abbcbde",
    ),
    Verb.ROLL_ROOT: (*"fb", _ROLL, _ROLL_ON, *"bcbde"),
    Verb.ROLL_TIK: (_ROLL_SERVICE, "b", _ROLL, _ROLL_ON, *"bcbde"),
    Verb.ROLL_SITE_KEY: (_ROLL_SERVICE, "b", _ROLL, _ROLL_ON, *"bcbde"),
    Verb.ASSIGN: (
        Move(_UNREGISTERED, _UNREGISTERED),
        "b",
        Move(_REGISTERED, _REGISTERED),
        *"bbcbde",
    ),
    Verb.RESTORE: (
        "f",
        _RESTORE,  # what was cut short may be waiting for the very vaults that were lost
        _RESTORE,
        _RESTORE,
        _on(PolicyState.Recovering),
        "c",
        _RESTORE,
        *"de",
    ),
    Verb.REVOKE: (_REVOKE, _REVOKE, _REVOKE, _REVOKE, _REVOKE, _on(_REVOKED), _REVOKE, *"de"),
    Verb.UNDO_REVOKE: (*"ggggg", Move(_REVOKED, _BACK), *"gde"),
    Verb.OFFBOARD: (
        *"hb",
        Move(PolicyState.Offboarding, _UNREGISTERED),
        *"bbc",
        _on(PolicyState.Offboarding),
        *"de",
    ),
    Verb.PURGE_REQUEST: (
        *"ib",
        Move(_REQUESTED, _REQUESTED),
        *"bb",
        Move(_REQUESTED, _REQUESTED),
        *"bje",
    ),
    Verb.PURGE_APPROVE: (*"kkkkkkk", Move(_REQUESTED, _REQUESTED), "e"),
    Verb.PURGE_EXECUTE: (*"kkkkkkk", Move(_REQUESTED, _PURGED), _on(_PURGED)),
    Verb.PURGE_CANCEL: (*"kkkkkkk", Move(_REQUESTED, _BACK), "e"),
}

TABLE: dict[tuple[PolicyState, Verb], Move | str] = {
    (state, verb): cell
    for verb, row in _ROWS.items()
    for state, cell in zip(PolicyState, row, strict=True)
}


def move(state: PolicyState, verb: Verb, *, named: str) -> Move:
    """Return where the verb leads from this state; TransitionRefused with the reason.

    `named` is the policy's name and id for the error's text.
    """
    cell = TABLE[state, verb]
    if isinstance(cell, Move):
        return cell
    raise TransitionRefused(
        f"{verb.replace('-', ' ')} is refused for policy {named} in state {state.name}: "
        f"{REFUSALS[cell]}; nothing was changed"
    )
