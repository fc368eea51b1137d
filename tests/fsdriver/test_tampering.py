"""What the store's owner can do to it, and what of that is found: the table of FORMAT.md 13.

Each attack is made between two mounts. One that is not found is written down here too, so that
the day on which it is found does not pass unnoticed.
"""

import hashlib
import os
import pathlib
import shutil
import stat

import pytest

from fsdriver.changes import Changes
from fsdriver.contentdb import FILE_NAME
from fsdriver.errors import (
    ChunkInvalid,
    ChunkSetMismatch,
    DirectoryRecordInvalid,
    HeaderInvalid,
    NameBindingMismatch,
    RolledBack,
    SizeMismatch,
    StoreRolledBack,
)
from fsdriver.format import base32hex
from tests.filesystem.driver import CALLER, Driver

SIZE, STRIDE = 4096, 4136
OLD = b"".join(bytes([number]) * SIZE for number in range(5))[: 4 * SIZE + 100]
OTHER = OLD[::-1]
EVEN = OLD[: 4 * SIZE]
LONG = "long" * 50


class Site:
    """A store with a few files, and its backing files between two mounts."""

    def __init__(self, folder: str) -> None:
        self.driver = Driver(folder)
        for name in ("folder", "other folder"):
            self.driver.mkdir(name)
        self.driver.write_file("file", OLD)
        self.driver.write_file("neighbour", OTHER)
        self.driver.write_file("folder/inner", OTHER)
        self.driver.write_file("even", EVEN)
        self.driver.write_file(LONG, OTHER)
        self.driver.fs.symlink(*self.driver.split("link"), b"file", CALLER)
        self.driver.fs.symlink(*self.driver.split("other link"), b"neighbour", CALLER)
        names = (
            "file",
            "neighbour",
            "even",
            LONG,
            "folder",
            "other folder",
            "folder/inner",
            "link",
        )
        self.places = {name: self.place(name) for name in (*names, "other link")}
        self.recovered: list[str] = []

    def place(self, path: str) -> pathlib.Path:
        return pathlib.Path(self.driver.backing_path(path))

    def raw(self, name: str) -> bytearray:
        return bytearray(self.places[name].read_bytes())

    def put(self, name: str, raw: bytes) -> None:
        self.places[name].write_bytes(raw)

    def reopen(self, **options) -> None:
        self.driver.close()
        self.driver.open(**options)
        self.watch()

    def watch(self) -> None:
        self.driver.tree.report = lambda _inode, error: self.recovered.append(str(error))

    def forget(self) -> None:
        """A host that has never seen the store; the driver must not run."""
        (known,) = pathlib.Path(self.driver.state_dir).rglob(FILE_NAME)
        known.unlink()

    def read(self, path: str = "file") -> bytes:
        return self.driver.read_file(path)

    def record(self, name: str, index: int) -> bytes:
        at = 512 + index * STRIDE
        return bytes(self.raw(name)[at : at + STRIDE])

    def set_record(self, name: str, index: int, record: bytes) -> None:
        raw = self.raw(name)
        raw[512 + index * STRIDE : 512 + (index + 1) * STRIDE] = record
        self.put(name, raw)


@pytest.fixture
def site(tmp_path):
    made = Site(str(tmp_path))
    yield made
    made.driver.close()


def modify(site):
    raw = site.raw("file")
    raw[512 + STRIDE + 500] ^= 1
    site.put("file", raw)


def swap_within(site):
    first, second = site.record("file", 1), site.record("file", 2)
    site.set_record("file", 1, second)
    site.set_record("file", 2, first)


def swap_across(site):
    site.set_record("file", 1, site.record("neighbour", 1))


def zero(site):
    site.set_record("file", 1, bytes(STRIDE))


def cut_at_a_border(site):
    site.put("file", site.raw("file")[: 512 + 3 * STRIDE])


def cut_to_the_header(site):
    site.put("file", site.raw("file")[:512])


def cut_to_nothing(site):
    site.put("file", b"")


def extend(site):
    site.put("file", site.raw("file") + bytes(STRIDE))


def older_chunk(site):
    old = site.record("file", 1)
    site.driver.write_file("file", b"new" * 1000, offset=SIZE)
    site.driver.checkpoint()
    site.set_record("file", 1, old)


def other_header(site):
    site.put("file", site.raw("neighbour")[:512] + site.raw("file")[512:])


def older_header(site):
    old = site.raw("file")[:512]
    site.driver.write_file("file", b"new" * 1000, offset=SIZE)
    site.driver.checkpoint()
    site.put("file", old + site.raw("file")[512:])


def copy_to_another_name(site):
    shutil.copyfile(site.places["neighbour"], site.places["file"])


def swap_names(site):
    aside = site.places["file"].with_name("aside")
    site.places["file"].rename(aside)
    site.places["neighbour"].rename(site.places["file"])
    aside.rename(site.places["neighbour"])


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (modify, ChunkInvalid),
        (swap_within, ChunkInvalid),
        (swap_across, ChunkInvalid),
        (zero, ChunkInvalid),
        (cut_at_a_border, SizeMismatch),
        (cut_to_the_header, SizeMismatch),
        (cut_to_nothing, HeaderInvalid),
        (extend, SizeMismatch),
        (older_chunk, ChunkSetMismatch),
        (older_header, RolledBack),
        (other_header, NameBindingMismatch),
        (copy_to_another_name, NameBindingMismatch),
        (swap_names, NameBindingMismatch),
    ],
)
def test_found_before_the_file_was_read_to_its_end(site, attack, error):
    attack(site)
    site.reopen()
    with pytest.raises(error):
        site.read()


def test_an_older_chunk_is_not_found_before_every_chunk_was_read(site):
    older_chunk(site)
    site.reopen()
    handle = site.driver.fs.open(site.driver.number("file"), os.O_RDONLY)
    assert bytes(site.driver.fs.read(handle, SIZE, SIZE)) == OLD[SIZE : 2 * SIZE]
    for index in range(4):
        site.driver.fs.read(handle, index * SIZE, SIZE)
    with pytest.raises(ChunkSetMismatch):
        site.driver.fs.read(handle, 4 * SIZE, SIZE)
    with pytest.raises(ChunkSetMismatch):
        site.driver.fs.read(handle, 0, 1)
    site.driver.fs.release(handle)


def test_a_file_that_was_moved_to_another_folder_is_shown_as_foreign(site):
    moved = site.places["other folder"] / site.places["folder/inner"].name
    site.places["folder/inner"].rename(moved)
    site.reopen()
    ((name, number),) = site.driver.names(site.driver.number("folder")).items()
    assert name == b"inner"
    with pytest.raises(RolledBack, match="deleted in the store"):
        site.driver.fs.open(number, os.O_RDONLY)
    (name,) = site.driver.names(site.driver.number("other folder"))
    assert name.endswith(b".ckfs-foreign")


def test_exchanged_folders_are_found_when_one_is_entered(site):
    aside = site.places["folder"].with_name("aside")
    site.places["folder"].rename(aside)
    site.places["other folder"].rename(site.places["folder"])
    aside.rename(site.places["other folder"])
    site.reopen()
    with pytest.raises(DirectoryRecordInvalid, match="another name"):
        site.driver.names(site.driver.number("folder"))


def test_a_folder_without_its_record_is_found_when_it_is_entered(site):
    (site.places["folder"] / ".ckfs-dir").unlink()
    site.reopen()
    with pytest.raises(DirectoryRecordInvalid, match=r"no \.ckfs-dir"):
        site.driver.names(site.driver.number("folder"))


def test_exchanged_symlinks_are_found_when_one_is_read(site):
    target = os.readlink(site.places["other link"])
    site.places["link"].unlink()
    site.places["link"].symlink_to(target)
    site.reopen()
    with pytest.raises(NameBindingMismatch, match="written under another name"):
        site.driver.fs.readlink(site.driver.number("link"))


def dirty_header(site) -> bytes:
    """What anybody sees who looks at the store while the file is being extended."""
    handle = site.driver.fs.open(site.driver.number("even"), os.O_RDWR)
    site.driver.fs.write(handle, 4 * SIZE, b"x")
    seen = bytes(site.raw("even")[:512])
    site.driver.fs.setattr(site.driver.number("even"), Changes(size=4 * SIZE))
    site.driver.fs.release(handle)
    site.driver.checkpoint()
    assert site.read("even") == EVEN
    return seen


def put_header(site, header: bytes) -> None:
    site.put("even", header + site.raw("even")[512:])


def test_a_dirty_header_of_a_session_that_ended_is_found_at_open(site):
    put_header(site, dirty_header(site))
    site.reopen()
    with pytest.raises(RolledBack, match="older file was put back"):
        site.read("even")
    site.driver.close()
    site.forget()
    site.driver.open()
    with pytest.raises(HeaderInvalid, match="does not know to have stopped"):
        site.read("even")
    assert site.recovered == []


def test_a_dirty_header_of_the_running_session_is_found_at_open(site):
    put_header(site, dirty_header(site))
    with pytest.raises(RolledBack):
        site.read("even")


def test_a_dirty_header_of_a_host_without_its_record_is_found_at_open(site):
    handle = site.driver.fs.open(site.driver.number("even"), os.O_RDWR)
    site.driver.fs.write(handle, 4 * SIZE, b"x")
    site.driver.drop()
    (record,) = pathlib.Path(site.driver.state_dir).rglob("sessions.json")
    record.unlink()
    site.driver.open()
    with pytest.raises(HeaderInvalid, match="-o recover"):
        site.read("even")


@pytest.mark.parametrize("remembers", [True, False])
def test_an_empty_files_header_before_a_written_one_is_found_at_open(site, remembers):
    """Not dirty, but it does not fit: what tears a write to an empty file looks the same."""
    number = site.driver.fs.mknod(*site.driver.split("empty"), 0o644, 0, CALLER).number
    place = site.place("empty")
    empty = place.read_bytes()
    assert len(empty) == 512
    site.driver.write_file("empty", b"content")
    place.write_bytes(empty + place.read_bytes()[512:])
    assert site.driver.fs.getattr(number).size == 7
    for _ in range(2):
        site.driver.close()
        if not remembers:
            site.forget()
        site.driver.open()
        with pytest.raises(RolledBack if remembers else SizeMismatch):
            site.read("empty")


def killed(site) -> None:
    """The driver is stopped while it writes, and the store mounted again on this host."""
    handle = site.driver.fs.open(site.driver.number("neighbour"), os.O_RDWR)
    site.driver.fs.write(handle, 0, OTHER[:1])
    site.driver.drop()
    site.driver.open()
    site.watch()


def test_after_a_stop_what_a_checkpoint_made_durable_is_never_a_hole(site):
    site.driver.checkpoint()
    zero(site)
    killed(site)
    handle = site.driver.fs.open(site.driver.number("file"), os.O_RDONLY)
    assert bytes(site.driver.fs.read(handle, 0, SIZE)) == OLD[:SIZE]
    with pytest.raises(ChunkInvalid):
        site.driver.fs.read(handle, SIZE, SIZE)
    site.driver.fs.release(handle)
    with pytest.raises(ChunkInvalid):
        site.read()


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (modify, ChunkInvalid),
        (cut_at_a_border, SizeMismatch),
        (cut_to_the_header, SizeMismatch),
        (older_chunk, ChunkSetMismatch),
        (older_header, RolledBack),
        (other_header, NameBindingMismatch),
        (copy_to_another_name, NameBindingMismatch),
    ],
)
def test_after_a_stop_what_a_checkpoint_made_durable_is_vetted_as_ever(site, attack, error):
    site.driver.checkpoint()
    attack(site)
    killed(site)
    with pytest.raises(error):
        site.read()


def test_after_a_stop_a_header_from_before_a_checkpoint_is_found_at_open(site):
    """Its session never ended, but this host knows that it was not the last."""
    put_header(site, dirty_header(site))
    killed(site)
    with pytest.raises(RolledBack):
        site.read("even")


def test_an_old_header_is_found_at_open_by_a_mount_with_recover(site):
    put_header(site, dirty_header(site))
    site.reopen(recover=True)
    with pytest.raises(RolledBack):
        site.read("even")


# What only the host's memory finds


def test_a_whole_file_of_before_is_found_at_open(site):
    old = site.raw("file")
    site.driver.write_file("file", b"new" * 1000)
    for stop in (site.reopen, lambda: killed(site)):
        site.driver.checkpoint()
        site.put("file", old)
        stop()
        with pytest.raises(RolledBack, match="older file was put back"):
            site.read()


def test_a_whole_file_of_before_is_found_by_the_mount_that_wrote_the_newer_one(site):
    old = site.raw("file")
    site.driver.write_file("file", b"new" * 1000)
    site.driver.checkpoint()
    site.put("file", old)
    with pytest.raises(RolledBack):
        site.read()


def test_a_whole_store_of_before_is_not_mounted(site, tmp_path):
    shutil.copytree(site.driver.store, tmp_path / "before", symlinks=True)
    site.driver.write_file("file", b"new" * 1000)
    site.driver.close()
    shutil.rmtree(site.driver.store)
    shutil.copytree(tmp_path / "before", site.driver.store, symlinks=True)
    for read_only in (False, True):
        with pytest.raises(StoreRolledBack, match="older than this host knows"):
            site.driver.open(read_only=read_only)


def test_a_store_without_its_journal_is_not_mounted(site):
    site.driver.close()
    shutil.rmtree(os.path.join(site.driver.store, ".ckfs", "journal"))
    with pytest.raises(StoreRolledBack):
        site.driver.open()


@pytest.mark.parametrize("name", ["file", "folder", "link", LONG])
def test_what_was_deleted_in_the_store_is_listed_until_the_loss_is_accepted(site, name):
    """Not to be opened, and for `ls` and `rm` a file, whatever it was."""
    place = site.places[name]
    site.driver.checkpoint()
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()
    for _ in range(2):
        number = site.driver.names()[name.encode()]
        assert stat.S_ISREG(site.driver.fs.getattr(number).mode)
        with pytest.raises(RolledBack, match="deleted in the store"):
            site.driver.fs.open(number, os.O_RDONLY)
        with pytest.raises(RolledBack, match="deleted in the store"):
            site.driver.fs.open(site.driver.number(name), os.O_RDWR)
        site.reopen()
    site.driver.fs.unlink(*site.driver.split(name))
    for _ in range(2):
        assert name.encode() not in site.driver.names()
        with pytest.raises(FileNotFoundError):
            site.driver.number(name)
        site.reopen()


def test_a_file_under_its_name_before_the_last_is_found_at_open(site):
    """Rotating a log: the old one is still valid under the name that it had."""
    site.driver.fs.rename(*site.driver.split("file"), *site.driver.split("file.1"))
    site.driver.write_file("file", b"today")
    site.driver.checkpoint()
    shutil.copyfile(site.place("file.1"), site.place("file"))
    site.reopen()
    with pytest.raises(RolledBack, match="in its place"):
        site.read()
    assert site.read("file.1") == OLD


def test_a_file_under_its_name_before_the_last_is_found_where_nothing_is(site):
    old = site.places["file"]
    site.driver.fs.rename(*site.driver.split("file"), *site.driver.split("file.1"))
    site.driver.checkpoint()
    shutil.copyfile(site.place("file.1"), old)
    site.reopen()
    with pytest.raises(RolledBack, match="no such entry"):
        site.read()


def test_a_file_that_was_removed_is_found_when_it_is_put_back(site):
    old = site.raw("file")
    site.driver.checkpoint()
    site.driver.fs.unlink(*site.driver.split("file"))
    site.driver.checkpoint()
    site.put("file", old)
    site.reopen()
    with pytest.raises(RolledBack, match="no such entry"):
        site.read()


def test_a_folder_under_its_name_before_the_last_is_found_when_it_is_entered(site):
    site.driver.fs.rename(*site.driver.split("folder"), *site.driver.split("moved"))
    site.driver.checkpoint()
    site.place("moved").rename(site.places["folder"])
    site.reopen()
    with pytest.raises(RolledBack, match="no such entry"):
        site.driver.names(site.driver.number("folder"))


def test_a_symlink_of_three_links_under_another_name_is_found_when_it_is_read(site):
    for name in ("second", "third"):
        site.driver.fs.link(site.driver.number("link"), *site.driver.split(name))
    text = os.readlink(site.place("third"))
    site.places["other link"].unlink()
    site.places["other link"].symlink_to(text)
    site.reopen()
    with pytest.raises(RolledBack, match="in its place"):
        site.driver.fs.readlink(site.driver.number("other link"))


def test_a_file_of_five_links_under_another_name_is_found_at_open(site):
    for count in range(4):
        site.driver.fs.link(site.driver.number("file"), *site.driver.split(f"link {count}"))
    site.driver.checkpoint()
    shutil.copyfile(site.places["file"], site.places["neighbour"])
    site.reopen()
    with pytest.raises(RolledBack, match="in its place"):
        site.read("neighbour")


def test_a_short_name_that_was_made_a_long_one_is_foreign(site):
    """Both names would open as the same file, and a listing would have it twice."""
    place = site.places["file"]
    text = place.name.encode()
    digest = base32hex.encode(hashlib.sha256(text).digest())
    place.with_name(".ckfs-name." + digest).write_bytes(text)
    shutil.copyfile(place, place.with_name(".ckfs-long." + digest))
    site.reopen()
    names = list(site.driver.names())
    assert names.count(b"file") == 1
    assert sum(name.endswith(b".ckfs-foreign") for name in names) == 1
    assert site.read() == OLD


@pytest.mark.parametrize("nth", [0, 1])
def test_a_symlinks_text_of_a_rename_is_of_no_use_under_a_third_name(site, nth):
    seen = []
    rename = site.driver.backing.rename

    def watched(folder, name, *rest):
        if os.path.islink(f"/proc/self/fd/{folder}/{name}"):
            seen.append(os.readlink(name, dir_fd=folder))
        rename(folder, name, *rest)

    site.driver.backing.rename = watched
    site.driver.fs.rename(*site.driver.split("link"), *site.driver.split("moved"))
    texts = list(dict.fromkeys(seen))
    assert len(texts) == 2
    site.places["file"].unlink()
    site.places["file"].symlink_to(texts[nth])
    site.reopen()
    with pytest.raises(NameBindingMismatch):
        site.driver.fs.readlink(site.driver.number("file"))


# What this version does not find


def test_not_found_on_a_host_that_remembers_nothing_a_whole_file_of_before(site):
    old = site.raw("file")
    site.driver.write_file("file", b"new" * 1000)
    site.driver.close()
    site.put("file", old)
    site.forget()
    site.driver.open()
    assert site.read() == OLD


def test_not_found_on_a_host_that_learns_a_file_that_was_deleted_before(site):
    site.driver.close()
    site.places["file"].unlink()
    site.forget()
    site.driver.open()
    assert b"file" not in site.driver.names()


def test_not_found_modes_owners_and_times(site):
    site.places["file"].chmod(0o4777)
    os.utime(site.places["file"], ns=(1, 2))
    site.reopen()
    status = site.driver.fs.getattr(site.driver.number("file"))
    assert (status.mode & 0o7777, status.mtime_ns) == (0o4777, 2)


def test_not_found_another_kind_of_node_under_a_name(site):
    site.places["file"].unlink()
    os.mkfifo(site.places["file"])
    site.reopen()
    status = site.driver.fs.getattr(site.driver.number("file"))
    assert status.mode & 0o170000 == 0o010000


def test_not_found_but_reported_a_file_cut_since_the_last_checkpoint_before_a_stop(site):
    """Nothing says that it had been longer on the disk."""
    cut_at_a_border(site)
    killed(site)
    assert site.read() == OLD[: 3 * SIZE]
    assert len(site.recovered) == 1
    assert "was being written when its driver stopped" in site.recovered[0]


def test_not_found_but_reported_a_chunk_zeroed_since_the_last_checkpoint_before_a_stop(site):
    zero(site)
    killed(site)
    assert site.read() == OLD[:SIZE] + bytes(SIZE) + OLD[2 * SIZE :]
    assert len(site.recovered) == 1
    assert "1 chunks were never written whole" in site.recovered[0]


def test_not_found_but_reported_what_was_deleted_before_a_stop(site):
    """The driver may have removed it itself, just before it stopped."""
    site.driver.checkpoint()
    site.places["file"].unlink()
    site.driver.drop()
    said = []
    site.driver.open(report=lambda _inode, error: said.append(str(error)))
    assert b"file" not in site.driver.names()
    assert len(said) == 1
    assert "is gone since the last stop" in said[0]


def test_not_found_but_reported_an_old_header_by_a_host_that_remembers_nothing(site):
    """With -o recover an administrator vouches for all that other hosts left."""
    put_header(site, dirty_header(site))
    site.driver.close()
    site.forget()
    site.driver.open(recover=True)
    site.watch()
    assert site.read("even") == EVEN
    assert len(site.recovered) == 1


def test_not_found_an_attribute_that_was_removed_or_is_older(site):
    number = site.driver.number("file")
    for value in (b"old", b"new"):
        try:
            site.driver.fs.setxattr(number, b"user.tag", value, CALLER)
        except OSError:
            pytest.skip("the filesystem of the temporary folder has no user attributes")
        if value == b"old":
            (attribute,) = os.listxattr(site.places["file"])
            before = os.getxattr(site.places["file"], attribute)
    os.setxattr(site.places["file"], attribute, before)
    assert site.driver.fs.getxattr(number, b"user.tag") == b"old"
    os.removexattr(site.places["file"], attribute)
    assert site.driver.fs.listxattr(number) == []
