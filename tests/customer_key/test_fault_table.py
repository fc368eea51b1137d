"""Every row of HIERARCHY.md 15.5: what a mount's keys do when vaults fail, and what is told of it.

The clock of the leases is told, the vaults and everything between are real.
"""

from __future__ import annotations

import pathlib
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from trustme import CA

import keyhierarchy
from keyhierarchy import administration
from keyhierarchy.errors import RootKeyRefused, RootKeyUnavailable, WrappedKeyInvalid
from tests.customer_key.conftest import PERMISSIONS, VAULTS
from tests.keyhierarchy.customer import until

pytestmark = pytest.mark.vault

FILE, KEY = b"f" * 16, bytes(range(32))
SPEC = pathlib.Path(keyhierarchy.__file__).with_name("HIERARCHY.md").read_text()


def works(lease) -> bool:
    return lease.unwrap_file_key(FILE, 1, lease.wrap_file_key(FILE, KEY)) == KEY


def status(hierarchy):
    (found,) = hierarchy.policy_status()
    return found


def causes(hierarchy) -> dict[str, tuple[str, str | None]]:
    return {root.slot: (root.state, root.cause) for root in status(hierarchy).roots}


def goes_on(hierarchy, lease) -> None:
    """One root key is enough: renewals succeed however often."""
    for _ in range(2):
        assert hierarchy.renew_all() == []
    hierarchy.probe()
    assert works(lease)
    assert status(hierarchy).health == "degraded"


def is_bridged(store, hierarchy, lease) -> None:
    """Nobody answers: the lease goes on to its deadline, and not a second longer."""
    asked_at = store.clock.now
    assert [type(one) for one in hierarchy.renew_all()] == [RootKeyUnavailable]
    hierarchy.probe()
    assert status(hierarchy).health == "unavailable"
    assert status(hierarchy).failed_renewals >= 1
    assert hierarchy.seconds_until_due() <= 1.2  # the first step of the back-off
    store.clock.now = lease.deadline - 1
    assert hierarchy.expire() == []
    assert works(lease)
    store.clock.now = lease.deadline
    assert hierarchy.expire() == [lease]
    assert store.clock.now - asked_at == pytest.approx(3600)
    with pytest.raises(RootKeyUnavailable):
        works(lease)
    assert status(hierarchy).health == "locked"
    assert store.events().count("lease.bridge failed") == 1


def is_locked(store, hierarchy, lease, cause) -> None:
    """All say no: the next probe ends the lease."""
    started = time.monotonic()
    assert [type(one) for one in hierarchy.probe()] == [RootKeyRefused]
    assert time.monotonic() - started < 5
    assert not lease.valid
    with pytest.raises(RootKeyRefused) as caught:
        works(lease)
    assert caught.value.cause == cause
    assert status(hierarchy).health == "locked"
    assert causes(hierarchy) == dict.fromkeys(VAULTS, ("refused", cause))
    assert store.events()[-1] == "lease.end refused"
    assert cause in store.reasons("root.change")


def comes_back(store, hierarchy, lease) -> None:
    """At the latest after one probe interval the same lease is valid again."""
    store.clock.now += 60
    assert hierarchy.work_due() == []
    assert works(lease)
    hierarchy.probe()
    assert status(hierarchy).health == "ok"
    assert "lease.restore ok" in store.events()


def test_one_down(store, server, hierarchy, lease):
    server.admin.set_fault("drop", vault="kv1")
    goes_on(hierarchy, lease)
    assert causes(hierarchy)["primary"] == ("unavailable", "unreachable")
    assert store.events().count("root.change failed") == 1
    server.admin.clear_faults()
    hierarchy.probe()
    assert status(hierarchy).health == "ok"
    assert store.events()[-1] == "root.change ok"


def test_both_down(store, server, hierarchy, lease):
    server.admin.set_fault("drop")
    is_bridged(store, hierarchy, lease)
    assert store.events().count("root.change failed") == 2
    server.admin.clear_faults()
    comes_back(store, hierarchy, lease)


def test_one_slow(store, server, hierarchy, lease):
    server.admin.set_fault("latency", vault="kv1", seconds=0.7)
    for _ in range(4):
        started = time.monotonic()
        assert hierarchy.renew_all() == []
        assert time.monotonic() - started < 0.65  # the offset, and the quick one's answer
    until(lambda: causes(hierarchy).get("primary") == ("ok", None))  # heard late, and healthy
    assert status(hierarchy).health == "ok"


def test_both_slow(store, server, hierarchy, lease):
    server.admin.set_fault("latency", seconds=0.5)
    started = time.monotonic()
    assert hierarchy.renew_all() == []
    assert 0.5 <= time.monotonic() - started < 2
    assert works(lease)


def test_throttling_of_one(store, server, hierarchy, lease):
    server.admin.set_fault("429", vault="kv2")
    goes_on(hierarchy, lease)
    assert causes(hierarchy)["secondary"] == ("unavailable", "throttled")


def test_throttling_of_both(store, server, hierarchy, lease):
    fault = server.admin.set_fault("429", operation="unwrapKey")
    is_bridged(store, hierarchy, lease)
    struck = next(one.struck for one in server.admin.faults() if one.id == fault.id)
    assert struck <= 12  # a storm is not fanned: 2 rounds, 2 vaults, at most 3 tries
    server.admin.clear_faults()
    comes_back(store, hierarchy, lease)


def test_server_errors(store, server, hierarchy, lease):
    server.admin.set_fault("503")
    is_bridged(store, hierarchy, lease)
    assert {cause for _, cause in causes(hierarchy).values()} <= {"server-error", "timeout"}
    server.admin.clear_faults()
    comes_back(store, hierarchy, lease)


def test_denied_by_one(store, server, hierarchy, lease):
    server.admin.grant("kv1", "ckfs", [])
    goes_on(hierarchy, lease)
    assert causes(hierarchy)["primary"] == ("refused", "no-permission")
    assert store.events().count("root.change refused") == 1
    server.admin.grant("kv1", "ckfs", PERMISSIONS)
    hierarchy.probe()
    assert status(hierarchy).health == "ok"


def test_denied_by_both(store, server, hierarchy, lease):
    for vault in VAULTS.values():
        server.admin.grant(vault, "ckfs", [])
    is_locked(store, hierarchy, lease, "no-permission")
    for vault in VAULTS.values():
        server.admin.grant(vault, "ckfs", PERMISSIONS)
    comes_back(store, hierarchy, lease)


def test_firewall_at_both(store, server, hierarchy, lease):
    server.admin.set_fault("ForbiddenByFirewall")
    is_locked(store, hierarchy, lease, "firewall")
    server.admin.clear_faults()
    comes_back(store, hierarchy, lease)


def test_denied_by_one_and_the_other_down(store, server, hierarchy, lease):
    server.admin.grant("kv1", "ckfs", [])
    server.admin.set_fault("drop", vault="kv2")
    is_bridged(store, hierarchy, lease)
    assert causes(hierarchy)["primary"] == ("refused", "no-permission")


def test_disabled(store, server, hierarchy, lease):
    for slot, name in store.names.items():
        store.client(slot).update_key_properties(name, enabled=False)
    is_locked(store, hierarchy, lease, "key-disabled")
    for slot, name in store.names.items():
        store.client(slot).update_key_properties(name, enabled=True)
    comes_back(store, hierarchy, lease)


def test_deleted_and_recovered(store, server, hierarchy, lease):
    for slot, name in store.names.items():
        store.client(slot).begin_delete_key(name).wait()
    is_locked(store, hierarchy, lease, "key-deleted")
    for slot, name in store.names.items():
        store.client(slot).begin_recover_deleted_key(name).wait()
    comes_back(store, hierarchy, lease)


def test_purged(store, server, hierarchy, lease):
    for slot, name in store.names.items():
        store.client(slot).begin_delete_key(name).wait()
        store.client(slot).purge_deleted_key(name)
    is_locked(store, hierarchy, lease, "key-not-found")


def test_expired(store, server, hierarchy, lease):
    for slot, name in store.names.items():
        past = datetime.now(UTC) - timedelta(days=1)
        store.client(slot).update_key_properties(name, expires_on=past)
    hierarchy.probe()
    assert hierarchy.renew_all() == []
    assert works(lease)
    assert status(hierarchy).health == "ok"


def test_clock_skew(store, server, hierarchy, lease):
    server.admin.skew_clock(90_000)  # every token that this host holds is of yesterday
    is_locked(store, hierarchy, lease, "wrong-credentials")
    assert "clock" in store.reasons("root.change")
    server.admin.skew_clock(0)
    comes_back(store, hierarchy, lease)


def test_wrong_ca(store, server, settings, tmp_path):
    other = tmp_path / "other-ca.pem"
    CA().cert_pem.write_to_path(str(other))
    administration.configure(store.state, replace(settings, ca_file=str(other)))
    opened = store.open()
    with pytest.raises(RootKeyUnavailable, match="certificate") as caught:
        opened.lease(store.site_id)
    assert caught.value.cause == "untrusted-certificate"
    assert store.events()[-1] == "site-key.open refused"
    administration.configure(store.state, settings)
    assert works(opened.lease(store.site_id))
    opened.close()


def test_certificates_that_expire(store, server, hierarchy, lease):
    server.restart()  # so that no connection from before is used
    server.admin.set_fault("tls-expired")
    is_bridged(store, hierarchy, lease)
    assert set(causes(hierarchy).values()) == {("unavailable", "untrusted-certificate")}
    server.admin.clear_faults()
    comes_back(store, hierarchy, lease)


def test_half_open_sockets(store, server, hierarchy, lease):
    server.admin.set_fault("hang")
    started = time.monotonic()
    is_bridged(store, hierarchy, lease)
    assert time.monotonic() - started < 7  # a renewal and a probe, 3 s each at most
    server.admin.clear_faults()
    comes_back(store, hierarchy, lease)


def test_slow_bytes(store, server, hierarchy, lease):
    server.admin.set_fault("slow", seconds=0.3)
    started = time.monotonic()
    assert [type(one) for one in hierarchy.renew_all()] == [RootKeyUnavailable]
    assert time.monotonic() - started < 5
    assert works(lease)


def test_no_token(store, server, lease, settings):
    server.admin.set_fault("hang", vault="login")
    fresh = store.open()
    started = time.monotonic()
    with pytest.raises(RootKeyUnavailable):
        fresh.lease(store.site_id)
    assert time.monotonic() - started < 5
    assert works(lease)
    server.admin.clear_faults()
    fresh.close()


def test_wrong_credentials(store, server, lease, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "withdrawn")
    fresh = store.open()
    with pytest.raises(RootKeyRefused) as caught:
        fresh.lease(store.site_id)
    assert caught.value.cause == "wrong-credentials"
    fresh.close()


def test_wrong_answer(store, server, hierarchy, lease):
    server.admin.set_fault("wrong-value", vault="kv1", operation="unwrapKey")
    hierarchy.probe()
    until(lambda: not lease.valid)
    with pytest.raises(WrappedKeyInvalid, match="substituted"):
        works(lease)
    assert causes(hierarchy)["primary"] == ("wrong-key", "wrong-key")
    assert "root.disagree refused" in store.events()
    assert [type(one) for one in hierarchy.renew_all()] == [WrappedKeyInvalid]
    server.admin.clear_faults()
    comes_back(store, hierarchy, lease)


def test_every_row_of_the_table_has_a_test_and_every_test_a_row():
    found = re.search(r"^### 15.5.*?(?=^##|\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found
    rows = set(re.findall(r"^\| ([a-z0-9 ]+) \|", found[0], re.MULTILINE)) - {"fault"}
    tests = {
        name.removeprefix("test_").replace("_", " ")
        for name in globals()
        if name.startswith("test_") and "every_row" not in name
    }
    assert rows == tests
