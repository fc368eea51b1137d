"""The walk through a store without a mount: what it names, and what does not stop it."""

import os
import pathlib
import shutil
import stat

import pytest

from fsdriver import storelock
from fsdriver.errors import DirectoryRecordInvalid
from fsdriver.inodes import ROOT
from fsdriver.offline import OfflineStore
from fsdriver.storewalk import FolderMoved, walk
from tests.filesystem.driver import CALLER, Driver
from tests.filesystem.test_sites import make_site

LONG = "long " * 40


@pytest.fixture(params=[False, True], ids=["encrypted", "plaintext"])
def driver(tmp_path, request):
    made = Driver(str(tmp_path), plaintext_names=request.param)
    for folder in ("a", "a/b", "c"):
        made.mkdir(folder)
    make_site(made, b"alice")
    for path in ("top", "a/file", "a/b/deep", "c/" + LONG, "alice/hers"):
        made.write_file(path, path.encode())
    made.fs.symlink(ROOT, b"link", b"top", CALLER)
    made.places = {
        path: pathlib.Path(made.backing_path(path))
        for path in ("a", "a/b", "c", "top", "a/file", "alice", "c/" + LONG)
    }
    made.close()
    return made


def walked(driver):
    with OfflineStore.open(driver.store, driver.state_dir) as store:
        return {one.path: one for one in walk(store)}


def paths(folders):
    return {entry.path for one in folders.values() for entry in one.entries}


def test_every_name_is_found_with_its_folder(driver):
    folders = walked(driver)
    assert set(folders) == {"/", "/a", "/a/b", "/c", "/alice"}
    assert paths(folders) == {
        *("/a", "/a/b", "/c", "/alice", "/top", "/link"),
        *("/a/file", "/a/b/deep", "/c/" + LONG, "/alice/hers"),
    }
    for one in folders.values():
        assert one.problem is None
        assert ".ckfs-dir" in one.own
        for entry in one.entries:
            assert not entry.problem and entry.name is not None and len(entry.binding) == 16
            assert os.path.lexists(os.path.join(driver.store, entry.place))
    kinds = {entry.path: entry.kind for entry in folders["/"].entries}
    assert kinds["/link"] == stat.S_IFLNK and kinds["/a"] == stat.S_IFDIR
    assert ".ckfs" in folders["/"].own
    sites = {one.folder.site.lease.site_id for one in folders.values()}
    assert len(sites) == 2


def test_a_damaged_record_stops_nothing_but_its_own_names(driver):
    record = driver.places["a"] / ".ckfs-dir"
    record.write_bytes(record.read_bytes()[:-1] + b"\0")
    folders = walked(driver)
    broken = [one for one in folders.values() if one.folder is None]
    assert [one.place for one in broken] == [driver.places["a"].name]
    assert isinstance(broken[0].problem, DirectoryRecordInvalid)
    assert len(broken[0].entries) == 2
    assert all(entry.name is None and entry.problem for entry in broken[0].entries)
    below = [one for one in folders.values() if one.path.startswith("/a/")]
    assert len(below) == 1 and below[0].folder is not None and below[0].problem is None
    assert "/c/" + LONG in paths(folders)


def test_a_swapped_folder_is_said_to_be_moved_and_still_walked(driver):
    first, second = driver.places["a"], driver.places["c"]
    first.rename(first.with_name("aside"))
    second.rename(first)
    first.with_name("aside").rename(second)
    folders = walked(driver)
    for path in ("/a", "/c"):
        assert isinstance(folders[path].problem, FolderMoved)
        assert folders[path].folder is not None
    assert "/c/file" in paths(folders) and "/a/" + LONG in paths(folders)


def test_a_site_copied_to_another_place_is_moved(driver, request):
    copy = driver.places["a"] / "x"
    shutil.copytree(driver.places["alice"], copy)
    folders = walked(driver)
    (found,) = (one for one in folders.values() if one.place.endswith("/x"))
    assert found.folder is not None
    if "plaintext" in request.node.name:
        assert isinstance(found.problem, FolderMoved)
    else:
        (entry,) = (one for one in folders["/a"].entries if one.text == "x")
        assert entry.name is None and "not written by this folder" in entry.problem


def test_a_planted_symlink_is_not_followed(driver, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    (driver.places["a"] / "planted").symlink_to(outside)
    shutil.rmtree(driver.places["c"])
    driver.places["c"].symlink_to(outside)
    folders = walked(driver)
    assert set(folders) == {"/", "/a", "/a/b", "/alice"}
    assert not any("secret" in path for path in paths(folders))


def test_a_lost_or_changed_sidecar_leaves_a_name_unreadable(driver, request):
    if "plaintext" in request.node.name:
        pytest.skip("plaintext names have no sidecars")
    (sidecar,) = driver.places["c"].glob(".ckfs-name.*")
    sidecar.unlink()
    (entry,) = walked(driver)["/c"].entries
    assert entry.name is None and "lost" in entry.problem


def test_a_store_without_a_driver_is_not_held(driver):
    assert not storelock.is_held(driver.store)
    lock = storelock.StoreLock(driver.store, driver.state_dir, read_only=False)
    assert storelock.is_held(driver.store)
    with OfflineStore.open(driver.store, driver.state_dir) as store:
        assert store.is_mounted()
        assert len(list(walk(store))) == 5
    lock.release()
    assert not storelock.is_held(driver.store)
