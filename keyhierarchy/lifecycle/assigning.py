"""Make a policy, and move a site from one policy to another.

A new policy is service-managed and has no sites. A site that moves gets a new site key under its
new policy; both sections change in one write, so it is never in none or in two.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import opening, wrapping
from keyhierarchy.audit import AuditLog
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import TransitionRefused
from keyhierarchy.keystore import Section
from keyhierarchy.lifecycle import changes, rekey
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.lifecycle.outcome import Outcome
from keyhierarchy.lifecycle.rekey import NewRoot
from keyhierarchy.lifecycle.rolling import find_site
from keyhierarchy.lifecycle.session import Session, Watch
from keyhierarchy.policy import PolicyName, PolicyState, default_policy
from keyhierarchy.transitions import Verb, move

if TYPE_CHECKING:
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Store

_STEPS = (
    "give the site a new site key under its new policy",
    "wrap its older site keys under the new policy, for the files that name them",
    "take it out of its old policy, in the same write",
)


def create_policy(
    store: Store, rooms: Rooms, name: str, *, dry_run: bool = False, watch: Watch | None = None
) -> Outcome:
    """Make a service-managed policy without sites. Run again, it finishes what was cut short."""
    watch = watch or Watch()
    with sessions.one_verb(store), keystores.exclusive(store.control_folder, wait=True):
        keystore = sessions.load(store)
        anchor_file = anchors.AnchorFile(store.folder)
        known = sessions.require_known(anchor_file.load(), store)
        found = next((s for s in keystore.sections if s.policy.name == name), None)
        if found is not None and known.pin(found.policy.id) is not None:
            raise TransitionRefused(f"the store has a policy {name!r} already: {found.policy.id}")
        policy_id = found.policy.id if found else secrets.token_hex(wrapping.ID_LENGTH)
        outcome = Outcome(
            verb="create",
            policy=name,
            policy_id=policy_id,
            state_before="",
            state_after=PolicyState.Unregistered.name,
            steps=["make a service-managed policy without sites"],
            dry_run=dry_run,
            resumed=found is not None,
        )
        _check_name(name)
        if dry_run:
            return outcome
        audit = AuditLog(store.folder, store.store_id)
        if found is None:
            root = rooms.service(policy_id)
            audit.append("policy.create", "started", policy_id=policy_id, key_id=root.key_id)
            found, keystore = _with_policy(
                store, keystore, NewRoot("service", root), policy_id, name
            )
            sessions.write(store, keystore)
            watch.step("policy-written")
        # A policy that this host does not know is trusted only when its own service-managed root
        # opens it, whose wraps nobody without the master key can make.
        opening.open_section(
            found, None, store_id=store.store_id, roots=rooms.existing, place=store.place
        )
        pin = anchors.pin_of(found)
        anchor_file.change(lambda now: anchors.advance(sessions.require_known(now, store), pin))
        audit.append("policy.create", "ok", policy_id=policy_id)
        return outcome


def assign(
    store: Store,
    rooms: Rooms,
    site_id: str,
    policy: str,
    *,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Move a site to another policy."""
    watch = watch or Watch()
    with sessions.one_verb(store):
        keystore = sessions.load(store)
        source, site = find_site(keystore, site_id)
        target = sessions.find_policy(keystore, policy)
        if source.policy.id == target.policy.id:
            raise TransitionRefused(
                f"site {site.site_id} is in policy {target.policy.named} already"
            )
        for section in (source, target):
            move(section.state, Verb.ASSIGN, named=section.policy.named)
        from_session = Session(store, rooms, source.policy.id, watch)
        to_session = Session(store, rooms, target.policy.id, watch)
        from_session.open()
        to_session.open()
        outcome = Outcome(
            verb=Verb.ASSIGN,
            policy=target.policy.name,
            policy_id=target.policy.id,
            state_before=source.state.name,
            state_after=target.state.name,
            steps=list(_STEPS),
            dry_run=dry_run,
            facts={"site_id": site.site_id, "from_policy": source.policy.id},
        )
        if dry_run:
            return outcome
        reason = f"site {site.site_id} from policy {source.policy.id}"
        with to_session.recorded("policy.assign", reason):
            _move(store, from_session, to_session, site.site_id)
            watch.step("site-assigned")
        return outcome


def _move(store: Store, from_session: Session, to_session: Session, site_id: str) -> None:
    with keystores.exclusive(store.control_folder, wait=True):
        keystore = sessions.load(store)
        source, site = keystore.find_site(bytes.fromhex(site_id))
        target = sessions.section_of(keystore, to_session.policy_id)
        from_session.require_current(source)
        to_session.require_current(target)
        tiks = {key.tik_generation: from_session.tik(key.tik_generation) for key in site.site_keys}
        number = target.policy.current_tik.generation
        moved = changes.moved_site(
            site,
            tiks,
            target.policy,
            from_policy=source.policy.id,
            target=(number, to_session.tik(number)),
            fresh=True,
        )
        left = tuple(one for one in source.sites if one.site_id != site_id)
        generation = keystore.generation + 1
        sealed = [
            keystores.sealed(
                replace(section, sites=sites, sealed_generation=generation),
                session.tik(section.policy.current_tik.generation),
                store_id=store.store_id,
            )
            for section, session, sites in (
                (source, from_session, left),
                (target, to_session, (*target.sites, moved)),
            )
        ]
        sessions.write(store, sessions.with_sections(keystore, *sealed))
    for section, session in zip(sealed, (from_session, to_session), strict=True):
        session.pin(section)


def _with_policy(
    store: Store, keystore: keystores.Keystore, new: NewRoot, policy_id: str, name: str
) -> tuple[Section, keystores.Keystore]:
    tik = secrets.token_bytes(wrapping.KEY_LENGTH)
    fingerprint = wrapping.tik_fingerprint(tik, policy_id=bytes.fromhex(policy_id), generation=1)
    policy = replace(
        default_policy(
            policy_id,
            created=timestamp(),
            fingerprint=fingerprint,
            wrap=rekey.prove(new, tik),
        ),
        name=name,
    )
    section = keystores.sealed(
        Section(sealed_generation=keystore.generation + 1, policy=policy, sites=()),
        tik,
        store_id=store.store_id,
    )
    return section, sessions.with_sections(keystore, section)


def _check_name(name: str) -> None:
    try:
        msgspec.convert(name, PolicyName)
    except msgspec.ValidationError as error:
        raise TransitionRefused(
            f"{name!r} is no name for a policy: letters, digits, dots, hyphens and underscores, "
            "at most 64, no spaces"
        ) from error
