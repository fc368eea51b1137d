"""A store whose default policy has customer keys, made without the verbs that do it for users."""

from __future__ import annotations

import json
import os
import threading
import time

from msgspec.structs import replace

from keyhierarchy import administration, servicekeys
from keyhierarchy import keystore as keystores
from keyhierarchy.clock import timestamp
from keyhierarchy.creation import new_site
from keyhierarchy.policy import PolicyState, TikWrap
from tests.keyhierarchy.fakes import FakeRootKey


class CommandedRoot(FakeRootKey):
    """A root key that fails, dawdles, hangs or lies as told."""

    def __init__(self, key_id: str, key: bytes) -> None:
        super().__init__(key_id, key)
        self.seconds = 0.0
        self.lie: bytes | None = None
        self.hanging = threading.Event()
        self.hanging.set()

    def hang(self) -> None:
        self.hanging.clear()

    def release(self) -> None:
        self.hanging.set()

    def unwrap(self, wrapped: bytes) -> bytes:
        self.asked += 1
        time.sleep(self.seconds)
        assert self.hanging.wait(30)
        if self.trouble is not None:
            raise self.trouble
        if self.lie is not None:
            return self.lie
        self.asked -= 1
        return super().unwrap(wrapped)


def tik_of(place) -> bytes:
    """The current TIK of the default policy, opened by the service-managed root."""
    (section,) = keystores.load(place.control, place.store_id).sections
    wrap = next(w for w in section.policy.current_tik.wraps if w.slot == "service")
    return servicekeys.service_root(place.state, section.policy.id).unwrap(wrap.wrapped)


def wrap_of(slot: str, root, tik: bytes) -> TikWrap:
    return TikWrap(
        slot=slot,
        key_id=root.key_id,
        algorithm="RSA-OAEP-256",
        wrapped=root.wrap(tik),
        created=timestamp(),
    )


def give_customer_keys(place, roots, *, more_sites: int = 0, allow: bool = True) -> bytes:
    """Put wraps by these roots, by slot, in place of the service-managed one; return the TIK."""
    keystore = keystores.load(place.control, place.store_id)
    (section,) = keystore.sections
    tik = tik_of(place)
    policy = section.policy
    wraps = tuple(wrap_of(slot, root, tik) for slot, root in roots.items())
    generation = replace(policy.current_tik, wraps=wraps)
    policy = replace(policy, state=PolicyState.Registered, tik_generations=(generation,))
    added = tuple(
        new_site(
            tik,
            policy_id=policy.id,
            tik_generation=1,
            root_directory_id=os.urandom(16),
            workload="teams",
        )
        for _ in range(more_sites)
    )
    section = replace(section, policy=policy, sites=(*section.sites, *added))
    write_section(place, section, tik)
    for wrap in wraps if allow else ():
        if wrap.key_id.startswith("https://"):
            administration.allow(place.state, wrap.key_id, policy_id=policy.id, slot=wrap.slot)
    place.policy_id = policy.id
    return tik


def write_section(place, section, tik: bytes) -> None:
    """Seal and write the one section, as somebody who has the TIK can."""
    number = keystores.load(place.control, place.store_id).generation + 1
    section = keystores.sealed(
        replace(section, sealed_generation=number), tik, store_id=place.store_id
    )
    keystore = keystores.load(place.control, place.store_id)
    keystores.store(place.control, replace(keystore, generation=number, sections=(section,)))


def reasons(place, event: str) -> list[str]:
    """The reasons of all records of one event."""
    lines = (place.host / "audit.log").read_text().splitlines()
    return [record["reason"] for record in map(json.loads, lines) if record["event"] == event]


def until(condition, seconds: float = 5.0) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
