"""The store changed behind the driver's back: found, said once, and only that file suffers."""

from __future__ import annotations

import errno
import os
import random
import shutil
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
from tests.mounted.driving import fails, finish

pytestmark = pytest.mark.mounted

CHUNK = 4096
STRIDE = CHUNK + RECORD_OVERHEAD
CONTENT = random.Random(5).randbytes(3 * CHUNK + 100)
NEIGHBOUR = b"not touched" * 100


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
    assert place.name in os.listdir(driven.mountpoint)
    place.stat()
    assert (driven.mountpoint / "neighbour").read_bytes() == NEIGHBOUR
    place.unlink()
    place.write_bytes(b"again")
    assert place.read_bytes() == b"again"
    assert driven.refusals() == []


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


HEADER_BYTES = (0, 4, 5, 8, 9, 13, 20, 40, 60, 100, 127, 128, 200, 400, 511)
IN_RECORD = (0, 23, 24, 1000, STRIDE - 17, STRIDE - 1)
CHANGES = {
    "a chunk of zeros": (lambda raw, _: raw.__setitem__(record(1), bytes(STRIDE)), "chunk 1"),
    "cut at a chunk": (lambda raw, _: raw[: record(1).stop], "cut"),
    "cut by a byte": (lambda raw, _: raw[:-1], "cut"),
    "cut after the header": (lambda raw, _: raw[:HEADER_SIZE], "cut"),
    "cut in the header": (lambda raw, _: raw[:100], "cut"),
    "cut to nothing": (lambda _raw, _: b"", "cut"),
    "extended by a byte": (lambda raw, _: raw + b"x", "extended"),
    "extended by a chunk": (lambda raw, _: raw + raw[record(0)], "extended"),
    "two chunks swapped": (
        lambda raw, _: (
            raw[: record(0).start] + raw[record(1)] + raw[record(0)] + raw[record(2).start :]
        ),
        "chunk 0",
    ),
    "a chunk doubled": (
        lambda raw, _: raw[: record(1).start] + raw[record(0)] + raw[record(2).start :],
        "chunk 1",
    ),
    "an older chunk": (lambda raw, old: raw.__setitem__(record(1), old[record(1)]), "older"),
    "all zeros": (lambda raw, _: bytes(len(raw)), ""),
}


@pytest.fixture(scope="module")
def spoiled(start):
    """A file for each way to spoil one, spoiled while nothing was mounted, and mounted anew."""
    ways = {name: how for name, (how, _word) in CHANGES.items()}
    for byte in HEADER_BYTES:
        bit = byte * 8 + 3
        ways[f"header {byte}"] = lambda raw, _, bit=bit: flip(raw, bit)
    for at in IN_RECORD:
        bit = (record(1).start + at) * 8
        ways[f"record {at}"] = lambda raw, _, bit=bit: flip(raw, bit)
    driven = start("damage", "--chunk-size", str(CHUNK))
    place = driven.mount()
    backing, old = {}, {}
    for name in ways:
        (place / name).write_bytes(CONTENT)
        backing[name] = driven.backing_of(place / name)
        old[name] = backing[name].read_bytes()
        with (place / name).open("r+b") as file:
            file.write(b"a later version of every chunk" * (len(CONTENT) // 30))
    (place / "neighbour").write_bytes(NEIGHBOUR)
    driven.umount()
    for name, how in ways.items():
        raw = bytearray(backing[name].read_bytes())
        changed = how(raw, old[name])
        backing[name].write_bytes(raw if changed is None else changed)
    driven.mount()
    yield driven
    finish(driven)


@pytest.mark.parametrize("byte", HEADER_BYTES)
def test_a_flipped_bit_of_the_header(spoiled, byte):
    with pytest.raises(OSError) as caught:  # noqa: PT011 which code is checked below
        (spoiled.mountpoint / f"header {byte}").read_bytes()
    # What is no longer this format, site or key is said as that; all else is EIO.
    expected = {errno.EIO, errno.EOPNOTSUPP, errno.EKEYREJECTED, errno.ENOKEY}
    assert caught.value.errno in expected
    (line,) = spoiled.refusals()
    assert line["path"] == f"/header {byte}"
    assert line["reason"]
    assert (spoiled.mountpoint / "neighbour").read_bytes() == NEIGHBOUR


@pytest.mark.parametrize("at", IN_RECORD)
def test_a_flipped_bit_of_a_chunk(spoiled, at):
    check_refused(spoiled, spoiled.mountpoint / f"record {at}", "chunk 1", chunk="1")


@pytest.mark.parametrize("name", CHANGES)
def test_chunks(spoiled, name):
    check_refused(spoiled, spoiled.mountpoint / name, CHANGES[name][1])


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
    # Named or not, the default chunk size is one store; asked for, another, with other keys.
    one, two = fresh(), fresh("--chunk-size", "65536")
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
