"""Go on with whatever was cut short: one door for every verb that runs in steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from keyhierarchy.lifecycle import register, rolling
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.lifecycle.session import Watch

if TYPE_CHECKING:
    from keyhierarchy.lifecycle.outcome import Outcome
    from keyhierarchy.lifecycle.rolling import RootSlot
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Store
    from keyhierarchy.policy import Operation


def resume(
    store: Store,
    rooms: Rooms,
    *,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Finish the change of one policy, or of all; an empty list where nothing was cut short."""
    keystore = sessions.load(store)
    sections = keystore.sections if policy is None else [sessions.find_policy(keystore, policy)]
    return [
        _go_on(store, rooms, section.policy.id, section.policy.running, dry_run, watch or Watch())
        for section in sections
        if section.policy.running is not None
    ]


def _go_on(
    store: Store, rooms: Rooms, policy_id: str, begun: Operation, dry_run: bool, watch: Watch
) -> Outcome:
    match begun.verb:
        case "register":
            return register.register(
                store,
                rooms,
                primary=None,
                secondary=None,
                policy=policy_id,
                dry_run=dry_run,
                watch=watch,
            )
        case "restore":
            return register.restore(
                store,
                rooms,
                primary=None,
                secondary=None,
                reason="resumed",
                policy=policy_id,
                dry_run=dry_run,
                watch=watch,
            )
        case "offboard":
            return register.offboard(store, rooms, policy=policy_id, dry_run=dry_run, watch=watch)
        case "roll-root":
            slot = cast("RootSlot", begun.target)
            return rolling.roll_root(
                store, rooms, slot, policy=policy_id, dry_run=dry_run, watch=watch
            )
        case "roll-tik":
            return rolling.roll_tik(store, rooms, policy=policy_id, dry_run=dry_run, watch=watch)
        case "roll-site-key":
            return rolling.roll_site_key(store, rooms, begun.target, dry_run=dry_run, watch=watch)
