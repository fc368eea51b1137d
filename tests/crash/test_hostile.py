"""A hostile host: a full disk, one that goes away, no descriptors, no memory, a clock that jumps.

The program hears of it, the old content stays, and afterwards all goes on.
"""

from __future__ import annotations

import errno
import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.power.calls import SCRIPT, Run, prepare, state_of
from tests.crash.power.content import written
from tests.crash.power.cuttable import Cuttable
from tests.crash.power.disk import Disk
from tests.crash.power.inprocess import InProcess
from tests.filesystem.driver import Driver
from tests.mounted.driving import Driven, fails, unmount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.mounted, pytest.mark.crash]

MIB = 1 << 20
Hosted = tuple[Cuttable, Disk]


@pytest.fixture(scope="module")
def new_store(crash_base: Path) -> Driven:
    """To be copied; never mounted."""
    backing = crash_base / "new-store-backing"
    backing.mkdir()
    return Driven(crash_base / "new-store", backing).init()


@pytest.fixture
def hosted(
    crash_base: Path, new_store: Driven, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Hosted]]:
    """A new store on a disk of its own, mounted: `hosted(kind, MiB)`."""
    made: list[Hosted] = []

    def make(kind: str = "ext4", mib: int = 0) -> Hosted:
        place = crash_base / f"{request.node.originalname}-{len(made)}-{kind}"
        disk = Disk(place, "disk", kind, mib=mib).make()
        driven = Cuttable(place, disk.place)
        made.append((driven, disk))
        driven.copy_of(new_store)
        disk.sync()
        driven.mount()
        return driven, disk

    yield make
    for driven, disk in made:
        left = driven.end_mount()
        disk.destroy()
        assert not left, left


def fill(disk: Disk) -> Path:
    """Until the last block is gone; written past the driver."""
    place = disk.place / "filler"
    with place.open("ab", buffering=0) as file:
        size = MIB
        while size >= 1024:
            try:
                file.write(bytes(size))
                os.fsync(file.fileno())
            except OSError as error:
                assert error.errno == errno.ENOSPC
                size //= 2
    return place


def test_a_full_disk(hosted):
    """What gives room works, what needs it is refused, nothing old is harmed, and it goes on."""
    driven, disk = hosted("ext4", 48)
    root = driven.mountpoint
    contents = {}
    for number in range(8):
        name = f"file-{number}"
        contents[name] = written(name, 0, 0, 300_000)
        (root / name).write_bytes(contents[name])
    (root / "folder").mkdir()
    driven.remount()
    filler = fill(disk)
    with fails(errno.ENOSPC):
        (root / "new").write_bytes(bytes(2 * MIB))
    with (root / "file-0").open("r+b", buffering=0) as file:
        # Overwritten in place: the room for it may be there, and then it is the whole of it.
        refused = False
        for turn in range(200):
            at = turn * 65_536 % 262_144
            data = written("file-0", turn + 1, at, 65_536)
            try:
                os.pwrite(file.fileno(), data, at)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                refused = True
                break
            old = contents["file-0"]
            contents["file-0"] = old[:at] + data + old[at + 65_536 :]
        with suppress(OSError):
            os.fsync(file.fileno())
    with fails(errno.ENOSPC):
        with (root / "file-1").open("ab", buffering=0) as file:
            for _turn in range(64):
                at = os.fstat(file.fileno()).st_size
                piece = written("file-1", 1, at, 65_536)
                file.write(piece)
                contents["file-1"] += piece
    for name, content in contents.items():
        assert (root / name).read_bytes() == content, name
    (root / "new").unlink(missing_ok=True)
    (root / "file-2").unlink()
    (root / "folder").rmdir()
    os.truncate(root / "file-3", 0)
    contents |= {"file-3": b""}
    del contents["file-2"]
    filler.unlink()
    content = written("after", 0, 0, 2 * MIB)
    (root / "after").write_bytes(content)
    contents |= {"after": content}
    driven.refusals()
    driven.remount()
    assert {name: (root / name).read_bytes() for name in os.listdir(root)} == contents
    assert not driven.refusals()
    assert refused or turn == 199


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_disk_that_goes_away_under_a_mount(hosted, kind):
    """EIO for the programs, the driver lives and can be unmounted; what was synced is there."""
    driven, disk = hosted(kind)
    root = driven.mountpoint
    content = written("kept", 0, 0, 200_000)
    with (root / "kept").open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
        (pid,) = driven.pids()
        disk.cut()
        with fails(errno.EIO):
            file.write(b"x" * 200_000)
            os.fsync(file.fileno())
        with fails(errno.EIO):
            (root / "new").write_bytes(b"new")
        with fails(errno.EIO):
            (root / "folder").mkdir()
        with suppress(OSError):
            os.listdir(root)
        assert driven.pids() == [pid]
        with suppress(OSError):
            file.close()
    unmount(root)
    driven.wait_gone()
    disk.umount()
    disk.mount()
    driven.refusals()
    driven.mount()
    assert (root / "kept").read_bytes()[: len(content)] == content
    assert not driven.refusals()
    (root / "after").write_bytes(b"after")


def test_no_descriptors_left(hosted):
    """EMFILE for the program that opens one file too many; the others go on.

    Files that merely rest are closed for it: in the end all 80 are read, which takes more
    descriptors in turn than there are.
    """
    driven, _disk = hosted()
    root = driven.mountpoint
    (root / "folder").mkdir()
    for number in range(80):
        (root / f"folder/{number}").write_bytes(b"%d" % number)
    driven.remount()  # so that no file rests yet; those closed below will
    (pid,) = driven.pids()
    used = len(os.listdir(f"/proc/{pid}/fd"))
    _soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 20, hard))
    opened = {}
    with fails(errno.EMFILE):
        for number in range(80):
            opened[number] = os.open(root / f"folder/{number}", os.O_RDWR)
    assert len(opened) > 5
    changed = set()
    for number, file in opened.items():
        assert os.pread(file, 10, 0) == b"%d" % number
        with suppress(OSError):  # a change or a sync may take a descriptor of the driver's own
            os.pwrite(file, b"more", 10)
            changed.add(number)
            os.fsync(file)
    for file in opened.values():
        with suppress(OSError):
            os.close(file)
    for number in range(80):
        expected = b"%d" % number
        if number in changed:
            expected = expected.ljust(10, b"\0") + b"more"
        assert (root / f"folder/{number}").read_bytes() == expected
    (root / "folder/after").write_bytes(b"after")
    driven.refusals()
    driven.remount()
    assert len(os.listdir(root / "folder")) == 81
    assert (root / "folder/after").read_bytes() == b"after"


def test_no_memory_left(hosted, monkeypatch):
    """A request may fail and the driver may even end; nothing that was acknowledged is lost."""
    monkeypatch.setenv("RUST_BACKTRACE", "1")  # with it a panic for want of memory never ended
    driven, _disk = hosted()
    root = driven.mountpoint
    for number in range(10):
        (root / f"old-{number}").write_bytes(written(f"old-{number}", 0, 0, 400_000))
    (pid,) = driven.pids()
    status = Path(f"/proc/{pid}/status").read_text()
    used = int(status.partition("VmSize:")[2].split()[0]) * 1024
    _soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (used, hard))
    kept, told, opened = {}, [], []
    for number in range(60):
        name = f"new-{number}"
        content = written(name, 0, 0, 1000 * (number + 1))
        try:
            opened.append(os.open(root / name, os.O_CREAT | os.O_RDWR))
            at = 0
            while at < len(content):
                at += os.pwrite(opened[-1], content[at:], at)
                kept[name] = content[:at]
            old = (root / f"old-{number % 10}").read_bytes()
            assert old == written(f"old-{number % 10}", 0, 0, 400_000)
        except OSError as error:
            told.append(error.errno)
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                break  # the driver has ended; what is there now is the folder below the mount
    for file in opened:
        with suppress(OSError):
            os.close(file)
    assert set(told) <= {errno.ENOMEM, errno.EIO, errno.EMFILE, errno.ENOTCONN, errno.ECONNABORTED}
    if driven.pids():
        resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
        (root / "after").write_bytes(b"after")
        kept["after"] = b"after"
        driven.umount()
    elif driven.is_mounted():
        driven.kill()
    driven.refusals()
    driven.mount()
    for name, content in kept.items():
        assert (root / name).read_bytes()[: len(content)] == content, name
    for number in range(10):
        name = f"old-{number}"
        assert (root / name).read_bytes() == written(name, 0, 0, 400_000)
    assert not driven.refusals()


def test_a_second_driver_is_told_who_holds_the_store(hosted, crash_base):
    driven, _disk = hosted()
    (pid,) = driven.pids()
    elsewhere = crash_base / "second mount"
    elsewhere.mkdir()
    done = driven.run("mount", driven.store, elsewhere, check=False)
    assert done.returncode == 17
    assert f"process {pid}" in done.stderr and str(driven.mountpoint) in done.stderr
    (driven.mountpoint / "file").write_bytes(b"the first one goes on")


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_jumps(monkeypatch, tmp_path_factory, years):
    """In the middle of the work, and back again by the next start."""
    real = time.time
    real_ns = time.time_ns
    jump = years * 365 * 86400
    folder = tmp_path_factory.mktemp("clock")
    driver = Driver(str(folder))
    prepare(InProcess(driver))
    driver.reopen()
    run = Run(InProcess(driver))
    for number, step in enumerate(SCRIPT):
        if number == len(SCRIPT) // 2:
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            monkeypatch.setattr(time, "time_ns", lambda: real_ns() + jump * 10**9)
        run.take(step)
    assert state_of(run.calls) == run.truth
    driver.reopen()
    assert state_of(InProcess(driver)) == run.truth
    driver.close()
    monkeypatch.undo()
    driver.open()
    assert state_of(InProcess(driver)) == run.truth
    driver.close()
