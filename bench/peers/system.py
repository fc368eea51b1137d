"""What the run asks of a system, and what those have in common that are a process behind FUSE."""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from bench.figures import Kind
from bench.mounted_place import BOUND, is_mounted, unmount

PASSWORD = "of no use"  # noqa: S105 it guards random bytes that are deleted a minute later
_CPUCLOCK_SCHED = 2


class Unavailable(Exception):
    """This system cannot take part; the text says why and what would help."""


class SystemFailed(Exception):
    """It took part and failed at something that is no workload: to be made, mounted, unmounted."""


@dataclass(frozen=True)
class Room:
    """Folders of one system's own."""

    place: Path
    """On what is measured: the store and everything that belongs to it."""
    mountpoint: Path


class System(ABC):
    """Made once in a run; mounted and unmounted many times."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    setting: str = ""

    def __init__(self, room: Room) -> None:
        self.room = room

    @property
    def files(self) -> Path:
        """Where the client works."""
        return self.room.mountpoint

    @abstractmethod
    def version(self) -> str:
        """In a few words; Unavailable if it cannot take part."""

    @abstractmethod
    def create(self) -> None:
        """The empty store."""

    @abstractmethod
    def mount(self) -> None:
        """Returns when it answers."""

    @abstractmethod
    def unmount(self) -> None:
        """Returns when its driver has ended; nothing if it is not mounted. Never leaves a mount."""

    def processes(self) -> list[int]:
        """The driver's; none for one inside the kernel."""
        return []

    def settle(self) -> None:  # noqa: B027 a kernel filesystem has nothing to wait for
        """Wait until work that was answered before it was done is done."""


class FuseSystem(System):
    """A program that stays in the foreground while it is mounted."""

    binary: ClassVar[str]
    package: ClassVar[str]
    """Debian's; empty for one that is none."""
    version_words: ClassVar[tuple[str, ...]] = ("--version",)
    patience: ClassVar[float] = 30.0
    """Seconds to be made, mounted or unmounted in."""

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def store(self) -> Path:
        return self.room.place / "store"

    @property
    def log(self) -> Path:
        return self.room.place / "log"

    def environment(self) -> Mapping[str, str]:
        """Everything that it keeps for itself lies in its room."""
        return {**os.environ, "HOME": str(self.room.place)}

    @abstractmethod
    def mount_words(self) -> list[str]:
        """The command that stays in the foreground."""

    def version(self) -> str:
        try:
            said = subprocess.run(
                [self.binary, *self.version_words], check=False, capture_output=True, text=True
            )
        except FileNotFoundError:
            remedy = (
                f"`make bench-peers` (apt: {self.package})" if self.package else "`make install`"
            )
            raise Unavailable(f"{self.binary} is not installed: {remedy}") from None
        return (self.package and _packaged(self.package)) or first_line(said.stdout or said.stderr)

    def create(self) -> None:
        self.store.mkdir(parents=True)
        self.room.mountpoint.mkdir(parents=True, exist_ok=True)

    def run(self, *words: str | Path) -> str:
        """A command of the program that ends; what it says."""
        try:
            done = subprocess.run(
                words,
                env=self.environment(),
                check=False,
                capture_output=True,
                text=True,
                timeout=self.patience,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise SystemFailed(f"{self.name}: {words[0]} took over {self.patience:.0f} s") from None
        if done.returncode:
            raise SystemFailed(
                f"{self.name}: {words[0]} ended with {done.returncode}: {first_line(done.stderr)}"
            )
        return done.stdout

    def mount(self) -> None:
        with self.log.open("ab") as log:
            self._process = self._started(self.mount_words(), log)
        process, end = self._process, time.monotonic() + self.patience
        while not is_mounted(self.room.mountpoint):
            if process.poll() is not None:
                raise SystemFailed(
                    f"{self.name} ended with {process.returncode} instead of mounting: "
                    f"{last_line(self.log)}"
                )
            if time.monotonic() > end:
                raise SystemFailed(f"{self.name} did not mount within {self.patience:.0f} s")
            time.sleep(0.002)
        os.statvfs(self.room.mountpoint)

    def _started(self, words: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is ours to handle, it goes when it is unmounted.
        process = subprocess.Popen(
            [*BOUND, *words],
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                # Asked for twice where the store is new.
                process.stdin.write(f"{PASSWORD}\n{PASSWORD}\n".encode())
                process.stdin.close()
        return process

    def unmount(self) -> None:
        process, self._process = self._process, None
        left = unmount(self.room.mountpoint, patience=self.patience)
        if process is None:
            return
        try:
            process.wait(timeout=1 if left else self.patience)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not left:
                left = f"its driver had not ended {self.patience:.0f} s after the unmount"
        if left:
            raise SystemFailed(f"{self.name}: {left}")

    def processes(self) -> list[int]:
        if self._process is None or self._process.poll() is not None:
            return []
        return descendants(self._process.pid)

    def settle(self) -> None:
        """Until its processes have rested for a tenth of a second; at most 20 s."""
        end = time.monotonic() + 20
        before = cpu_seconds(self.processes())
        while time.monotonic() < end:
            time.sleep(0.1)
            now = cpu_seconds(self.processes())
            if now - before < 0.003:  # noqa: PLR2004 an idle loop's own ticks
                return
            before = now


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                children = Path(f"/proc/{one}/task/{task}/children").read_text().split()
                found.extend(map(int, children))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system, to the nanosecond, threads that ended included.

    By the CPU-time clocks of other processes (clock_getcpuclockid(3)): /proc counts in 10 ms.
    """
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    return total


def peak_memory(pids: list[int]) -> int:
    """Bytes, VmHWM; summed, as if pages that processes share were each one's own."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total


def _packaged(package: str) -> str | None:
    """As Debian calls it; some programs do not know their own version."""
    words = ["dpkg-query", "--show", "--showformat=${Package} ${Version} (Debian)", package]
    with suppress(FileNotFoundError):
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if not done.returncode:
            return done.stdout
    return None


def first_line(text: str) -> str:
    """Of what a program said, that is not empty; at most 300 characters."""
    return next((line.strip()[:300] for line in text.splitlines() if line.strip()), "nothing said")


def last_line(log: Path) -> str:
    """Likewise, of a log."""
    with suppress(OSError):
        return first_line("\n".join(reversed(log.read_text(errors="replace").splitlines())))
    return "nothing said"
