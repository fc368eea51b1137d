"""Where the host's own things are, and that they are never in the store."""

from __future__ import annotations

import os

import pytest

from keyhierarchy import statedir
from keyhierarchy.errors import UnsafePermissions


@pytest.mark.parametrize(
    ("environ", "euid", "expected"),
    [
        ({"HOME": "/home/a"}, 0, "/var/lib/ckfs"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "/data"}, 0, "/var/lib/ckfs"),
        ({"HOME": "/home/a"}, 1000, "/home/a/.local/share/ckfs"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "/data"}, 1000, "/data/ckfs"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "data"}, 1000, "/home/a/.local/share/ckfs"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": ""}, 1000, "/home/a/.local/share/ckfs"),
        ({"CKFS_STATE_DIR": "/s", "XDG_DATA_HOME": "/data"}, 1000, "/s"),
        ({"CKFS_STATE_DIR": "/s"}, 0, "/s"),
        ({"CKFS_STATE_DIR": "", "HOME": "/home/a"}, 0, "/var/lib/ckfs"),
    ],
)
def test_the_default_place(environ, euid, expected):
    assert statedir.default_state_dir(environ, euid) == expected


def test_without_home_the_account_says_where_home_is():
    assert statedir.default_state_dir({}, 1000).endswith("/.local/share/ckfs")
    assert os.path.isabs(statedir.default_state_dir())


@pytest.mark.parametrize("below", [".", "state", "a/b/c"])
def test_a_state_folder_in_the_store_is_refused(tmp_path, below):
    store = tmp_path / "store"
    store.mkdir()
    with pytest.raises(UnsafePermissions, match="inside the store"):
        statedir.refuse_inside_store(str(store / below), str(store))


def test_a_way_round_by_links_is_refused_too(tmp_path):
    store = tmp_path / "store"
    (store / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(store / "deep")
    (tmp_path / "alias").symlink_to(store)
    for state, named in (("link/state", "store"), ("store/deep", "alias"), ("alias/x", "store")):
        with pytest.raises(UnsafePermissions, match="inside the store"):
            statedir.refuse_inside_store(str(tmp_path / state), str(tmp_path / named))


def test_the_same_folder_under_another_path_is_refused(tmp_path, monkeypatch):
    # As a bind mount shows it: another path, the same identity.
    (tmp_path / "store").mkdir()
    (tmp_path / "bound" / "state").mkdir(parents=True)
    real_stat = os.stat
    bound, store = str(tmp_path / "bound"), str(tmp_path / "store")
    monkeypatch.setattr(os, "stat", lambda p, **k: real_stat(store if p == bound else p, **k))
    with pytest.raises(UnsafePermissions, match="inside the store"):
        statedir.refuse_inside_store(str(tmp_path / "bound" / "state"), store)


def test_neighbours_and_folders_above_are_allowed(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    statedir.refuse_inside_store(str(tmp_path / "store-state"), str(store))
    statedir.refuse_inside_store(str(tmp_path), str(store))
    statedir.refuse_inside_store(str(tmp_path / "not" / "there"), str(tmp_path / "nor" / "this"))


def test_preparing_and_requiring(tmp_path):
    state = str(tmp_path / "state")
    statedir.require_private(state)
    statedir.prepare(state)
    statedir.require_private(state)
    os.chmod(state, 0o740)
    for check in (statedir.prepare, statedir.require_private):
        with pytest.raises(UnsafePermissions, match="chmod 0700"):
            check(state)


def test_the_folders_in_it():
    assert statedir.service_keys_folder("/s") == "/s/service-keys"
    assert statedir.store_folder("/s", b"\xab" * 16) == "/s/stores/" + "ab" * 16
