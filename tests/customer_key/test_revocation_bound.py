"""A revocation at the vaults under a real clock: how long keys go on, beside what is promised."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from keyhierarchy import administration, revocation
from keyhierarchy.errors import KeyHierarchyError
from keyhierarchy.hierarchy import Hierarchy
from tests.keyhierarchy.customer import until

pytestmark = pytest.mark.vault

FILE, KEY = b"f" * 16, bytes(range(32))
PROBE_SECONDS = 1.0


@contextmanager
def mounted(store, settings):
    """A hierarchy with the control tasks of a mount, on threads; all by the real clock."""
    administration.configure(store.state, replace(settings, probe_seconds=PROBE_SECONDS))
    hierarchy = Hierarchy.open(store.control, store.state, store.store_id)
    lease = hierarchy.lease(store.site_id)
    end = threading.Event()

    def work() -> None:
        while not end.is_set():
            hierarchy.work_due()
            end.wait(hierarchy.seconds_until_due())

    def look() -> None:
        while not end.wait(0.1):  # each second in a mount
            hierarchy.check_revocation()
            hierarchy.expire()

    tasks = [threading.Thread(target=task) for task in (work, look)]
    for task in tasks:
        task.start()
    yield lease
    end.set()
    for task in tasks:
        task.join()
    hierarchy.close()


def last_use(lease) -> float:
    """Use the lease as fast as a busy mount does, until it ends: when it worked last."""
    wrapped = lease.wrap_file_key(FILE, KEY)
    last = time.monotonic()
    end = last + 20
    while last < end:
        try:
            lease.unwrap_file_key(FILE, 1, wrapped)
        except KeyHierarchyError:
            return last
        last = time.monotonic()
    pytest.fail("it never ended")


def test_disabling_both_keys_stops_within_a_probe_and_its_answer(store, server, settings):
    with mounted(store, settings) as lease:
        time.sleep(0.3)
        for slot, name in store.names.items():
            store.client(slot).update_key_properties(name, enabled=False)
        disabled = time.monotonic()
        took = last_use(lease) - disabled
        print(f"last use {took:.3f} s after the keys were disabled")  # noqa: T201 - `-s` shows it
        assert took <= PROBE_SECONDS + settings.opening_deadline_seconds
        for slot, name in store.names.items():
            store.client(slot).update_key_properties(name, enabled=True)
        until(lambda: lease.valid, 10)


def test_revoking_on_the_host_stops_at_the_next_look(store, server, settings):
    with mounted(store, settings) as lease:
        revocation.set(store.state, store.policy_id, "test")
        revoked = time.monotonic()
        assert last_use(lease) - revoked < 1
        until(lambda: not lease.valid, 1)
        revocation.clear(store.state, store.policy_id)
        until(lambda: lease.valid, 10)
