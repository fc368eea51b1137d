"""Every bad input: one line that says what to do, its own exit code, and nothing changed."""

from __future__ import annotations

import json
import os
import signal
import stat

import pytest

from tests.cli.asking import refused, snapshot
from tests.mounted.driving import mountpoints_below, processes_with, until

pytestmark = pytest.mark.mounted

# The store


def test_no_store(unmade, mounting):
    (unmade.store / "folder").mkdir(parents=True)
    before = snapshot(unmade.backing)
    for store in (unmade.store, unmade.backing / "nowhere"):
        done = unmade.run(*mounting, store, unmade.mountpoint, check=False)
        refused(done, 10, str(store), "no ckfs store", "ckfs init")
    (unmade.backing / "file").write_bytes(b"x")
    done = unmade.run(*mounting, unmade.backing / "file", unmade.mountpoint, check=False)
    refused(done, 10, "no ckfs store")
    (unmade.backing / "file").unlink()
    assert snapshot(unmade.backing) == before
    assert not unmade.state.exists()


def edit(made, **changes):
    place = made.store / ".ckfs" / "store.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))


def test_a_newer_format(made, mounting):
    edit(made, format=2, lowest_reader=2, something="that only the newer one knows")
    before = snapshot(made.store, made.state)
    done = made.run(*mounting, made.store, made.mountpoint, check=False)
    refused(done, 11, "format 2", "newer ckfs")
    assert snapshot(made.store, made.state) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: place.write_bytes(b""),
        lambda place: place.write_bytes(place.read_bytes()[:100]),
        lambda place: place.write_bytes(b"\0" * 300),
        lambda place: place.write_bytes(b"[]"),
        lambda place: place.write_bytes(place.read_bytes().replace(b"encrypted", b"plaintext")),
        lambda place: place.write_bytes(place.read_bytes().replace(b"65536", b"32768")),
        lambda place: place.write_bytes(place.read_bytes().replace(b"65536", b"65535")),
        lambda place: place.write_bytes(place.read_bytes().replace(b'"created"', b'"creates"')),
        lambda place: place.write_bytes(b'{"a":' * 100_000),
    ],
    ids=["empty", "cut", "zeros", "list", "names", "chunk size", "no size", "field", "deep"],
)
def test_a_damaged_store_document(made, damage):
    damage(made.store / ".ckfs" / "store.json")
    before = snapshot(made.store, made.state)
    done = made.run("mount", made.store, made.mountpoint, check=False)
    refused(done, 12, "store.json", "restore it from a backup")
    assert snapshot(made.store, made.state) == before


@pytest.mark.parametrize("field", ["store_id", "site_id"])
def test_a_store_document_of_another_store(made, field):
    place = made.store / ".ckfs" / "store.json"
    known = json.loads(place.read_text())[field]
    edit(made, **{field: known[::-1]})
    before = snapshot(made.store, made.state)
    done = made.run("mount", made.store, made.mountpoint, check=False)
    refused(done, 12)
    assert snapshot(made.store, made.state) == before


def test_a_damaged_keystore(made, mounting):
    place = made.store / ".ckfs" / "keystore.json"
    place.write_bytes(place.read_bytes().replace(b"0", b"1", 5))
    before = snapshot(made.store, made.state)
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, "keystore")
    assert snapshot(made.store, made.state) == before
    place.unlink()
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, "keystore")


def test_a_missing_or_changed_root_record(made, mounting):
    record = made.store / ".ckfs-dir"
    raw = record.read_bytes()
    record.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, ".ckfs-dir")
    record.unlink()
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, ".ckfs-dir")


# The keys


def test_a_missing_root_key(made, mounting):
    (key,) = (made.state / "service-keys").glob("*.key")
    key.rename(made.folder / "kept.key")
    before = snapshot(made.store, made.state)
    done = made.run(*mounting, made.store, made.mountpoint, check=False)
    refused(done, 13, "service-keys", "--state-dir")
    assert snapshot(made.store, made.state) == before
    (made.folder / "kept.key").rename(key)
    made.mount()


def test_another_state_folder(made, mounting):
    other = made.folder / "other"
    done = made.run(*mounting, "--state-dir", other, made.store, made.mountpoint, check=False)
    refused(done, 13)
    assert not (other / "service-keys").exists() or not any(other.glob("service-keys/*.key"))


@pytest.mark.parametrize(
    ("which", "mode"), [("service-keys", 0o755), ("service-keys/*.key", 0o644), (".", 0o777)]
)
def test_keys_that_others_can_read(made, mounting, which, mode):
    (place,) = made.state.glob(which) if which != "." else [made.state]
    place.chmod(mode)
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 16, "chmod")
    assert stat.S_IMODE(place.stat().st_mode) == mode


# The mount point


def test_a_mount_point_that_is_not_there(made, mounting):
    before = snapshot(made.backing, made.folder)
    done = made.run(*mounting, made.store, made.folder / "nowhere", check=False)
    refused(done, 18, "nowhere", "mkdir")
    assert snapshot(made.backing, made.folder) == before
    (made.folder / "file").write_bytes(b"x")
    refused(made.run(*mounting, made.store, made.folder / "file", check=False), 18)


def test_a_mount_point_that_is_not_empty(made, mounting):
    (made.mountpoint / "file").write_bytes(b"mine")
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 19, "empty")
    assert (made.mountpoint / "file").read_bytes() == b"mine"


def test_a_store_inside_its_own_mount_point(made, mounting):
    before = snapshot(made.backing)
    refused(made.run(*mounting, made.store, made.backing, check=False), 20, "elsewhere")
    refused(made.run(*mounting, made.store, made.store, check=False), 20, "elsewhere")
    (made.folder / "link").symlink_to(made.backing)
    refused(made.run(*mounting, made.store, made.folder / "link", check=False), 20)
    assert snapshot(made.backing) == before


def test_a_mount_point_inside_the_store(made, mounting):
    inner = made.store / "inner"
    inner.mkdir()
    before = snapshot(made.backing)
    refused(made.run(*mounting, made.store, inner, check=False), 21, "elsewhere")
    (made.folder / "link").symlink_to(inner)
    refused(made.run(*mounting, made.store, made.folder / "link", check=False), 21)
    assert snapshot(made.backing) == before


def test_a_second_mount_is_told_who_holds_the_store(made, mounting):
    made.mount()
    (made.mountpoint / "file").write_bytes(b"x")
    second = made.folder / "second"
    second.mkdir()
    (pid,) = made.pids()
    done = made.run(*mounting, made.store, second, check=False)
    refused(done, 17, str(pid), str(made.mountpoint), "unmount")
    assert (made.mountpoint / "file").read_bytes() == b"x"
    made.umount()
    made.run("mount", "--log-file", made.log_place, made.store, second)
    assert os.listdir(second) == ["file"]
    made.run("umount", second)
    until(lambda: not processes_with(str(second)), "the driver ends")


def test_a_mount_point_that_is_taken(made, mounting):
    made.mount()
    other = made.backing / "other"
    made.run("init", other)
    # Its root is empty, and yet nothing may be mounted over it.
    refused(made.run(*mounting, other, made.mountpoint, check=False), 19, "mounted")
    assert mountpoints_below(made.folder) == [str(made.mountpoint)]


def test_a_mount_whose_driver_died(made, mounting):
    made.mount()
    (pid,) = made.pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not made.pids(), "the driver dies")
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 18, "ckfs umount")
    assert "does not answer" in made.status()["problem"]
    made.run("umount", made.mountpoint)
    made.mount()


# Options and arguments


@pytest.mark.parametrize(
    "option", ["nonsense", "uid=nobody", "attr_timeout=soon", "ro=1", "uid=-5", "fsname=x", "uid="]
)
def test_an_option_that_there_is_not(made, mounting, option):
    done = made.run(*mounting, "-o", option, made.store, made.mountpoint, check=False)
    refused(done, 2, option.partition("=")[0])


def test_wrong_arguments(made):
    for arguments in (["mount"], ["mount", made.store], ["nonsense"], ["init", "--nonsense", "x"]):
        done = made.run(*arguments, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().count("\n") <= 4


# init


def test_init_on_a_folder_with_something_in_it(unmade):
    unmade.store.mkdir()
    (unmade.store / "file").write_bytes(b"mine")
    before = snapshot(unmade.backing)
    refused(unmade.run("init", unmade.store, check=False), 25, "not empty")
    assert snapshot(unmade.backing) == before
    refused(unmade.run("init", unmade.store / "file", check=False), 25)
    assert snapshot(unmade.backing) == before
    assert not unmade.state.exists()


def test_init_of_what_is_a_store(made):
    before = snapshot(made.backing, made.state)
    refused(made.run("init", made.store, check=False), 25, "store already")
    assert snapshot(made.backing, made.state) == before


@pytest.mark.parametrize("inside", ["store", "store/keys", "store/a/b"])
def test_init_with_the_keys_inside_the_store(unmade, inside):
    unmade.store.mkdir()
    before = snapshot(unmade.backing)
    place = unmade.backing / inside
    done = unmade.run("init", "--state-dir", place, unmade.store, check=False)
    refused(done, 16, "inside the store")
    assert snapshot(unmade.backing) == before
    (unmade.folder / "link").symlink_to(unmade.store)
    place = unmade.folder / "link" / "keys"
    refused(unmade.run("init", "--state-dir", place, unmade.store, check=False), 16)
    assert snapshot(unmade.backing) == before


def test_mount_with_the_keys_inside_the_store(made, mounting):
    done = made.run(
        *mounting, "--state-dir", made.store / "keys", made.store, made.mountpoint, check=False
    )
    assert done.returncode in (13, 16)
    assert done.stderr.count("\n") == 1
    assert not (made.store / "keys").exists()


def test_init_where_the_keys_cannot_be_kept(unmade):
    unmade.folder.joinpath("state").mkdir(mode=0o755)
    (unmade.state / "service-keys").mkdir(mode=0o755)
    (unmade.state / "service-keys").chmod(0o755)
    unmade.store.mkdir()
    before = snapshot(unmade.backing)
    refused(unmade.run("init", unmade.store, check=False), 16, "chmod")
    assert snapshot(unmade.backing) == before


@pytest.mark.parametrize("size", ["0", "1000", "2048", "65537", "2097152", "-1", "many"])
def test_init_with_a_chunk_size_that_there_is_not(unmade, size):
    done = unmade.run("init", f"--chunk-size={size}", unmade.store, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not unmade.store.exists()
