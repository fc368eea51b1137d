"""The store changed behind the driver's back: found, said once, and only that file suffers."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from pathlib import Path

import pytest

from fsdriver import store as stores
from fsdriver.backing import Backing
from fsdriver.errors import CkfsError
from fsdriver.filesystem import Filesystem
from fsdriver.format.geometry import HEADER_SIZE, RECORD_OVERHEAD
from fsdriver.sites import Sites
from fsdriver.tree import Tree
from keyhierarchy.errors import KeyHierarchyError
from keyhierarchy.hierarchy import Hierarchy
from tests.mounted.driving import fails

pytestmark = pytest.mark.mounted

CHUNK = 4096
STRIDE = CHUNK + RECORD_OVERHEAD
CONTENT = random.Random(5).randbytes(3 * CHUNK + 100)
NEIGHBOUR = b"not touched" * 100


@pytest.fixture
def damaged(fresh):
    """`damaged(how)`: the file's backing bytes changed by `how`, and mounted with cold caches."""
    driven = fresh("--chunk-size", str(CHUNK))
    place = driven.mount() / "file"
    place.write_bytes(CONTENT)
    (driven.mountpoint / "neighbour").write_bytes(NEIGHBOUR)
    backing = driven.backing_of(place)
    driven.umount()

    def change(how):
        raw = bytearray(backing.read_bytes())
        backing.write_bytes(how(raw) or raw)
        driven.mount()
        return driven, place, backing

    return change


def unchanged(_raw):
    """For what is changed later in the test."""


def check_refused(driven, place, *words, **facts):
    """EIO, however often it is tried, one line about it, and the mount lives on."""
    for _ in range(3):
        with fails(errno.EIO), place.open("rb") as file:
            while file.read(1000):
                pass
    (line,) = driven.refusals()
    assert line["path"] == f"/{place.name}"
    for word in words:
        assert word in line["reason"], line
    for name, value in facts.items():
        assert line.get(name) == value, line
    assert "file" in os.listdir(driven.mountpoint)
    place.stat()
    assert (driven.mountpoint / "neighbour").read_bytes() == NEIGHBOUR
    place.unlink()
    place.write_bytes(b"again")
    assert place.read_bytes() == b"again"
    assert driven.refusals() in ([], [line])


def record(index: int) -> slice:
    return slice(HEADER_SIZE + index * STRIDE, HEADER_SIZE + (index + 1) * STRIDE)


def flip(raw: bytearray, bit: int) -> None:
    raw[bit // 8] ^= 1 << bit % 8


class Unmounted:
    """A store read by the driver's own code without a mount, anew for each question."""

    def __init__(self, driven):
        document = stores.load(str(driven.store))
        self.hierarchy = Hierarchy.open(
            stores.control_folder(str(driven.store)),
            str(driven.state),
            bytes.fromhex(document.store_id),
        )
        self.document = document
        self.store = str(driven.store)

    def read(self, name: bytes) -> bytes:
        backing = Backing()
        tree = Tree(
            backing,
            backing.open_root(self.store),
            Sites(self.hierarchy),
            chunk_size=self.document.chunk_size,
            plaintext_names=False,
        )
        filesystem = Filesystem(tree, read_only=True)
        try:
            number = filesystem.lookup(1, name).number
            handle = filesystem.open(number, os.O_RDONLY)
            return bytes(filesystem.read(handle, 0, 1 << 20))
        finally:
            filesystem.close()


def test_every_bit_of_a_header_and_of_a_chunk(fresh):
    driven = fresh("--chunk-size", str(CHUNK))
    place = driven.mount() / "file"
    place.write_bytes(CONTENT[:100])
    backing = driven.backing_of(place)
    driven.umount()
    whole = Unmounted(driven)
    raw = backing.read_bytes()
    assert len(raw) == HEADER_SIZE + 100 + RECORD_OVERHEAD
    assert whole.read(b"file") == CONTENT[:100]
    descriptor = os.open(backing, os.O_RDWR)
    missed = []
    for bit in range(len(raw) * 8):
        at, mask = bit // 8, 1 << bit % 8
        os.pwrite(descriptor, bytes([raw[at] ^ mask]), at)
        try:
            whole.read(b"file")
        except (CkfsError, KeyHierarchyError):
            pass
        else:
            missed.append(bit)
        os.pwrite(descriptor, raw[at : at + 1], at)
    os.close(descriptor)
    assert not missed
    assert whole.read(b"file") == CONTENT[:100]
    whole.hierarchy.close()


@pytest.mark.parametrize("byte", [0, 4, 5, 8, 9, 13, 20, 40, 60, 100, 127, 128, 200, 400, 511])
def test_a_flipped_bit_of_the_header(damaged, byte):
    driven, place, _ = damaged(lambda raw: flip(raw, byte * 8 + 3))
    with pytest.raises(OSError) as caught:  # noqa: PT011 which code is checked below
        place.read_bytes()
    # What is no longer this format, site or key is said as that; all else is EIO.
    expected = {errno.EIO, errno.EOPNOTSUPP, errno.EKEYREJECTED, errno.ENOKEY}
    assert caught.value.errno in expected
    (line,) = driven.refusals()
    assert line["path"] == "/file"
    assert line["reason"]
    assert (driven.mountpoint / "neighbour").read_bytes() == NEIGHBOUR


@pytest.mark.parametrize("at", [0, 23, 24, 1000, STRIDE - 17, STRIDE - 1])
def test_a_flipped_bit_of_a_chunk(damaged, at):
    driven, place, _ = damaged(lambda raw: flip(raw, (record(1).start + at) * 8))
    check_refused(driven, place, "chunk 1", chunk="1")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda raw: raw.__setitem__(record(1), bytes(STRIDE)), ["chunk 1"]),
        (lambda raw: raw[: record(1).stop], ["cut"]),
        (lambda raw: raw[:-1], ["cut"]),
        (lambda raw: raw[:HEADER_SIZE], ["cut"]),
        (lambda raw: raw[:100], ["cut"]),
        (lambda raw: raw + b"x", ["extended"]),
        (lambda raw: raw + raw[record(0)], ["extended"]),
        (
            lambda raw: (
                raw[: record(0).start] + raw[record(1)] + raw[record(0)] + raw[record(2).start :]
            ),
            ["chunk 0"],
        ),
        (lambda raw: raw[: record(1).start] + raw[record(0)] + raw[record(2).start :], ["chunk 1"]),
        (lambda raw: bytes(len(raw)), []),
    ],
    ids=[
        "a chunk of zeros",
        "cut at a chunk",
        "cut by a byte",
        "cut after the header",
        "cut in the header",
        "extended by a byte",
        "extended by a chunk",
        "two chunks swapped",
        "a chunk doubled",
        "all zeros",
    ],
)
def test_chunks(damaged, how, words):
    driven, place, _ = damaged(how)
    check_refused(driven, place, *words)


def test_a_file_of_no_bytes_is_damage(damaged):
    driven, place, backing = damaged(unchanged)
    driven.umount()
    backing.write_bytes(b"")
    driven.mount()
    check_refused(driven, place, "cut")


def test_an_older_chunk_put_back_is_found_by_reading_the_whole_file(damaged):
    driven, place, backing = damaged(unchanged)
    old = backing.read_bytes()[record(1)]
    with place.open("r+b") as file:
        file.seek(CHUNK)
        file.write(b"new" * 100)
    driven.umount()
    with backing.open("r+b") as file:
        file.seek(record(1).start)
        file.write(old)
    driven.mount()
    check_refused(driven, place, "older version")


def test_an_older_chunk_is_found_though_the_kernel_has_pages_of_an_earlier_open(fresh):
    driven = fresh("--chunk-size", str(CHUNK))
    place = driven.mount() / "file"
    place.write_bytes(bytes(100 * CHUNK))
    backing = driven.backing_of(place)
    old = backing.read_bytes()[record(0)]
    with place.open("r+b") as file:
        file.write(b"new" * 100)
    driven.umount()
    with backing.open("r+b") as file:
        file.seek(record(0).start)
        file.write(old)
    driven.mount()
    with place.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert file.read(CHUNK) == bytes(CHUNK), "one older chunk alone cannot be told"
    for _ in range(2):
        with fails(errno.EIO):
            place.read_bytes()
    (line,) = driven.refusals()
    assert "older version" in line["reason"]


def test_a_chunk_of_another_file(driven):
    one, two = driven.mountpoint / "file", driven.mountpoint / "neighbour"
    one.write_bytes(CONTENT)
    two.write_bytes(NEIGHBOUR[:1] * len(CONTENT))
    places = [driven.backing_of(one), driven.backing_of(two)]
    driven.umount()
    head = places[0].read_bytes()[:HEADER_SIZE]
    places[0].write_bytes(head + places[1].read_bytes()[HEADER_SIZE:])
    driven.mount()
    with fails(errno.EIO):
        one.read_bytes()
    (line,) = driven.refusals()
    assert line["path"] == "/file"
    assert line["chunk"] == "0"
    assert two.read_bytes() == NEIGHBOUR[:1] * len(CONTENT)


@pytest.mark.parametrize("kind", ["file", "folder", "symlink"])
def test_two_swapped_in_the_store(driven, kind):
    place = driven.mountpoint
    for name in ("one", "two"):
        if kind == "file":
            (place / name).write_bytes(name.encode())
        elif kind == "folder":
            (place / name).mkdir()
            (place / name / "inner").write_bytes(name.encode())
        else:
            (place / name).symlink_to(name)
    driven.umount()
    one, two = (one for one in driven.store.iterdir() if not one.name.startswith(".ckfs"))
    os.rename(one, driven.store / "kept")
    os.rename(two, one)
    os.rename(driven.store / "kept", two)
    driven.mount()
    for name in ("one", "two"):
        assert name in os.listdir(place)
        with fails(errno.EIO):
            if kind == "file":
                (place / name).read_bytes()
            elif kind == "folder":
                os.listdir(place / name)
            else:
                os.readlink(place / name)
    assert sorted(line["path"] for line in driven.refusals()) == ["/one", "/two"]


def test_a_file_moved_to_another_folder(driven):
    place = driven.mountpoint
    (place / "folder").mkdir()
    (place / "file").write_bytes(b"content")
    shutil.move(driven.backing_of(place / "file"), driven.backing_of(place / "folder"))
    driven.remount()
    (shown,) = os.listdir(place / "folder")
    assert shown.endswith(".ckfs-foreign")
    with fails(errno.EIO):
        (place / "folder" / shown).read_bytes()
    assert {line["event"] for line in driven.refusals()} == {"refused"}
    with fails(errno.ENOENT):
        (place / "file").stat()


def look_into(path, mode):
    if stat.S_ISDIR(mode):
        os.listdir(path)
    elif stat.S_ISLNK(mode):
        os.readlink(path)
    else:
        path.read_bytes()


@pytest.mark.parametrize("mode", ["encrypted", "plaintext"])
def test_foreign_entries_are_shown_and_never_followed(fresh, mode):
    driven = fresh(*(["--plaintext-names"] if mode == "plaintext" else []))
    place = driven.mount()
    (place / "own").write_bytes(NEIGHBOUR)
    driven.umount()
    secret = driven.folder / "secret"
    secret.write_bytes(b"of the host, not of the store")
    outside = driven.folder / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"kept")
    store = driven.store
    (store / "foreign-file").write_bytes(b"plain")
    (store / "foreign-folder").mkdir()
    (store / "foreign-folder" / "inner").write_bytes(b"plain")
    (store / "foreign-link").symlink_to(secret)
    (store / "foreign-link-to-folder").symlink_to(outside)
    os.mkfifo(store / "foreign-fifo")
    (store / os.fsdecode(b"foreign-\xff\xfe")).write_bytes(b"x")
    (store / ("foreign-" + "x" * 247)).write_bytes(b"x")
    (store / "foreign-\n").write_bytes(b"x")
    driven.mount()
    names = os.listdir(place)
    assert "own" in names
    assert len(names) == 9
    for name in names:
        if name == "own":
            continue
        assert name.startswith("foreign-")
        status = (place / name).lstat()
        if not stat.S_ISFIFO(status.st_mode):
            with fails(errno.EIO):
                look_into(place / name, status.st_mode)
    assert (place / "own").read_bytes() == NEIGHBOUR
    lines = driven.refusals()
    assert len(lines) >= 6
    assert all(line["event"] == "refused" for line in lines)
    assert secret.read_bytes() == b"of the host, not of the store"
    assert [one.name for one in outside.iterdir()] == ["victim"]
    # What is foreign can be taken away through the mount, or is left alone.
    for name in names:
        path = place / name
        if name != "own" and not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
    driven.refusals()
    assert secret.exists()
    assert (outside / "victim").exists()


PLANTS = {
    "fifo": os.mkfifo,
    "symlink": lambda place: os.symlink("/etc/passwd", place),
    "folder": os.mkdir,
}


@pytest.mark.parametrize("kind", PLANTS)
def test_something_else_under_a_files_name(driven, kind):
    place = driven.mountpoint / "file"
    place.write_bytes(CONTENT)
    (driven.mountpoint / "neighbour").write_bytes(NEIGHBOUR)
    backing = driven.backing_of(place)
    driven.umount()
    backing.unlink()
    PLANTS[kind](backing)
    driven.mount()
    assert sorted(os.listdir(driven.mountpoint)) == ["file", "neighbour"]
    if kind == "folder":
        with fails(errno.EIO):
            os.listdir(place)
    elif kind == "symlink":
        with fails(errno.EIO):
            place.read_bytes()
    else:
        # A FIFO has no content to authenticate; the kernel shows it as one, and it is empty.
        assert stat.S_ISFIFO(place.lstat().st_mode)
        with fails(errno.ENXIO):
            os.open(place, os.O_WRONLY | os.O_NONBLOCK)
    driven.refusals()
    assert (driven.mountpoint / "neighbour").read_bytes() == NEIGHBOUR


def test_a_fifo_planted_while_the_file_is_known(driven):
    """The kernel still takes it for a file, so the driver is asked to open it: it must not hang."""
    place = driven.mountpoint / "file"
    place.write_bytes(CONTENT)
    os.stat(place)
    backing = driven.backing_of(place)
    backing.unlink()
    os.mkfifo(backing)
    with pytest.raises(OSError) as caught:  # noqa: PT011 checked below
        place.read_bytes()
    assert caught.value.errno in (errno.EIO, errno.ESTALE)
    driven.refusals()
    (driven.mountpoint / "alive").write_bytes(b"x")


@pytest.mark.parametrize("how", ["deleted", "changed", "cut", "of another folder"])
def test_a_folders_record(driven, how):
    place = driven.mountpoint / "folder"
    place.mkdir()
    (place / "inner").write_bytes(b"x")
    (driven.mountpoint / "other").mkdir()
    record = driven.backing_of(place) / ".ckfs-dir"
    other = driven.backing_of(driven.mountpoint / "other") / ".ckfs-dir"
    driven.umount()
    raw = record.read_bytes()
    if how == "deleted":
        record.unlink()
    elif how == "changed":
        record.write_bytes(raw[:50] + bytes([raw[50] ^ 1]) + raw[51:])
    elif how == "cut":
        record.write_bytes(raw[:50])
    else:
        record.write_bytes(other.read_bytes())
    driven.mount()
    assert sorted(os.listdir(driven.mountpoint)) == ["folder", "other"]
    assert place.is_dir()
    with fails(errno.EIO):
        os.listdir(place)
    with fails(errno.EIO):
        (place / "inner").read_bytes()
    (line,) = driven.refusals()
    assert line["path"] == "/folder"
    assert os.listdir(driven.mountpoint / "other") == []


def test_every_bit_of_a_folders_record(fresh):
    driven = fresh()
    place = driven.mount() / "folder"
    place.mkdir()
    (place / "file").write_bytes(b"x")
    record = driven.backing_of(place) / ".ckfs-dir"
    driven.umount()
    whole = Unmounted(driven)
    raw = record.read_bytes()
    root = Path(driven.store) / ".ckfs-dir"
    for target in (record, root):
        raw = target.read_bytes()
        for bit in range(len(raw) * 8):
            changed = bytearray(raw)
            flip(changed, bit)
            target.write_bytes(changed)
            with pytest.raises((CkfsError, KeyHierarchyError)):
                list_folder(whole, b"folder")
        target.write_bytes(raw)
    list_folder(whole, b"folder")
    whole.hierarchy.close()


def list_folder(whole, name):
    backing = Backing()
    root = backing.open_root(whole.store)
    try:
        tree = Tree(backing, root, Sites(whole.hierarchy), chunk_size=65536, plaintext_names=False)
    except BaseException:
        os.close(root)
        raise
    filesystem = Filesystem(tree, read_only=True)
    try:
        filesystem.opendir(filesystem.lookup(1, name).number)
    finally:
        filesystem.close()


def test_a_files_header_of_another_store(fresh):
    one, two = fresh(), fresh()
    for driven in (one, two):
        (driven.mount() / "file").write_bytes(driven.folder.name.encode())
    places = [driven.backing_of(driven.mountpoint / "file") for driven in (one, two)]
    for driven in (one, two):
        driven.umount()
    shutil.copyfile(places[1], places[0])
    one.mount()
    with pytest.raises(OSError) as caught:  # noqa: PT011 checked below
        (one.mountpoint / "file").read_bytes()
    assert caught.value.errno in (errno.EIO, errno.EKEYREJECTED)
    assert len(one.refusals()) == 1


def test_an_attribute_changed_in_the_store(driven):
    place = driven.mountpoint / "file"
    place.write_bytes(b"x")
    os.setxattr(place, "user.k", b"value")
    os.setxattr(place, "user.other", b"kept")
    backing = driven.backing_of(place)
    attributes = {name: os.getxattr(backing, name) for name in os.listxattr(backing)}
    first, second = attributes
    os.setxattr(backing, first, attributes[second])
    os.setxattr(backing, "user.ckfs.abc", b"foreign")
    results = []
    for name in ("user.k", "user.other"):
        try:
            results.append(os.getxattr(place, name))
        except OSError as error:
            results.append(error.errno)
    assert errno.EIO in results
    assert len(results) == 2
    assert sorted(os.listxattr(place)) == ["user.k", "user.other"]
    assert len(driven.refusals()) == 2
