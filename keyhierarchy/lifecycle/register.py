"""Register: from the service-managed root to two customer keys and an availability key.

Restore is the same after both vaults were lost: the availability key opens the old TIK. Offboard is
the way back to the service-managed root. All three are a new TIK under other roots (rekey.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyhierarchy.lifecycle import rekey, validation, verbs
from keyhierarchy.lifecycle.rekey import NewRoot
from keyhierarchy.lifecycle.session import Watch
from keyhierarchy.policy import PolicyState
from keyhierarchy.transitions import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyhierarchy.lifecycle.outcome import Outcome
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Session, Store
    from keyhierarchy.lifecycle.verbs import Run
    from keyhierarchy.policy import DataEncryptionPolicy, TikWrap
    from keyhierarchy.rootkey import RootKey

_STEPS = (
    "make a new tenant intermediate key, wrapped by primary, secondary and a new availability key",
    "open each of the three wraps for real",
    "give every site a new site key under it, and wrap the older ones under it",
    "drop every wrap of the old tenant intermediate key by its old root keys",
)
_OFFBOARD_STEPS = (
    "make a new tenant intermediate key, wrapped by the service-managed root",
    "open that wrap for real",
    *_STEPS[2:],
)


def register(
    store: Store,
    rooms: Rooms,
    *,
    primary: str | None,
    secondary: str | None,
    policy: str | None = None,
    accept: Sequence[str] = (),
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Put a policy under two customer keys. Goes on with a registration that was cut short."""
    watch = watch or Watch()
    with verbs.run(store, rooms, policy, Verb.REGISTER, watch) as run:
        run.require_same(key_ids=validation.exact(primary, secondary))
        roots = _new_pair(run, rooms, primary, secondary, accept)
        run.session.open()
        if dry_run:
            return run.would(*_STEPS)
        with run.session.recorded("policy.register", _told(primary, secondary, accept)):
            if not run.move.resumes:
                _begin(run, rooms, roots, PolicyState.Registering)
            rekey.carry_on(run.session, fresh=True)
        return run.done(*_STEPS)


def restore(
    store: Store,
    rooms: Rooms,
    *,
    primary: str | None,
    secondary: str | None,
    reason: str,
    policy: str | None = None,
    accept: Sequence[str] = (),
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Give a policy two new customer keys when both old ones are lost, by its availability key."""
    watch = watch or Watch()
    with verbs.run(store, rooms, policy, Verb.RESTORE, watch) as run:
        if run.move.resumes:
            run.require_same(key_ids=validation.exact(primary, secondary))
        roots = _new_pair(run, rooms, primary, secondary, accept)
        if dry_run:
            return run.would("open the tenant intermediate key by the availability key", *_STEPS)
        with run.session.recorded(
            "policy.restore", f"{reason}; {_told(primary, secondary, accept)}"
        ):
            if run.move.resumes:
                run.session.open()
            else:
                run.session.open(_Availability(run.session, rooms, reason))
                _begin(run, rooms, roots, PolicyState.Recovering)
            rekey.carry_on(run.session, fresh=True)
        return run.done("open the tenant intermediate key by the availability key", *_STEPS)


def offboard(
    store: Store,
    rooms: Rooms,
    *,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Put a policy back under the service-managed root. One of its customer keys must work."""
    watch = watch or Watch()
    with verbs.run(store, rooms, policy, Verb.OFFBOARD, watch) as run:
        run.session.open()
        if dry_run:
            return run.would(*_OFFBOARD_STEPS)
        with run.session.recorded("policy.offboard"):
            if not run.move.resumes:
                rekey.begin(
                    run.session,
                    "offboard",
                    PolicyState.Offboarding,
                    PolicyState.Unregistered,
                    [NewRoot("service", rooms.service(run.policy.id))],
                )
            rekey.carry_on(run.session, fresh=True)
        return run.done(*_OFFBOARD_STEPS)


class _Availability:
    """A source of root keys that asks the availability key, and no vault: both are lost."""

    def __init__(self, session: Session, rooms: Rooms, reason: str) -> None:
        self._session = session
        self._rooms = rooms
        self._reason = reason

    def __call__(self, policy: DataEncryptionPolicy, wrap: TikWrap) -> RootKey | None:
        if wrap.slot == "availability":
            self._session.record(
                "availability.use", "ok", key_id=wrap.key_id, reason=f"restore: {self._reason}"
            )
            return self._rooms.availability(policy.id, wrap.key_id)
        return self._rooms.existing(policy, wrap) if wrap.slot == "service" else None


def _new_pair(
    run: Run,
    rooms: Rooms,
    primary: str | None,
    secondary: str | None,
    accept: Sequence[str],
) -> list[NewRoot]:
    """Return the two new roots, validated; none where the verb goes on and has made its wraps."""
    if run.move.resumes:
        return []
    keystore = run.session.load()
    pair = validation.require_pair(primary, secondary)
    findings = validation.validate(rooms, run.policy, pair, keystore)
    run.facts["validation"] = [finding.told() for finding in findings]
    validation.require_passed(findings, accept)
    return [
        NewRoot("primary", rooms.vault(run.policy.id, pair["primary"])),
        NewRoot("secondary", rooms.vault(run.policy.id, pair["secondary"])),
    ]


def _begin(run: Run, rooms: Rooms, pair: list[NewRoot], running: PolicyState) -> None:
    for new in pair:
        rooms.allow(run.policy.id, new.slot, new.root.key_id)
    availability = rooms.new_availability(run.policy.id)
    run.session.record("availability.create", "ok", key_id=availability.key_id)
    rekey.begin(
        run.session,
        "restore" if run.verb is Verb.RESTORE else "register",
        running,
        PolicyState.Registered,
        [*pair, NewRoot("availability", availability)],
    )


def _told(primary: str | None, secondary: str | None, accept: Sequence[str]) -> str:
    accepted = f"; accepted though failed: {', '.join(accept)}" if accept else ""
    return f"primary {primary}, secondary {secondary}{accepted}" if primary else "goes on"
