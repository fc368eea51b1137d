"""Purge: destroy every wrap of a policy's keys, for good, after a request, a second person, a wait.

The request lies with this host, because by then no vault may open the keys that would seal it. The
execution is refused while a root still opens the keys, and it claims that nothing survives only
where every root key that could open a copy of the keystore is gone.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import durable
from keyhierarchy import keystore as keystores
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import (
    KeyHierarchyError,
    PurgeIncomplete,
    RootKeyMissing,
    RootKeyRefused,
    TransitionRefused,
)
from keyhierarchy.lifecycle import marks, survival, verbs
from keyhierarchy.lifecycle import session as sessions
from keyhierarchy.lifecycle.purgerecord import PurgeRequest, account, load, remove, save
from keyhierarchy.lifecycle.session import Watch
from keyhierarchy.policy import PolicyState
from keyhierarchy.transitions import Verb

if TYPE_CHECKING:
    from keyhierarchy.keystore import Section
    from keyhierarchy.lifecycle.outcome import Outcome
    from keyhierarchy.lifecycle.rooms import Rooms
    from keyhierarchy.lifecycle.session import Session, Store
    from keyhierarchy.lifecycle.verbs import Run

_ZERO = bytes(48)


def request(
    store: Store,
    rooms: Rooms,
    *,
    reason: str,
    contact: str,
    approver: str,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Ask for a purge. From now on no mount opens the policy; it can still be cancelled."""
    steps = ("record the request", "close the policy, here and in the keystore")
    with verbs.run(store, rooms, policy, Verb.PURGE_REQUEST, watch or Watch()) as run:
        requester = account()
        if approver == requester:
            raise TransitionRefused(
                f"{approver} asks for the purge and cannot approve it as well; name another "
                "account with --approver; nothing was changed"
            )
        now = datetime.now(UTC)
        asked = PurgeRequest(
            policy_id=run.policy.id,
            requested=_text(now),
            requester=requester,
            approver=approver,
            reason=reason,
            contact=contact,
            not_before=_text(now + timedelta(seconds=rooms.purge_waiting_seconds())),
            was_revoked=run.section.state is PolicyState.Revoked,
        )
        run.facts = _facts(asked)
        if dry_run:
            return run.would(*steps)
        with run.session.recorded(
            "purge.request", f"{reason}; contact {contact}; approver {approver}"
        ):
            save(store, asked)
            run.session.watch.step("request-recorded")
            rooms.revoke_here(run.policy.id, "its purge was requested")
            marks.put_mark(run.session, PolicyState.PurgeRequested)
        return run.done(*steps)


def approve(
    store: Store,
    rooms: Rooms,
    *,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Approve a purge: by the account that the request names, which is not the requester's."""
    with verbs.run(store, rooms, policy, Verb.PURGE_APPROVE, watch or Watch()) as run:
        asked = _require(run)
        who = account()
        if who != asked.approver:
            raise TransitionRefused(
                f"the request names {asked.approver} as its approver, and this is {who}; "
                "nothing was changed"
            )
        if dry_run:
            return run.would("record the approval")
        with run.session.recorded("purge.approve", who):
            asked = replace(asked, approved=timestamp())
            save(store, asked)
        run.facts = _facts(asked)
        return run.done("record the approval")


def cancel(
    store: Store,
    rooms: Rooms,
    *,
    policy: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Withdraw a request; the policy goes back to what it was, revoked if it was."""
    with verbs.run(store, rooms, policy, Verb.PURGE_CANCEL, watch or Watch()) as run:
        asked = load(store, run.policy.id)
        if dry_run:
            return run.would("withdraw the request")
        with run.session.recorded("purge.cancel"):
            if asked is not None and asked.was_revoked:
                marks.put_mark(run.session, PolicyState.Revoked)
            else:
                marks.take_mark(run.session)
                rooms.grant_here(run.policy.id)
            remove(store, run.policy.id)
        return run.done("withdraw the request")


def execute(
    store: Store,
    rooms: Rooms,
    *,
    policy: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Destroy all wraps. PurgeIncomplete afterwards, where a copy could still be opened.

    `force` counts a vault that does not answer as one that denies: it may be gone for good. Run
    again on a purged policy, it looks again at what survives and writes a new certificate.
    """
    steps = (
        "destroy the availability keys of the policy",
        "destroy every wrap of its tenant intermediate keys, site keys and metadata keys",
        "look at every place where a key could survive, and write the certificate",
    )
    with verbs.run(store, rooms, policy, Verb.PURGE_EXECUTE, watch or Watch()) as run:
        asked = _require(run)
        if not run.move.resumes:
            _require_due(asked)
            _require_denied(run, rooms, force=force)
        places = survival.places(store, rooms, run.section, asked.keys)
        run.facts = _facts(asked) | {"places": [place.told() for place in places]}
        if dry_run:
            return run.would(*steps)
        with run.session.recorded("purge.execute", asked.reason):
            if not run.move.resumes:
                _destroy(run, rooms, asked)
            certificate = _certify(run, rooms)
        outcome = run.done(*steps)
    if not certificate["complete"]:
        left = "; ".join(
            f"{one['what']}: {one['remedy']}" for one in certificate["places"] if one["survives"]
        )
        raise PurgeIncomplete(
            f"the wraps of policy {outcome.policy} in this store are destroyed, but its keys can "
            f"survive: {left}; then run purge execute again; certificate: {certificate['path']}",
            policy_id=outcome.policy_id,
        )
    return outcome


def show(store: Store, policy: str | None) -> dict[str, Any]:
    """Return what is known of a policy's purge."""
    section = sessions.find_policy(sessions.load(store), policy)
    asked = load(store, section.policy.id)
    return {
        "policy": section.policy.name,
        "policy_id": section.policy.id,
        "state": section.state.name,
        "request": None if asked is None else _facts(asked),
    }


def _require(run: Run) -> PurgeRequest:
    asked = load(run.session.store, run.policy.id)
    if asked is None:
        raise TransitionRefused(
            f"the purge of policy {run.policy.named} was requested on another host: go on there, "
            "or cancel it and request it here"
        )
    return asked


def _require_due(asked: PurgeRequest) -> None:
    if asked.approved is None:
        raise TransitionRefused(
            f"the purge is not approved: {asked.approver} can do that with ckfs-keys purge approve"
        )
    if timestamp() < asked.not_before:
        raise TransitionRefused(
            f"the purge waits until {asked.not_before}; until then it can be cancelled"
        )


def _require_denied(run: Run, rooms: Rooms, *, force: bool) -> None:
    """Refuse while a customer key opens the TIK, or does not say that it does not."""
    policy = run.policy
    for wrap in policy.current_tik.wraps:
        if wrap.slot not in {"primary", "secondary"}:
            continue
        try:
            root = rooms.existing(policy, wrap) or rooms.vault(policy.id, wrap.key_id)
            root.unwrap(wrap.wrapped)
        except (RootKeyRefused, RootKeyMissing):
            continue
        except KeyHierarchyError as error:
            if force:
                continue
            raise TransitionRefused(
                f"whether {wrap.key_id} still opens the keys cannot be told: {error}; try again, "
                "or use --force if its vault is gone for good",
                key_id=wrap.key_id,
            ) from error
        raise TransitionRefused(
            f"{wrap.key_id} still opens the keys of policy {policy.named}: take wrapKey and "
            "unwrapKey away from this identity, or disable the key; nothing was destroyed",
            key_id=wrap.key_id,
            policy_id=policy.id,
        )


def _destroy(run: Run, rooms: Rooms, asked: PurgeRequest) -> None:
    session = run.session
    policy = run.policy
    keys = [(wrap.slot, wrap.key_id) for tik in policy.tik_generations for wrap in tik.wraps]
    keys += [(old.slot, old.key_id) for old in policy.retired]
    # First what the certificate will tell of, because the keystore will not know it any more.
    save(
        session.store,
        replace(
            asked,
            keys=tuple(sorted({f"{slot} {key}" for slot, key in keys if slot != "successor"})),
            sites=tuple(site.site_id for site in run.section.sites),
        ),
    )
    for key_id in rooms.destroy_availability(policy.id):
        session.record("availability.destroy", "ok", key_id=key_id)
    session.watch.step("availability-destroyed")
    _write_tombstone(session)
    rooms.grant_here(policy.id)  # the state says no from now on, and says why
    session.watch.step("wraps-destroyed")


def _write_tombstone(session: Session) -> None:
    """Put a section without any wrap in the place of the policy's; no key can seal it any more."""
    store = session.store
    with keystores.exclusive(store.control_folder, wait=True):
        keystore = sessions.load(store)
        section = sessions.section_of(keystore, session.policy_id)
        tombstone = emptied(section, keystore.generation + 1)
        sessions.write(store, sessions.with_sections(keystore, tombstone))
    pin = anchors.pin_of(tombstone)
    anchors.AnchorFile(store.folder).change(
        lambda known: anchors.advance(sessions.require_known(known, store), pin)
    )


def emptied(section: Section, generation: int) -> Section:
    """Return the section with every wrap destroyed, and its state Purged."""
    policy = section.policy
    tiks = tuple(replace(tik, wraps=()) for tik in policy.tik_generations)
    sites = tuple(
        replace(
            site,
            site_keys=tuple(
                replace(key, wrapped_site_key=_ZERO, commitment=bytes(32)) for key in site.site_keys
            ),
            wrapped_metadata_key=_ZERO,
        )
        for site in section.sites
    )
    return replace(
        section,
        sealed_generation=generation,
        policy=replace(
            policy,
            state=PolicyState.Purged,
            tik_generations=tiks,
            operation=UNSET,
            retired_keys=UNSET,
        ),
        sites=sites,
        seal=b"",
        mark=UNSET,
    )


def _certify(run: Run, rooms: Rooms) -> dict[str, Any]:
    """Look at every place, say what was found, and keep it in a document of this host."""
    store = run.session.store
    asked = _require(run)
    places = survival.places(store, rooms, run.session.section(), asked.keys)
    head = run.session.audit.head()
    written = timestamp()
    name = f"purge-certificate-{asked.policy_id}-{written.replace(':', '')}.json"
    path = os.path.join(store.folder, name)
    certificate = {
        "format": 1,
        "store_id": store.store_id.hex(),
        "policy": run.policy.name,
        "policy_id": run.policy.id,
        "written": written,
        "complete": not any(place.survives for place in places),
        "request": _facts(asked),
        "root_keys": list(asked.keys),
        "sites": list(asked.sites),
        "places": [place.told() for place in places],
        "audit": {"records": head.count, "hash": head.hash},
        "path": path,
    }
    durable.replace_document(path, msgspec.json.format(msgspec.json.encode(certificate)) + b"\n")
    run.facts["certificate"] = path
    run.facts["complete"] = certificate["complete"]
    run.facts["places"] = certificate["places"]
    run.session.record(
        "purge.certificate",
        "ok" if certificate["complete"] else "failed",
        reason=f"complete: {certificate['complete']}; {path}",
    )
    return certificate


def _facts(asked: PurgeRequest) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(asked)
    return {name: value for name, value in facts.items() if name not in {"format", "lowest_reader"}}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
