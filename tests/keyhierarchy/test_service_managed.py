"""The service-managed root: its contract, its files, its rollover."""

from __future__ import annotations

import base64
import errno
import json
import os
import pickle
import stat

import pytest

from keyhierarchy.errors import (
    KeystoreBusy,
    KeystoreInvalid,
    KeystoreNewer,
    RootKeyMissing,
    RootKeyUnavailable,
    UnsafePermissions,
    WrappedKeyInvalid,
)
from keyhierarchy.roots.service_managed import ServiceKeys, ServiceManagedRoot
from tests.root_contract import RootKeyContract

POLICY, OTHER = "01" * 16, "02" * 16


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path / "service-keys")


@pytest.fixture
def keys(folder) -> ServiceKeys:
    made = ServiceKeys(folder)
    made.ensure()
    return made


@pytest.fixture
def root(keys) -> ServiceManagedRoot:
    return ServiceManagedRoot(keys.folder, POLICY)


def files(folder: str) -> list[str]:
    return sorted(os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".key"))


class TestServiceManagedRoot(RootKeyContract):
    @pytest.fixture
    def root(self, root):
        return root

    @pytest.fixture
    def other_policy_root(self, keys):
        return ServiceManagedRoot(keys.folder, OTHER)

    @pytest.fixture
    def secret_bytes(self, keys):
        return keys.current().key


def test_the_key_is_made_once_and_is_private(keys):
    again, made = keys.ensure()
    assert not made
    assert again == keys.current()
    assert stat.S_IMODE(os.stat(keys.folder).st_mode) == 0o700
    (file,) = files(keys.folder)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    with open(file) as document:
        fields = json.load(document)
    assert list(fields) == [
        "format",
        "lowest_reader",
        "id",
        "sequence",
        "created",
        "state",
        "key",
    ]
    assert len(base64.b64decode(fields["key"])) == 32


def test_two_hosts_have_two_keys(tmp_path):
    made = [ServiceKeys(str(tmp_path / name)).ensure()[0] for name in "ab"]
    assert made[0].id != made[1].id
    assert made[0].key != made[1].key


def test_a_master_key_shows_itself_without_the_key_and_is_not_pickled(keys):
    master = keys.current()
    assert base64.b64encode(master.key).decode() not in repr(master)
    assert repr(master.key) not in f"{master} {master!r}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(master)


def test_a_rollover_makes_a_new_key_and_keeps_the_old_able_to_open(keys, root):
    tik = os.urandom(32)
    old_wrap = root.wrap(tik)
    new, old = keys.roll()
    assert [(key.id, key.state) for key in keys.masters()] == [
        (old.id, "archived"),
        (new.id, "current"),
    ]
    after = ServiceManagedRoot(keys.folder, POLICY)
    assert after.key_id == new.key_id != root.key_id
    assert after.unwrap(old_wrap) == tik
    assert root.unwrap(after.wrap(tik)) == tik
    assert after.wrap(tik)[:16] == bytes.fromhex(new.id)
    assert root.wrap(tik)[:16] == bytes.fromhex(old.id)  # its key_id does not change under it


def test_a_rollover_cut_short_is_finished_by_the_next(keys, monkeypatch):
    old = keys.current()
    real, calls = ServiceKeys._write, []

    def crashes(self, key):
        calls.append(key)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(ServiceKeys, "_write", crashes)
        with pytest.raises(KeyboardInterrupt):
            keys.roll()
    assert [key.state for key in keys.masters()] == ["current", "current"]
    assert keys.current().id != old.id
    keys.roll()
    assert [key.state for key in keys.masters()] == ["archived", "archived", "current"]


def test_one_rollover_at_a_time(keys, monkeypatch):
    def nested(_self, _key):
        with pytest.raises(KeystoreBusy):
            ServiceKeys(keys.folder).roll()
        raise KeyboardInterrupt

    monkeypatch.setattr(ServiceKeys, "_write", nested)
    with pytest.raises(KeyboardInterrupt):
        keys.roll()


def test_a_missing_folder_says_where_it_was_looked_for(folder):
    for ask in (
        lambda: ServiceManagedRoot(folder, POLICY),
        lambda: ServiceKeys(folder).current(),
        lambda: ServiceKeys(folder).roll(),
        lambda: ServiceKeys(folder).get("00" * 16),
    ):
        with pytest.raises(RootKeyMissing, match=rf"{folder}.*backup.*--state-dir") as caught:
            ask()
        assert caught.value.place == folder
    assert not os.path.exists(folder)
    assert ServiceKeys(folder).masters() == []


def test_an_empty_folder_is_as_good_as_none(folder):
    os.mkdir(folder, 0o700)
    with pytest.raises(RootKeyMissing, match=folder):
        ServiceManagedRoot(folder, POLICY)


def test_a_wrap_of_a_key_that_is_gone_names_the_key(keys, root):
    wrapped = root.wrap(os.urandom(32))
    gone = keys.current()
    keys.roll()
    os.unlink(os.path.join(keys.folder, gone.id + ".key"))
    with pytest.raises(RootKeyMissing, match=gone.id) as caught:
        root.unwrap(wrapped)
    assert caught.value.key_id == gone.key_id
    with pytest.raises(RootKeyMissing):
        root.probe()


def test_a_folder_taken_away_later_is_found_by_the_probe(keys, root):
    os.rename(keys.folder, keys.folder + ".gone")
    with pytest.raises(RootKeyMissing):
        root.probe()


@pytest.mark.parametrize("mode", [0o710, 0o750, 0o701, 0o777])
def test_a_folder_that_others_can_enter_is_refused(keys, root, mode):
    os.chmod(keys.folder, mode)
    for use in (keys.current, root.probe, keys.ensure, keys.roll):
        with pytest.raises(UnsafePermissions, match=f"chmod 0700 {keys.folder}"):
            use()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_file_that_others_can_use_is_refused(keys, root, mode):
    (file,) = files(keys.folder)
    os.chmod(file, mode)
    for use in (keys.current, root.probe):
        with pytest.raises(UnsafePermissions, match=f"chmod 0600 {file}"):
            use()


def test_a_folder_of_another_account_is_refused(keys, root, monkeypatch):
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(UnsafePermissions, match="belongs to uid"):
        root.probe()


def test_a_key_file_that_is_a_link_is_refused(keys, root):
    (file,) = files(keys.folder)
    os.rename(file, file + ".real")
    os.symlink(file + ".real", file)
    with pytest.raises(KeystoreInvalid, match="symbolic link"):
        root.probe()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", base64.b64encode(bytes(31)).decode()),
        ("key", base64.b64encode(bytes(33)).decode()),
        ("key", ""),
        ("state", "retired"),
        ("sequence", 0),
        ("id", "xyz"),
        ("created", "yesterday"),
        ("more", 1),
    ],
)
def test_a_damaged_key_file_is_refused_without_quoting_it(keys, field, value):
    (file,) = files(keys.folder)
    with open(file) as document:
        fields = json.load(document)
    secret = fields["key"]
    with open(file, "w") as document:
        json.dump(fields | {field: value}, document)
    with pytest.raises(KeystoreInvalid, match=file) as caught:
        keys.current()
    assert secret not in str(caught.value)


def test_a_newer_key_file_is_refused_as_newer(keys):
    (file,) = files(keys.folder)
    with open(file, "w") as document:
        document.write('{"format": 2, "lowest_reader": 2}')
    with pytest.raises(KeystoreNewer):
        keys.current()


def test_a_key_file_under_another_name_is_refused(keys):
    (file,) = files(keys.folder)
    os.rename(file, os.path.join(keys.folder, "0" * 32 + ".key"))
    with pytest.raises(KeystoreInvalid, match="another name"):
        keys.current()


def test_two_keys_with_one_sequence_number_are_refused(keys):
    (file,) = files(keys.folder)
    with open(file) as document:
        fields = json.load(document)
    fields["id"] = "0" * 32
    copy = os.path.join(keys.folder, "0" * 32 + ".key")
    with open(copy, "w", opener=lambda p, f: os.open(p, f, 0o600)) as document:
        json.dump(fields, document)
    with pytest.raises(KeystoreInvalid, match="sequence"):
        keys.masters()


def test_a_failing_disk_is_an_outage_and_no_refusal(root, monkeypatch):
    def fails(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fails)
    with pytest.raises(RootKeyUnavailable, match="Input/output error"):
        root.probe()


def test_a_folder_that_cannot_be_listed_is_told(keys, monkeypatch):
    def fails(_folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "listdir", fails)
    with pytest.raises(UnsafePermissions, match="may not"):
        keys.masters()


def test_a_changed_master_key_does_not_open_and_says_so(keys, root):
    wrapped = root.wrap(os.urandom(32))
    (file,) = files(keys.folder)
    with open(file) as document:
        fields = json.load(document)
    with open(file, "w") as document:
        json.dump(fields | {"key": base64.b64encode(bytes(32)).decode()}, document)
    with pytest.raises(WrappedKeyInvalid, match="master key file was changed") as caught:
        root.unwrap(wrapped)
    assert caught.value.key_id == root.key_id


def test_a_probe_that_gets_another_value_back_fails(root, monkeypatch):
    monkeypatch.setattr(ServiceManagedRoot, "unwrap", lambda _self, _wrapped: bytes(32))
    with pytest.raises(WrappedKeyInvalid):
        root.probe()
