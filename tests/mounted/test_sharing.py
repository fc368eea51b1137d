"""Several processes, mapped files, and attributes, on one mount."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
import sys

import pytest

from tests.mounted.driving import fails

pytestmark = pytest.mark.mounted

MIB = 1 << 20


def together(script: str, *arguments: object, count: int = 4) -> None:
    """Run a script `count` times at once, each with its number; all must end well."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    running = [
        subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    said = [process.communicate(timeout=60)[1] for process in running]
    assert all(process.returncode == 0 for process in running), said


APPEND = """
import os, sys
place, number = sys.argv[1], int(sys.argv[2])
descriptor = os.open(place, os.O_WRONLY | os.O_APPEND)
for turn in range(300):
    os.write(descriptor, b"%03d %05d\\n" % (number, turn))
"""


def test_appends_of_several_processes_do_not_overwrite_each_other(folder):
    place = folder / "log"
    place.touch()
    together(APPEND, place)
    lines = place.read_text().splitlines()
    assert sorted(lines) == sorted(f"{n:03} {t:05}" for n in range(4) for t in range(300))
    for number in range(4):
        own = [line for line in lines if line.startswith(f"{number:03}")]
        assert own == sorted(own)


REGIONS = """
import os, sys
place, number = sys.argv[1], int(sys.argv[2])
descriptor = os.open(place, os.O_RDWR)
size = 50_001
for turn in range(40):
    content = bytes([65 + number]) * size
    os.pwrite(descriptor, content, number * size)
    assert os.pread(descriptor, size, number * size) == content
"""


def test_writers_of_neighbouring_regions_keep_each_others_bytes(folder):
    # The regions share chunks on purpose.
    place = folder / "file"
    place.touch()
    together(REGIONS, place)
    assert place.read_bytes() == b"".join(bytes([65 + n]) * 50_001 for n in range(4))


WHOLE_RECORDS = """
import mmap, os, sys
place, number = sys.argv[1], int(sys.argv[2])
record = 4096
if number < 2:
    descriptor = os.open(place, os.O_RDWR)
    for turn in range(400):
        os.pwrite(descriptor, bytes([turn % 250 + number]) * record, turn % 20 * record)
else:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECT)
    found = mmap.mmap(-1, record)
    for turn in range(400):
        assert os.preadv(descriptor, [found], turn % 20 * record) == record
        assert len(set(found[:])) == 1
"""


def test_readers_see_whole_writes_of_a_page(folder):
    """Past the kernel's pages: who reads one while the kernel copies into it sees a part."""
    place = folder / "file"
    place.write_bytes(bytes(20 * 4096))
    together(WHOLE_RECORDS, place)


TREE = """
import os, shutil, sys
place, number = sys.argv[1], int(sys.argv[2])
for turn in range(15):
    own = os.path.join(place, f"{number}-{turn}")
    os.makedirs(os.path.join(own, "a/b"))
    for name in ("1", "a/2", "a/b/3"):
        with open(os.path.join(own, name), "w") as file:
            file.write(f"{number} {turn} {name}")
    os.rename(os.path.join(own, "a/b"), os.path.join(own, "b"))
    os.listdir(place)
    if turn % 3:
        shutil.rmtree(own)
"""


def test_processes_that_make_and_remove_trees(folder):
    together(TREE, folder)
    left = sorted(f"{n}-{t}" for n in range(4) for t in range(0, 15, 3))
    assert sorted(os.listdir(folder)) == left
    for name in left:
        assert (folder / name / "b" / "3").read_text() == " ".join(name.split("-")) + " a/b/3"


def test_a_mapped_file_is_written(driven):
    place = driven.mountpoint / "file"
    place.write_bytes(b"\0" * 300_000)
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:5] = b"begin"
        mapped[65530:65550] = b"x" * 20
        mapped[-3:] = b"end"
        mapped.flush()
        with place.open("rb") as reader:
            assert reader.read(5) == b"begin"
        mapped[100:104] = b"late"
    expected = bytearray(300_000)
    expected[0:5], expected[100:104] = b"begin", b"late"
    expected[65530:65550], expected[-3:] = b"x" * 20, b"end"
    assert place.read_bytes() == expected
    driven.remount()
    assert place.read_bytes() == expected


def test_a_mapped_file_shows_what_others_write(folder):
    place = folder / "file"
    place.write_bytes(b"a" * 10_000)
    with place.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert mapped[:] == b"a" * 10_000
    with place.open("r+b") as file:
        file.seek(5000)
        file.write(b"b" * 10)
    assert mapped[4999:5011] == b"a" + b"b" * 10 + b"a"
    mapped.close()


def test_a_private_mapping_stays_private(folder):
    place = folder / "file"
    place.write_bytes(b"a" * 10_000)
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:5] = b"own!!"
    assert place.read_bytes() == b"a" * 10_000


def test_a_mapped_file_that_was_unlinked(folder):
    place = folder / "file"
    place.write_bytes(b"a" * 200_000)
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        place.unlink()
        mapped[100_000:100_004] = b"late"
        mapped.flush()
        assert os.pread(file.fileno(), 4, 100_000) == b"late"


# Extended attributes


def test_extended_attributes(driven):
    file, folder = driven.mountpoint / "file", driven.mountpoint / "folder"
    file.write_bytes(b"x")
    folder.mkdir()
    values = {"user.a": b"1", "user.empty": b"", "user.nul": b"\0" * 10, "user.ä": os.urandom(2000)}
    for place in (file, folder):
        for name, value in values.items():
            os.setxattr(place, name, value)
        with fails(errno.EEXIST):
            os.setxattr(place, "user.a", b"2", os.XATTR_CREATE)
        with fails(errno.ENODATA):
            os.setxattr(place, "user.b", b"2", os.XATTR_REPLACE)
        os.setxattr(place, "user.a", b"2", os.XATTR_REPLACE)
        os.setxattr(place, "user.c", b"3", os.XATTR_CREATE)
        os.removexattr(place, "user.c")
        with fails(errno.ENODATA):
            os.removexattr(place, "user.c")
        with fails(errno.ENODATA):
            os.getxattr(place, "user.c")
    driven.remount()
    values["user.a"] = b"2"
    for place in (file, folder):
        assert {name: os.getxattr(place, name) for name in os.listxattr(place)} == values


def test_extended_attributes_follow_the_file_not_the_name(driven):
    file = driven.mountpoint / "file"
    file.write_bytes(b"x")
    os.setxattr(file, "user.k", b"v")
    os.link(file, driven.mountpoint / "link")
    os.rename(file, driven.mountpoint / "renamed")
    file.write_bytes(b"another")
    driven.remount()
    assert os.listxattr(file) == []
    assert os.getxattr(driven.mountpoint / "renamed", "user.k") == b"v"
    assert os.getxattr(driven.mountpoint / "link", "user.k") == b"v"


def test_extended_attributes_that_are_not_for_users(folder):
    place = folder / "file"
    place.write_bytes(b"x")
    # The kernel looks at these values itself, so they are ones that it would take.
    capability = struct.pack("<5I", 0x02000000, 1 << 10, 0, 0, 0)
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHi", tag, permissions, -1)
        for tag, permissions in ((0x01, 6), (0x04, 4), (0x20, 4))
    )
    for name, value in (
        ("security.capability", capability),
        ("security.test", b"x"),
        ("trusted.x", b"x"),
        ("system.posix_acl_access", acl),
    ):
        with fails(errno.EOPNOTSUPP):
            os.setxattr(place, name, value)
    (folder / "link").symlink_to("file")
    with fails(errno.EPERM):
        os.setxattr(folder / "link", "user.x", b"1", follow_symlinks=False)
    assert os.listxattr(place) == []


def test_extended_attributes_that_are_too_large(folder):
    place = folder / "file"
    place.write_bytes(b"x")
    with pytest.raises(OSError) as caught:  # noqa: PT011 the code is compared below
        os.setxattr(place, "user.large", bytes(65536))
    assert caught.value.errno in (errno.ENOSPC, errno.E2BIG)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        os.setxattr(place, "user." + "x" * 250, b"1")
    assert caught.value.errno == errno.ERANGE
    assert os.listxattr(place) == []
    os.setxattr(place, "user.small", b"1")
