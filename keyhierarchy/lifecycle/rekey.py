"""Give a policy a new tenant intermediate key (TIK) under other roots, and its sites with it.

What register, restore, offboard and `roll tik` have in common. New wraps are proved by a real
unwrap before they are written and again when they were read back; old wraps go last. The roots of
the old TIK never wrap the new one, so a copy of the keystore made on the way gives them nothing.
"""

from __future__ import annotations

import secrets
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from keyhierarchy import wrapping
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import WrappedKeyInvalid
from keyhierarchy.lifecycle import changes
from keyhierarchy.policy import SERVICE_ALGORITHM, VAULT_ALGORITHM, Operation, Slot, TikWrap
from keyhierarchy.rootkey import RootKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyhierarchy.keystore import Section, SiteRecord
    from keyhierarchy.lifecycle.session import Session
    from keyhierarchy.policy import OperationVerb, PolicyState

_STEPS_FOR_SITES = 20  # a step rewrites the keystore, so its number must not grow with the sites


class NewRoot(NamedTuple):
    """A root key that shall wrap a TIK, in its slot."""

    slot: Slot
    root: RootKey


def prove(new: NewRoot, tik: bytes) -> TikWrap:
    """Wrap a TIK and open the wrap again; nothing is written."""
    wrapped = new.root.wrap(tik)
    wrap = TikWrap(
        slot=new.slot,
        key_id=new.root.key_id,
        algorithm=SERVICE_ALGORITHM if new.slot == "service" else VAULT_ALGORITHM,
        wrapped=wrapped,
        created=timestamp(),
    )
    require_opens(wrap, new.root, tik)
    return wrap


def require_opens(wrap: TikWrap, root: RootKey, tik: bytes) -> None:
    """Open a wrap for real and compare."""
    if not wrapping.same(root.unwrap(wrap.wrapped), tik):
        raise WrappedKeyInvalid(
            f"{wrap.key_id} does not open what it has wrapped; no old wrap was dropped; check the "
            "vault and the memory of this machine, then run: ckfs-keys resume",
            key_id=wrap.key_id,
        )


def begin(
    session: Session,
    verb: OperationVerb,
    running: PolicyState,
    after: PolicyState,
    roots: Sequence[NewRoot],
) -> None:
    """Make the new TIK under the new roots and write it. The session's keys must be open."""
    tik = secrets.token_bytes(wrapping.KEY_LENGTH)
    wraps = [prove(root, tik) for root in roots]
    now = timestamp()
    operation = Operation(
        verb=verb, started=now, after=after, key_ids=tuple(wrap.key_id for wrap in wraps)
    )
    number = session.section().policy.current_tik.generation

    def change(section: Section) -> Section:
        policy = changes.with_new_tik(section.policy, session.tik(number), tik, wraps, now)
        return replace(section, policy=changes.begun(policy, running, operation))

    session.commit("new-tik", change, tik=(number + 1, tik))


def carry_on(session: Session, *, fresh: bool) -> None:
    """Prove the new wraps, move the sites, drop the old wraps. Goes on from wherever it stands."""
    prove_new_wraps(session)
    move_sites(session, fresh=fresh)

    def last(section: Section) -> Section:
        policy = changes.only_successors(section.policy, timestamp())
        operation = policy.running
        state = policy.state if operation is None else operation.after
        return replace(section, policy=changes.finished(policy, state))

    session.commit("old-wraps-dropped", last)


def prove_new_wraps(session: Session) -> None:
    """Open every wrap that the running operation made, as it was read back from the disk."""
    policy = session.section().policy
    operation = policy.running
    wanted = operation.key_ids if operation else ()
    tik = session.tik(policy.current_tik.generation)
    for wrap in policy.current_tik.wraps:
        if wrap.key_id not in wanted:
            continue
        if wrap.slot == "availability":
            root: RootKey | None = session.rooms.availability(policy.id, wrap.key_id)
            session.record(
                "availability.use", "ok", key_id=wrap.key_id, reason="a new wrap is proved"
            )
        else:
            root = session.rooms.existing(policy, wrap)
        if root is None:
            raise WrappedKeyInvalid(
                f"this host has no way to {wrap.key_id}, so its wrap cannot be proved; "
                "run this where it was registered",
                key_id=wrap.key_id,
            )
        require_opens(wrap, root, tik)
    session.watch.step("new-wraps-proved")


def move_sites(session: Session, *, fresh: bool) -> None:
    """Put all keys of all sites under the current TIK, a part of the sites at each step."""
    section = session.section()
    batch = max(1, ceil(len(section.sites) / _STEPS_FOR_SITES))
    session.watch.progress(changes.share_moved(section))
    while any(not changes.is_moved(section.policy, site) for site in section.sites):

        def change(section: Section) -> Section:
            return replace(section, sites=_with_moved(session, section, batch, fresh=fresh))

        section = session.commit("sites-moved", change)
        session.watch.progress(changes.share_moved(section))


def _with_moved(
    session: Session, section: Section, batch: int, *, fresh: bool
) -> tuple[SiteRecord, ...]:
    policy = section.policy
    due = [site for site in section.sites if not changes.is_moved(policy, site)][:batch]
    tiks = {
        key.tik_generation: session.tik(key.tik_generation)
        for site in due
        for key in site.site_keys
    }
    tiks[policy.current_tik.generation] = session.tik(policy.current_tik.generation)
    new = {site.site_id: changes.moved_site(site, tiks, policy, fresh=fresh) for site in due}
    return tuple(new.get(site.site_id, site) for site in section.sites)
