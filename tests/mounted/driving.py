"""A store, its state folder and its mount point, driven through the real command line.

Whatever a test does, `Driven.end` leaves no mount and no driver behind; what it had to do for that
is said, so that a test which leaves a driver hanging does not pass.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CKFS = Path(sys.executable).with_name("ckfs")
DEADLINE = 30.0
BAD_EVENTS = ("refused", "unexpected", "mount failed", "driver failed", "lease not renewed")

_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2
_FACT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Return as soon as the condition holds; fail when it does not hold in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.005)


def mountpoints_below(folder: Path) -> list[str]:
    """Mount points of any kind in a folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    places = [line.split(" ")[4] for line in lines]
    return sorted((one for one in places if one.startswith(f"{folder}/")), reverse=True)


def processes_with(word: str) -> list[int]:
    """Processes, other than this one, that were started with a word in an argument."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            is_driver = any(part.endswith(b"/ckfs") for part in command[:3])
            if is_driver and os.fsencode(word) in command and is_running(int(pid)):
                found.append(int(pid))
    return [pid for pid in found if pid != os.getpid()]


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def unmount(place: str | Path, flags: int = 0) -> None:
    """umount2(2)."""
    if _LIBC.umount2(os.fsencode(place), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(place))


def detach(place: str | Path) -> None:
    """The last resort: out of sight at once, whether the driver answers or not."""
    unmount(place, _MNT_DETACH)


def finish(driven: Driven) -> None:
    """End a test's store; whatever it left behind, or the driver complained of, fails the test."""
    left = driven.end()
    shutil.rmtree(driven.backing, ignore_errors=True)
    shutil.rmtree(driven.folder)
    assert not left, "; ".join(left)


def parse_log(text: str) -> list[dict[str, str]]:
    """logfmt lines as facts; a line that is none, such as one of a traceback, is kept whole."""
    lines = []
    for line in text.splitlines():
        facts = {
            name: json.loads(value) if value.startswith('"') else value
            for name, value in _FACT.findall(line)
        }
        lines.append(facts if "event" in facts else {"event": "unexpected", "text": line})
    return lines


@dataclass
class Driven:
    """One store and one mount of it."""

    folder: Path
    backing: Path
    extra: tuple[str, ...] = ()
    transport: str = ""
    """Of its mounts; empty for the default."""
    _read: int = 0
    _bad: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mountpoint.mkdir(parents=True)

    @property
    def store(self) -> Path:
        return self.backing / "store"

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mount"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def log_place(self) -> Path:
        return self.folder / "mount.log"

    @property
    def environment(self) -> dict[str, str]:
        chosen = {"CKFS_TRANSPORT": self.transport} if self.transport else {}
        return {**os.environ, "CKFS_STATE_DIR": str(self.state), **chosen}

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`ckfs` itself."""
        done = subprocess.run(
            [CKFS, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * DEADLINE,
        )
        if check and done.returncode:
            raise AssertionError(f"ckfs {arguments} ended with {done.returncode}: {done.stderr}")
        return done

    def init(self, *options: str) -> Driven:
        self.run("init", *options, self.store)
        return self

    def copy_of(self, other: Driven) -> Driven:
        """The same new store and keys as another's, for less than `ckfs init` takes."""
        shutil.copytree(other.store, self.store)
        shutil.copytree(other.state, self.state)
        return self

    def mount(self, *options: str) -> Path:
        """In the background; returns when the mount answers."""
        self.run(
            "mount",
            *self.extra,
            *options,
            "--log-file",
            self.log_place,
            self.store,
            self.mountpoint,
        )
        return self.mountpoint

    def umount(self) -> None:
        """By the system call alone, which is quick; tests/cli asks `ckfs umount` itself."""
        unmount(self.mountpoint)
        self.wait_gone()

    def remount(self, *options: str) -> Path:
        """Forget whatever the driver and the kernel had in their caches."""
        self.umount()
        return self.mount(*options)

    def wait_gone(self) -> None:
        """A driver works on for a moment after its mount is gone: it gives back the store."""
        drivers = self.pids()
        until(lambda: not any(map(is_running, drivers)), "the driver ends after the unmount")

    def pids(self) -> list[int]:
        """Of the drivers that were started with this mount point."""
        return processes_with(str(self.mountpoint))

    def is_mounted(self) -> bool:
        return str(self.mountpoint) in mountpoints_below(self.folder)

    def status(self) -> dict:
        """What `ckfs status --json` says of this mount."""
        found = json.loads(self.run("status", "--json").stdout)["mounts"]
        (own,) = (one for one in found if one["mountpoint"] == str(self.mountpoint))
        return own

    def kill(self, *users: subprocess.Popen[Any]) -> None:
        """kill -9; take the dead mount away once its users have noticed.

        Else they could go on in the folder below it.
        """
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.pids(), "the driver dies")
        for user in users:
            user.wait(timeout=DEADLINE)
        detach(self.mountpoint)

    # The log

    def log(self) -> str:
        return self.log_place.read_text() if self.log_place.exists() else ""

    def _take_new(self) -> None:
        text = self.log()
        self._bad += [line for line in parse_log(text[self._read :]) if line["event"] in BAD_EVENTS]
        self._read = len(text)

    def refusals(self) -> list[dict[str, str]]:
        """What was refused since the last call; a test that asks for it has expected it."""
        self._take_new()
        taken, self._bad = self._bad, []
        return taken

    # The end

    def end_mount(self) -> list[str]:
        """Unmount whatever it takes; returns what a test should not have left so."""
        left = []
        if self.is_mounted():
            try:
                unmount(self.mountpoint)
            except OSError as error:
                left.append(f"unmounting: {error}")
        try:
            self.wait_gone()
        except AssertionError:
            left.append(f"drivers {self.pids()} were still running")
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.is_mounted():
            detach(self.mountpoint)
        return left

    def end(self) -> list[str]:
        """The same, and what the driver refused or failed though no test expected it."""
        return self.end_mount() + [f"the driver logged: {line}" for line in self.refusals()]

    # The store behind the mount

    def backing_of(self, path: Path) -> Path:
        """Where the ciphertext of something in the mount lies."""
        return Path(os.fsdecode(os.getxattr(path, "user.ckfs.backing", follow_symlinks=False)))


@contextmanager
def opened(path, flags=os.O_RDWR | os.O_CREAT, mode=0o644):
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def beside(work: Callable[[int, threading.Event], None], count: int) -> Iterator[None]:
    """`work` in `count` threads, each with its number, until the event is set: when the block ends.

    What one of them raises is raised then.
    """
    ended = threading.Event()
    with ThreadPoolExecutor(count) as threads:
        running = [threads.submit(work, number, ended) for number in range(count)]
        try:
            yield
        finally:
            ended.set()
    for one in running:
        one.result()


@contextmanager
def fails(code: int) -> Iterator[None]:
    """A call that must end with this errno."""
    try:
        yield
    except OSError as error:
        assert error.errno == code, f"{error!r} instead of {errno.errorcode[code]}"
    else:
        raise AssertionError(f"no {errno.errorcode[code]}")


def rename(old: Path, new: Path, flags: int = 0) -> None:
    """renameat2(2), which Python does not have."""
    if _LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(old))


RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


def as_user(uid: int, work: Callable[[], object], *, groups: tuple[int, ...] = ()) -> None:
    """Run `work` in a forked process of another user; what it raises is raised here as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = ""
        try:
            os.close(reading)
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            work()
        except BaseException as error:  # noqa: BLE001 all of it is told to the parent
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, said.encode()[:4096])
            os._exit(1 if said else 0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _pid, status = os.waitpid(child, 0)
    assert not said and not status, f"as uid {uid}: {said or status}"
