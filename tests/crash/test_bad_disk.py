"""The disk below a store fails while a driver starts, or is gone when a command wants it.

What is refused is refused in words and with a code of its own; no traceback, nothing unexpected.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from fsdriver import background, cli
from fsdriver import mount as mounts
from fsdriver.errors import StoreError
from fsdriver.mountoptions import MountOptions
from tests.cli.asking import refused
from tests.crash.power.cuttable import Cuttable
from tests.crash.power.disk import Disk
from tests.crash.power.faulty import Faulty
from tests.mounted.driving import CKFS, DEADLINE, Driven, parse_log, until

pytestmark = [pytest.mark.mounted, pytest.mark.crash]

DISK_FAILS = 27
STANDS = 18


@pytest.fixture(scope="module")
def killed(crash_base):
    """A store whose driver was killed with a journal to be put in place."""
    place = crash_base / "killed"
    driven = Driven(place, place / "backing")
    driven.backing.mkdir()
    driven.init().mount()
    for number in range(3):
        path = driven.mountpoint / f"file-{number}"
        path.write_bytes(b"old" * 50_000)
        with path.open("r+b") as file:
            file.write(b"new")
            os.fsync(file.fileno())
    driven.kill()
    yield driven
    assert not driven.end()


class Starting:
    """Mounts of copies of a store in which one call of the backing room fails."""

    def __init__(self, template: Driven, folder, monkeypatch) -> None:
        self.template, self.folder = template, folder
        self.faulty = Faulty()
        monkeypatch.setattr(mounts, "Backing", lambda: self.faulty)
        monkeypatch.setattr(mounts.Mount, "run", lambda *_: pytest.fail("it was not to stand"))

    def run(self, number: int, code: int, *, read_only: bool) -> StoreError:
        place = self.folder / f"{number}-{code}"
        for name, source in (("store", self.template.store), ("state", self.template.state)):
            shutil.copytree(source, place / name)
        (place / "mount").mkdir()
        request = mounts.MountRequest(
            store=str(place / "store"),
            mountpoint=str(place / "mount"),
            state_dir=str(place / "state"),
            options=replace(MountOptions(), read_only=read_only, kernel={"nonsense"}),
        )
        log = place / "mount.log"
        self.faulty.arm(number, code)
        with pytest.raises(StoreError) as refused:
            background.in_background(request, str(log))
        assert not log.exists(), f"call {number}: {log.read_text()}"
        shutil.rmtree(place)
        return refused.value


@pytest.mark.parametrize("read_only", [False, True], ids=["rw", "ro"])
def test_every_call_of_a_start_fails(killed, tmp_path, monkeypatch, read_only):
    """Whichever it is, the mount is refused with what cannot be used and what to do."""
    starting = Starting(killed, tmp_path, monkeypatch)
    number = 0
    while True:
        told = starting.run(number, errno.EIO, read_only=read_only)
        if told.exit_code == STANDS:
            break
        assert told.exit_code == DISK_FAILS, f"call {number}: {told.exit_code}, {told}"
        assert os.strerror(errno.EIO) in str(told), f"call {number}: {told}"
        assert "try again" in str(told) or "mount again" in str(told), f"call {number}: {told}"
        number += 1
    assert number > 15


@pytest.fixture
def on_disk(crash_base, request):
    """A store with a file in it, and what its host knows, each on a disk that can be cut."""
    place = crash_base / request.node.name
    place.mkdir()
    disks = [Disk(place, name, "ext4", mib=32).make() for name in ("store-disk", "state-disk")]
    made = Cuttable(place, disks[0].place, state_place=disks[1].place / "state")
    made.init().mount()
    (made.mountpoint / "file").write_bytes(b"content")
    made.umount()
    yield made, *disks
    left = made.end()
    for disk in disks:
        disk.destroy()
    assert not left, left


COMMANDS = (
    ("mount", "STORE", "MOUNT"),
    ("mount", "-o", "ro", "STORE", "MOUNT"),
    ("mount", "-f", "STORE", "MOUNT"),
    ("init", "STORE/../other"),
    ("info", "STORE"),
    ("info", "FILE"),
    ("site", "list", "STORE"),
    ("scrub", "STORE"),
    ("salvage", "STORE", "/file", "--out", "OUT"),
    ("verify", "STORE", "LIST"),
    ("contentdb", "status", "STORE"),
    ("contentdb", "export", "STORE", "OUT"),
    ("contentdb", "rebuild", "--yes", "STORE"),
)
WITHOUT_STATE = {"info", "site"}
"""These need nothing of what the host keeps."""


def ask(driven: Driven, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`ckfs` in a forked process, for what it takes to start a new one is most of the time."""
    places = [driven.folder / "said-1", driven.folder / "said-2"]
    child = os.fork()
    if not child:
        try:
            for descriptor, place in enumerate(places, 1):
                os.dup2(os.open(place, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), descriptor)
            sys.stdout, sys.stderr = (os.fdopen(one, "w", buffering=1) for one in (1, 2))
            os.environ.update(driven.environment)
            sys.argv = ["ckfs", *map(str, arguments)]
            cli.main()
        except SystemExit as ended:
            os._exit(ended.code)
        finally:
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    return subprocess.CompletedProcess(
        arguments, os.waitstatus_to_exitcode(status), *(place.read_text() for place in places)
    )


@pytest.mark.parametrize("which", ["store", "state"])
def test_a_disk_that_is_gone(on_disk, which):
    """Every command says so in one line."""
    driven, store_disk, state_disk = on_disk
    (file,) = (one for one in driven.store.iterdir() if not one.name.startswith(".ckfs"))
    (driven.folder / "list").write_text(f"{'0' * 64}  file\n")
    words = {
        "STORE": driven.store,
        "STORE/../other": driven.backing / "other",
        "MOUNT": driven.mountpoint,
        "FILE": file,
        "LIST": driven.folder / "list",
        "OUT": driven.folder / "out",
    }
    (store_disk if which == "store" else state_disk).cut()
    for command in COMMANDS:
        if which == "state" and command[0] in WITHOUT_STATE:
            continue
        refused(ask(driven, *(words.get(one, one) for one in command)), DISK_FAILS, "disk below")
        assert not (driven.folder / "out").exists()


@pytest.mark.parametrize("which", ["store", "state"])
def test_a_disk_that_goes_below_a_mount(on_disk, which):
    """The driver ends when it is unmounted, says what it could not do, and calls nothing ended."""
    driven, store_disk, state_disk = on_disk
    with subprocess.Popen(
        [CKFS, "mount", "-f", driven.store, driven.mountpoint],
        env=driven.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        until(driven.is_mounted, "it is mounted")
        (driven.mountpoint / "file").write_bytes(b"changed")
        (store_disk if which == "store" else state_disk).cut()
        driver.send_signal(signal.SIGTERM)
        _out, said = driver.communicate(timeout=DEADLINE)
    *log, last = said.splitlines()
    events = [line["event"] for line in parse_log("\n".join(log))]
    assert driver.returncode == DISK_FAILS, said
    assert "not all is on the disk" in events and "unexpected" not in events, said
    assert last.startswith("ckfs: ") and "Traceback" not in said, said
