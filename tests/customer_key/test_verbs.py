"""The verbs of `ckfs-keys` with real vaults, while a mount's hierarchy goes on beside them."""

from __future__ import annotations

import json
import os
import secrets

import pytest

from keyhierarchy import administration, cli
from keyhierarchy.creation import create_store_keys
from keyhierarchy.errors import RootKeyRefused
from tests.customer_key.conftest import VAULTS, CustomerStore

pytestmark = pytest.mark.vault

FILE, KEY = b"f" * 16, bytes(range(32))


@pytest.fixture
def plain(tmp_path, server, settings) -> CustomerStore:
    """A store as `ckfs init` makes it, and a key in each vault."""
    made = CustomerStore(tmp_path, server)
    os.makedirs(made.control)
    identity = {"format": 1, "lowest_reader": 1, "store_id": made.store_id.hex(), "names": "siv"}
    (tmp_path / "store" / ".ckfs" / "store.json").write_text(json.dumps(identity))
    made.site_id = create_store_keys(made.control, made.state, made.store_id, os.urandom(16))
    administration.configure(made.state, settings)
    for slot, vault in VAULTS.items():
        name = f"{slot}-{secrets.token_hex(6)}"
        made.names[slot] = server.key_client(vault).create_rsa_key(name).id
    return made


@pytest.fixture
def run(plain, capsys, monkeypatch):
    monkeypatch.setattr(cli.secrecy, "shut", lambda: None)

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--state-dir", plain.state, *arguments])
        shown = capsys.readouterr()
        assert ended.value.code == 0, shown.err + shown.out
        return shown.out

    return run


def test_a_mount_goes_on_through_register_revoke_and_offboard(plain, run):
    store = str(plain.folder / "store")
    hierarchy = plain.open()
    lease = hierarchy.lease(plain.site_id)
    wrapped = lease.wrap_file_key(FILE, KEY)

    def opens() -> bool:
        return lease.unwrap_file_key(FILE, 1, wrapped) == KEY

    named = [word for slot, key in plain.names.items() for word in (f"--{slot}-uri", key)]
    # The vaults of this test may purge, as a rule of `validate` does not like.
    accept = ["--accept", "recovery-level"]
    run("policy", "register", store, *named, *accept, "--yes")
    assert opens()
    assert hierarchy.renew_all() == []
    assert opens()
    hierarchy.probe()
    (status,) = hierarchy.policy_status()
    assert {root.slot: root.state for root in status.roots} == dict.fromkeys(VAULTS, "ok")

    run("revoke", store, "--reason", "laptop stolen", "--yes")
    assert hierarchy.check_revocation() == [lease]
    with pytest.raises(RootKeyRefused, match="laptop stolen"):
        opens()
    run("revoke", "--undo", store, "--yes")
    hierarchy.check_revocation()
    assert hierarchy.work_due() == []
    assert opens()

    run("offboard", store, "--yes")
    plain.clock.now += 60
    assert hierarchy.work_due() == []
    assert opens()
    for slot, key in plain.names.items():
        plain.client(slot).begin_delete_key(key.split("/")[-2]).wait()
    assert hierarchy.renew_all() == []
    assert opens()
    hierarchy.close()
