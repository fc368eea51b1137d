"""Roll one key: a root key in its slot, the tenant intermediate key (TIK), or a site key.

Rolling a root rewraps the current TIK: two writes of the keystore, whatever the number of sites and
files. No file is touched by any roll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from keyhierarchy.clock import timestamp
from keyhierarchy.errors import RootKeyMissing, TransitionRefused
from keyhierarchy.lifecycle import changes, rekey, validation, verbs
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.lifecycle.rekey import NewRoot
from keyhierarchy.lifecycle.session import Watch
from keyhierarchy.policy import Operation, PolicyState, with_added_wrap
from keyhierarchy.transitions import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyhierarchy.keystore import Keystore, Section, SiteRecord
    from keyhierarchy.lifecycle.outcome import Outcome
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Store
    from keyhierarchy.lifecycle.verbs import Run
    from keyhierarchy.policy import TikWrap

RootSlot = Literal["primary", "secondary", "availability"]
_ROOT_STEPS = (
    "wrap the tenant intermediate key under the new key, beside the old wrap",
    "open the new wrap for real",
    "drop the old wrap; keep the old key version as long as keys usage says that it is needed",
)
_TIK_STEPS = (
    "make a new tenant intermediate key under the same root keys",
    "open each new wrap for real",
    "wrap every site key under it",
    "drop every root's wrap of the old one",
)
_SITE_STEPS = ("make a new site key for new files; older ones stay for the files that name them",)


def roll_root(
    store: Store,
    rooms: Rooms,
    slot: RootSlot,
    *,
    key_id: str | None = None,
    policy: str | None = None,
    accept: Sequence[str] = (),
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Put another key, or another version, into one slot. `key_id` is None for availability."""
    with verbs.run(store, rooms, policy, Verb.ROLL_ROOT, watch or Watch()) as run:
        (key_id,) = validation.exact(key_id)
        run.require_same(slot, (key_id,))
        if not run.move.resumes and slot != "availability":
            _validate(run, rooms, slot, key_id, accept)
        run.session.open()
        if dry_run:
            return run.would(*_ROOT_STEPS)
        accepted = f"; accepted though failed: {', '.join(accept)}" if accept else ""
        with run.session.recorded("policy.roll", f"{slot} {key_id or ''}".strip() + accepted):
            if not run.move.resumes:
                if slot == "availability":
                    root = rooms.new_availability(run.policy.id)
                    run.session.record("availability.create", "ok", key_id=root.key_id)
                else:
                    root = rooms.vault(run.policy.id, key_id or "")
                    rooms.allow(run.policy.id, slot, root.key_id)
                _add_wrap(run, NewRoot(slot, root))
            rekey.prove_new_wraps(run.session)
            run.session.commit("old-wrap-dropped", _without_old)
        return run.done(*_ROOT_STEPS)


def roll_tik(
    store: Store,
    rooms: Rooms,
    *,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Make a new TIK under the same roots and wrap all site keys under it."""
    with verbs.run(store, rooms, policy, Verb.ROLL_TIK, watch or Watch()) as run:
        run.require_same()
        run.session.open()
        if dry_run:
            return run.would(*_TIK_STEPS)
        with run.session.recorded("policy.roll", "tenant intermediate key"):
            if not run.move.resumes:
                roots = [_same_root(run, rooms, wrap) for wrap in run.policy.current_tik.wraps]
                rekey.begin(run.session, "roll-tik", PolicyState.Rolling, run.after, roots)
            rekey.carry_on(run.session, fresh=False)
        return run.done(*_TIK_STEPS)


def roll_site_key(
    store: Store,
    rooms: Rooms,
    site_id: str,
    *,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Make a new site key for one site; files that are written anew use it."""
    section, _ = find_site(sessions.load(store), site_id)
    with verbs.run(store, rooms, section.policy.id, Verb.ROLL_SITE_KEY, watch or Watch()) as run:
        run.require_same(site_id)
        run.session.open()
        if dry_run:
            return run.would(*_SITE_STEPS)
        with run.session.recorded("policy.roll", f"site key of site {site_id}"):
            if not run.move.resumes:
                operation = Operation(
                    verb="roll-site-key",
                    started=timestamp(),
                    after=run.after,
                    target=site_id,
                )
                run.session.commit(
                    "begun", lambda section: _begun(section, PolicyState.Rolling, operation)
                )
            run.session.commit("site-key-made", lambda section: _with_site_key(run, section))
        return run.done(*_SITE_STEPS)


def find_site(keystore: Keystore, site_id: str) -> tuple[Section, SiteRecord]:
    """Find a site by its id, or by the beginning of it that fits no other."""
    found = [
        (section, site)
        for section in keystore.sections
        for site in section.sites
        if site_id and site.site_id.startswith(site_id.lower())
    ]
    if len(found) != 1:
        many = "several sites begin" if found else "no site begins"
        raise TransitionRefused(f"{many} with {site_id!r}; see: ckfs-keys policy show STORE")
    return found[0]


def _validate(
    run: Run, rooms: Rooms, slot: RootSlot, key_id: str | None, accept: Sequence[str]
) -> None:
    if key_id is None:
        raise TransitionRefused(f"roll {slot} needs the id of the new key, with its version")
    wraps = run.policy.current_tik.wraps
    if any(wrap.key_id == key_id for wrap in wraps):
        raise TransitionRefused(
            f"{key_id} protects policy {run.policy.named} already; make a new version in the vault "
            "first; nothing was changed",
            key_id=key_id,
            policy_id=run.policy.id,
        )
    other = "secondary" if slot == "primary" else "primary"
    pair: dict[str, str] = {slot: key_id}
    pair |= {wrap.slot: wrap.key_id for wrap in wraps if wrap.slot == other}
    findings = validation.validate(rooms, run.policy, pair, run.session.load(), only=slot)
    run.facts["validation"] = [finding.told() for finding in findings]
    validation.require_passed(findings, accept)


def _add_wrap(run: Run, new: NewRoot) -> None:
    session = run.session
    number = run.policy.current_tik.generation
    wrap = rekey.prove(new, session.tik(number))
    operation = Operation(
        verb="roll-root",
        started=timestamp(),
        after=PolicyState.Registered,
        target=new.slot,
        key_ids=(wrap.key_id,),
    )

    def change(section: Section) -> Section:
        policy = with_added_wrap(section.policy, number, wrap)
        return _begun(replace(section, policy=policy), PolicyState.Rolling, operation)

    session.commit("new-wrap", change)


def _without_old(section: Section) -> Section:
    policy = section.policy
    operation = policy.running
    if operation is not None:
        policy = changes.without_old_root(
            policy, operation.target, operation.key_ids[0], timestamp()
        )
        policy = changes.finished(policy, operation.after)
    return replace(section, policy=policy)


def _begun(section: Section, state: PolicyState, operation: Operation) -> Section:
    return replace(section, policy=changes.begun(section.policy, state, operation))


def _with_site_key(run: Run, section: Section) -> Section:
    policy = section.policy
    operation = policy.running
    if operation is None:
        return section
    number = policy.current_tik.generation
    tiks = {number: run.session.tik(number)}
    sites = tuple(
        changes.moved_site(site, tiks, policy, fresh=True)
        if site.site_id == operation.target
        else site
        for site in section.sites
    )
    return replace(section, sites=sites, policy=changes.finished(policy, operation.after))


def _same_root(run: Run, rooms: Rooms, wrap: TikWrap) -> NewRoot:
    """Return the root of a wrap for the wrap of the new TIK."""
    if wrap.slot == "availability":
        return NewRoot(wrap.slot, rooms.availability(run.policy.id, wrap.key_id))
    if wrap.slot == "service":
        return NewRoot(wrap.slot, rooms.service(run.policy.id))
    root = rooms.existing(run.policy, wrap)
    if root is None:
        raise RootKeyMissing(
            f"this host has no way to {wrap.key_id}; run this where it was registered",
            key_id=wrap.key_id,
        )
    return NewRoot(wrap.slot, root)
