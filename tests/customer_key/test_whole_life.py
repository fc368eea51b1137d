"""The life of a policy with real vault keys, over HTTPS, while a mount's keys are in use."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading

import pytest

from keyhierarchy import administration, creation, revocation
from keyhierarchy import keystore as keystores
from keyhierarchy.errors import (
    KeyHierarchyError,
    PolicyPurged,
    PurgeIncomplete,
    RootKeyRefused,
    TransitionRefused,
    ValidationFailed,
)
from keyhierarchy.hierarchy import Hierarchy, create_store_keys
from keyhierarchy.lifecycle import (
    backups,
    marks,
    purging,
    register,
    resuming,
    rolling,
    session,
    showing,
    usage,
    validation,
)
from keyhierarchy.lifecycle.production import HostRooms
from tests.customer_key.conftest import PERMISSIONS, VAULTS, CustomerStore

pytestmark = pytest.mark.vault


class Life:
    """A plain store, and a key in each vault that is not used yet."""

    def __init__(self, place: CustomerStore, settings) -> None:
        os.makedirs(place.control)
        create_store_keys(place.control, place.state, place.store_id, os.urandom(16))
        administration.configure(place.state, settings)
        self.place = place
        self.server = place.server
        self.store = session.Store(place.control, place.state, place.store_id)
        self.rooms = HostRooms(
            place.state, str(place.folder / "availability"), str(place.folder / "store")
        )
        creation.create_site(
            place.control, place.state, place.store_id, os.urandom(16), "sharepoint"
        )
        self.names = {slot: f"{slot}-{secrets.token_hex(6)}" for slot in VAULTS}
        # The tests' vault has soft delete without purge protection; a real one must have it.
        self.accept = ["recovery-level"]

    def make(self, slot: str, **options) -> str:
        """Make a key, or a new version of it, in the slot's vault."""
        client = self.server.key_client(VAULTS[slot])
        return client.create_rsa_key(self.names[slot], **options).id

    def pair(self) -> dict[str, str]:
        return {slot: self.make(slot) for slot in VAULTS}

    def register(self) -> None:
        register.register(self.store, self.rooms, **self.pair(), accept=self.accept)

    @property
    def section(self):
        return keystores.load(self.place.control, self.place.store_id).sections[0]

    @property
    def policy(self):
        return self.section.policy

    def open(self) -> Hierarchy:
        return Hierarchy.open(self.place.control, self.place.state, self.place.store_id)


@pytest.fixture
def life(tmp_path, server, settings):
    return Life(CustomerStore(tmp_path, server), settings)


class Busy:
    """Reads and writes file keys as a busy mount does, with a mount's control tasks."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.hierarchy = life.open()
        self.sites = [bytes.fromhex(one.site_id) for one in self.hierarchy.sites()]
        self.leases = [self.hierarchy.lease(site) for site in self.sites]
        self.files: list = []
        self.errors: list[Exception] = []
        self.generations: set[int] = set()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._work, self._use)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()
        self.hierarchy.close()

    def _work(self):
        while not self._end.is_set():
            self.errors += self.hierarchy.renew_all()
            self._end.wait(0.05)

    def _use(self):
        while not self._end.is_set():
            for lease in self.leases:
                file_id, key = os.urandom(16), os.urandom(32)
                generation = lease.generation
                try:
                    wrapped = lease.wrap_file_key(file_id, key, generation)
                    self.files.append((lease, file_id, generation, wrapped, key))
                    old = self.files[secrets.randbelow(len(self.files))]
                    assert old[0].unwrap_file_key(*old[1:4]) == old[4]
                except KeyHierarchyError as error:
                    self.errors.append(error)
                self.generations.add(generation)
            self._end.wait(0.002)

    def check(self):
        assert self.errors == []
        hierarchy = self.life.open()
        try:
            for lease, file_id, generation, wrapped, key in self.files:
                opened = hierarchy.lease(lease.site_id)
                assert opened.unwrap_file_key(file_id, generation, wrapped) == key
        finally:
            hierarchy.close()


def test_register_roll_and_offboard_under_load(life):
    with Busy(life) as busy:
        life.register()
        assert life.section.state.name == "Registered"
        rolling.roll_root(
            life.store, life.rooms, "primary", key_id=life.make("primary"), accept=life.accept
        )
        rolling.roll_root(life.store, life.rooms, "availability")
        rolling.roll_tik(life.store, life.rooms)
        register.offboard(life.store, life.rooms)
        busy._end.wait(0.3)
    assert len(busy.files) > 10
    assert max(busy.generations) == 3
    busy.check()


KILLED = """
import os, sys
from keyhierarchy.lifecycle import register, session
from keyhierarchy.lifecycle.production import HostRooms
from keyhierarchy.vault.resolve import local_names

folder, store_id, stop, primary, secondary = sys.argv[1:]
steps = 0

def step(name):
    global steps
    steps += 1
    if steps == int(stop):
        os.kill(os.getpid(), 9)

state, store = f"{folder}/state", f"{folder}/store"
with local_names():
    register.register(
        session.Store(f"{store}/.ckfs", state, bytes.fromhex(store_id)),
        HostRooms(state, f"{folder}/availability", store),
        primary=primary, secondary=secondary, accept=["recovery-level"],
        watch=session.Watch(step=step),
    )
"""


def test_killed_at_every_step_under_load(life):
    pair = life.pair()
    with Busy(life) as busy:
        for stop in range(1, 6):
            child = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    KILLED,
                    str(life.place.folder),
                    life.place.store_id.hex(),
                    str(stop),
                    *pair.values(),
                ],
                check=False,
                capture_output=True,
                text=True,
            )
            assert child.returncode == -signal.SIGKILL, child.stderr
            life.open().close()
            (outcome,) = resuming.resume(life.store, life.rooms) or [None]
            assert (outcome is None) == (stop == 5)
            assert life.section.state.name == "Registered"
            register.offboard(life.store, life.rooms)
    busy.check()


def test_both_vaults_lost(life):
    life.register()
    with Busy(life) as busy:
        busy._end.wait(0.1)
    for vault in VAULTS.values():
        life.server.admin.grant(vault, "ckfs", [])
    with pytest.raises(RootKeyRefused):
        register.offboard(life.store, life.rooms)
    for vault in VAULTS.values():
        life.server.admin.grant(vault, "ckfs", PERMISSIONS)
    for slot, vault in VAULTS.items():
        life.server.key_client(vault).begin_delete_key(life.names[slot]).wait()
        life.names[slot] += "-new"
    pair = life.pair()
    register.restore(life.store, life.rooms, **pair, reason="both deleted", accept=life.accept)
    assert {wrap.slot: wrap.key_id for wrap in life.policy.current_tik.wraps}["primary"] == pair[
        "primary"
    ]
    busy.check()


def test_bad_keys_of_a_real_vault_are_refused_and_nothing_changes(life):
    keystore = life.place.control + "/keystore.json"
    with open(keystore, "rb") as file:
        before = file.read()
    good = life.pair()
    client = life.server.key_client(VAULTS["primary"])

    def name() -> str:
        return f"bad-{secrets.token_hex(6)}"

    disabled = client.create_rsa_key(name(), enabled=False).id
    bad = {
        client.create_ec_key(name()).id: "key-type",
        client.create_rsa_key(name(), key_operations=["sign", "verify"]).id: "key-operations",
        disabled: "enabled|permission-get",
        good["primary"][:-32] + "0" * 32: "permission-get",
        good["secondary"]: "two-keys|two-vaults",
    }
    for key_id, rule in bad.items():
        with pytest.raises(ValidationFailed, match=rule):
            register.register(
                life.store,
                life.rooms,
                primary=key_id,
                secondary=good["secondary"],
                accept=life.accept,
            )
    with pytest.raises(RootKeyRefused, match="no version"):
        register.register(
            life.store, life.rooms, primary=good["primary"][:-33], secondary=good["secondary"]
        )
    with open(keystore, "rb") as file:
        assert file.read() == before


def test_validation_of_good_keys(life):
    pair = life.pair()
    findings = validation.validate(
        life.rooms, life.policy, pair, keystores.load(life.place.control, life.place.store_id)
    )
    failed = {one.rule for one in findings if one.result == "fail"}
    assert failed <= {"recovery-level"}
    assert {one.rule for one in findings if one.result == "ok"} >= {
        "key-type",
        "round-trip",
        "two-vaults",
        "no-expiry",
    }


def test_revoke_and_grant(life):
    life.register()
    hierarchy = life.open()
    lease = hierarchy.lease(bytes.fromhex(life.section.sites[0].site_id))
    marks.revoke(life.store, life.rooms, reason="test")
    assert revocation.is_revoked(life.place.state, life.policy.id)
    hierarchy.check_revocation()
    assert not lease.valid
    marks.undo_revoke(life.store, life.rooms)
    assert hierarchy.renew_all() == []
    assert lease.valid
    hierarchy.close()


def test_the_old_version_is_needed_until_the_backup_is_gone(life, tmp_path):
    life.register()
    old = life.policy.current_tik.wraps[0].key_id
    backup = str(tmp_path / "backup.json")
    backups.back_up(life.store, backup)
    rolling.roll_root(
        life.store, life.rooms, "primary", key_id=life.make("primary"), accept=life.accept
    )
    needed = {one["key_id"]: one["may_disable"] for one in usage.usage(life.store)}
    assert needed[old] is False
    os.unlink(life.place.control + "/keystore.json")
    with pytest.raises(KeyHierarchyError):
        backups.put_back(life.store, life.rooms, backup)
    backups.put_back(life.store, life.rooms, backup, accept_older=True)
    life.open().close()
    assert showing.one_policy(life.store, None)["keys"]["primary"] == old


def test_purge_to_the_end(life, monkeypatch):
    life.register()
    monkeypatch.setattr(type(life.rooms), "purge_waiting_seconds", lambda _: 0.0)
    monkeypatch.setattr(purging, "account", lambda: "alice")
    purging.request(life.store, life.rooms, reason="end", contact="c", approver="bob")
    monkeypatch.setattr(purging, "account", lambda: "bob")
    purging.approve(life.store, life.rooms)
    with pytest.raises(TransitionRefused, match="still opens"):
        purging.execute(life.store, life.rooms)
    for slot, vault in VAULTS.items():
        life.server.key_client(vault).begin_delete_key(life.names[slot]).wait()
    with pytest.raises(PurgeIncomplete, match="soft-deleted"):
        purging.execute(life.store, life.rooms)
    for slot, vault in VAULTS.items():
        life.server.key_client(vault).purge_deleted_key(life.names[slot])
    with pytest.raises(PurgeIncomplete, match="master key") as failed:
        purging.execute(life.store, life.rooms)
    assert "vault key" not in str(failed.value)
    for file in os.scandir(life.place.state + "/service-keys"):
        if file.name.endswith(".key"):
            os.unlink(file.path)
    assert purging.execute(life.store, life.rooms).facts["complete"] is True
    with pytest.raises(PolicyPurged):
        life.open().lease(bytes.fromhex(life.section.sites[0].site_id))
