"""Work on the service-managed root keys of this host: make the first, roll over, rewrap a store.

The order of effects and their audit records; the keys' files are roots/service_managed.py's.
A rollover touches no store: archived keys go on opening what they wrapped, until `rewrap_store`
has moved a store to the current one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy import opening, statedir, wrapping
from keyhierarchy.audit import AuditLog
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import TransitionRefused, WrappedKeyInvalid
from keyhierarchy.policy import SERVICE_ALGORITHM, TikWrap, with_retired, with_wrap
from keyhierarchy.roots.service_managed import ServiceKeys, ServiceManagedRoot

if TYPE_CHECKING:
    from keyhierarchy.anchor import Anchor
    from keyhierarchy.audit import Outcome
    from keyhierarchy.keystore import Section
    from keyhierarchy.opening import RootSource
    from keyhierarchy.policy import DataEncryptionPolicy
    from keyhierarchy.rootkey import RootKey
    from keyhierarchy.roots.service_managed import MasterKey


class Rewrapped(NamedTuple):
    """One generation of a policy's tenant intermediate key, moved from one root key to another."""

    policy_id: str
    generation: int
    old_key_id: str
    new_key_id: str


def service_keys(state_dir: str) -> ServiceKeys:
    """Return the service-managed root keys of this host."""
    return ServiceKeys(statedir.service_keys_folder(state_dir))


def service_key_log(state_dir: str) -> AuditLog:
    """Return the audit log of the service-managed root keys, which belong to no store."""
    return AuditLog(statedir.service_keys_folder(state_dir), b"service-keys")


def service_roots(state_dir: str) -> RootSource:
    """Return the source of service-managed root keys; it declines every other slot."""

    def source(policy: DataEncryptionPolicy, wrap: TikWrap) -> RootKey | None:
        return service_root(state_dir, policy.id) if wrap.slot == "service" else None

    return source


def service_root(state_dir: str, policy_id: str) -> ServiceManagedRoot:
    """Return the service-managed root key of one policy."""
    return ServiceManagedRoot(statedir.service_keys_folder(state_dir), policy_id)


def ensure_service_key(state_dir: str) -> None:
    """Make the first service-managed root key of this host, unless there is one."""
    statedir.prepare(state_dir)
    keys = service_keys(state_dir)
    if keys.masters():
        return
    log = service_key_log(state_dir)
    log.append("service-key.create", "started")
    master, made = keys.ensure()
    if made:  # else another process was quicker, and has told of it
        log.append("service-key.create", "ok", key_id=master.key_id)


def roll_service_key(state_dir: str) -> tuple[MasterKey, MasterKey]:
    """Make a new current root key and archive the old one: (new, old)."""
    keys = service_keys(state_dir)
    before = keys.current()
    log = service_key_log(state_dir)
    log.append("service-key.roll", "started", key_id=before.key_id)
    new, old = keys.roll()
    log.append("service-key.roll", "ok", key_id=new.key_id, reason=f"archived {old.key_id}")
    return new, old


def new_tik_wrap(root: RootKey, tik: bytes) -> TikWrap:
    """Wrap a TIK under a service-managed root, proved by opening it again."""
    wrapped = root.wrap(tik)
    if not wrapping.same(root.unwrap(wrapped), tik):
        raise WrappedKeyInvalid(
            f"{root.key_id} does not open what it has just wrapped; nothing was changed; check the "
            "memory of this machine",
            key_id=root.key_id,
        )
    return TikWrap(
        slot="service",
        key_id=root.key_id,
        algorithm=SERVICE_ALGORITHM,
        wrapped=wrapped,
        created=timestamp(),
    )


def rewrap_store(control_folder: str, state_dir: str, store_id: bytes) -> list[Rewrapped]:
    """Move a store's service-managed wraps to the current root key of this host.

    Mounts go on, as the keys below stay the same; they follow at their next renewal. Returns what
    was moved: nothing, and nothing is written, where all is under the current key already.
    """
    place = keystores.path(control_folder)
    folder = statedir.store_folder(state_dir, store_id)
    with keystores.exclusive(control_folder):
        keystore = keystores.load(control_folder, store_id)
        anchor_file = anchors.AnchorFile(folder)
        known = _require_known(anchor_file.load(), keystore.store_id)
        anchors.check_document(known, keystore, place)
        generation = keystore.generation + 1
        moved: list[Rewrapped] = []
        sections = []
        for section in keystore.sections:
            pin = known.pin(section.policy.id)
            anchors.check_section(pin, section, place)
            policy, tik, steps = _rewrapped(section, pin, store_id, state_dir, place)
            if steps:
                changed = replace(section, policy=policy, sealed_generation=generation)
                section = keystores.sealed(changed, tik, store_id=store_id)  # noqa: PLW2901
            sections.append(section)
            moved += steps
        if not moved:
            return []
        after = replace(keystore, generation=generation, sections=tuple(sections))
        audit = AuditLog(folder, store_id)
        _record(audit, "started", moved)
        keystores.store(control_folder, after)

        def pinned(known: Anchor | None) -> Anchor:
            anchor = _require_known(known, keystore.store_id)
            for section in after.sections:
                anchor = anchors.advance(anchor, anchors.pin_of(section))
            return anchor

        anchor_file.change(pinned)
        _record(audit, "ok", moved)
    return moved


def _rewrapped(
    section: Section,
    pin: anchors.PolicyPin | None,
    store_id: bytes,
    state_dir: str,
    place: str,
) -> tuple[DataEncryptionPolicy, bytes, list[Rewrapped]]:
    """Return the policy under the current root key, its current TIK, and what was moved."""
    policy = section.policy
    services = [
        (tik.generation, wrap)
        for tik in policy.tik_generations
        for wrap in tik.wraps
        if wrap.slot == "service"
    ]
    if not services:
        return policy, b"", []
    root = service_root(state_dir, policy.id)
    due = [(generation, wrap) for generation, wrap in services if wrap.key_id != root.key_id]
    if not due:
        return policy, b"", []
    if policy.running is not None:
        raise TransitionRefused(
            f"a {policy.running.verb} of policy {policy.named} is not finished: finish that with "
            "ckfs-keys resume, then rewrap",
            policy_id=policy.id,
        )
    roots = service_roots(state_dir)
    tiks = opening.open_section(section, pin, store_id=store_id, roots=roots, place=place)
    steps = []
    for generation, old in due:
        tik = tiks.get(generation) or opening.open_generation(policy, generation, roots, place)
        policy = with_wrap(policy, generation, new_tik_wrap(root, tik))
        steps.append(Rewrapped(policy.id, generation, old.key_id, root.key_id))
    # Copies of the keystore still need the old ones, and a purge must know of them.
    policy = with_retired(policy, (old for _, old in due), timestamp())
    return policy, tiks[policy.current_tik.generation], steps


def _require_known(known: Anchor | None, store_id: str) -> Anchor:
    if known is None:
        raise TransitionRefused(
            f"this host has never opened store {store_id}, so it cannot tell whether its keystore "
            "is the newest; mount the store once, then try again"
        )
    return known


def _record(audit: AuditLog, outcome: Outcome, moved: list[Rewrapped]) -> None:
    for step in moved:
        audit.append(
            "tik.rewrap",
            outcome,
            policy_id=step.policy_id,
            key_id=step.new_key_id,
            generation=step.generation,
            reason=f"moved from {step.old_key_id}",
        )
