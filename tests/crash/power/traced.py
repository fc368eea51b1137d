"""The script through the kernel, while strace makes the driver's Nth call of a kind fail.

strace counts for each thread, so a thread that is not the one that serves may have its own Nth call
in the same run; who is told of an error does not depend on it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.crash.power.calls import SCRIPT, Run, ThroughKernel, after, prepare, state_of
from tests.crash.power.faultloop import same
from tests.mounted.driving import Driven, detach, until

if TYPE_CHECKING:
    from collections.abc import Iterator

_DISK = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
ERRORS: dict[str, tuple[int, ...]] = {
    "pwrite64": _DISK,
    "pwritev": _DISK,
    "pwritev2": _DISK,
    "fsync": _FULL,
    "fdatasync": _FULL,
    "syncfs": _FULL,
    "openat": (errno.EMFILE, errno.ENFILE, errno.EIO),
    "renameat": _DISK,
    "renameat2": _DISK,
    "unlinkat": (errno.EIO, errno.EROFS),
    "linkat": _FULL,
    "mkdirat": _FULL,
    "symlinkat": _FULL,
    "ftruncate": (errno.EIO, errno.EROFS),
    "setxattr": _FULL,
    "lsetxattr": _FULL,
    "fsetxattr": _FULL,
    "pread64": (errno.EIO,),
    "preadv": (errno.EIO,),
    "preadv2": (errno.EIO,),
}
SYNCS = ("fsync", "fdatasync", "syncfs")
_GONE = (errno.ENOTCONN, errno.ECONNABORTED)
_CALL = re.compile(r"^\d+ +(\w+)\(")


@dataclass(frozen=True)
class TracedFault:
    """The `number`th call of a kind, from 1, fails so; or the driver is killed there (code 0)."""

    call: str
    number: int
    code: int

    def __str__(self) -> str:
        how = errno.errorcode[self.code] if self.code else "SIGKILL"
        return f"{self.call} {self.number} {how}"

    @property
    def injection(self) -> str:
        how = f"error={errno.errorcode[self.code]}" if self.code else "signal=SIGKILL"
        return f"inject={self.call}:{how}:when={self.number}"


def _is_traced(pid: int) -> bool:
    with suppress(OSError):
        tasks = os.listdir(f"/proc/{pid}/task")
        told = [Path(f"/proc/{pid}/task/{task}/status").read_text() for task in tasks]
        return all(not re.search(r"TracerPid:\t0\n", one) for one in told)
    return True  # it is gone, and with it what there is to wait for


@contextmanager
def strace(pid: int, *words: str | Path) -> Iterator[None]:
    """Attached to every thread of a process for as long as the block runs."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", *words, "-p", str(pid)], stderr=subprocess.PIPE
    )
    try:
        until(lambda: _is_traced(pid) or tracer.poll() is not None, "strace attaches")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.communicate()


@dataclass
class Traced:
    """One mount with many folders, in each of which the script runs once."""

    driven: Driven
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _truths: dict[str, list[dict]] = field(default_factory=dict)

    def make(self, folders: int) -> Traced:
        """A store with what is old, mounted anew."""
        self.driven.init("--chunk-size", "4096")
        root = self.driven.mount()
        (root / "0").mkdir()
        prepare(ThroughKernel(root / "0"))
        for number in range(1, folders):
            shutil.copytree(root / "0", root / str(number))
        self.driven.remount()
        return self

    @property
    def _pid(self) -> int:
        (pid,) = self.driven.pids()
        return pid

    def calls(self) -> Counter[str]:
        """How often the driver makes each call in the script, which runs in folder 0."""
        place = self.driven.folder / "calls"
        with strace(self._pid, "-o", place, "-e", f"trace={','.join(ERRORS)}"):
            run = Run(ThroughKernel(self.driven.mountpoint / "0"))
            for step in SCRIPT:
                run.take(step)
        self._truths["0"] = [run.truth]
        found = map(_CALL.match, place.read_text().splitlines())
        return Counter(one[1] for one in found if one)

    def run(self, folder: int, fault: TracedFault) -> None:
        """What is not as it should be is noted."""
        self.counts["faults"] += 1
        words = ("-o", "/dev/null", "-e", f"trace={fault.call}", "-e", fault.injection)
        try:
            with strace(self._pid, *words):
                self._script(str(folder), fault)
        except AssertionError as error:
            self.wrong.append(f"{fault}: {str(error).partition(chr(10))[0]}")
        except OSError as error:
            self.wrong.append(f"{fault}: {error!r}")
        if fault.code:
            assert self.driven.pids(), f"{fault} has ended the driver"
        else:
            self.counts["kills"] += not self.driven.pids()
            self._start_again()

    def _script(self, folder: str, fault: TracedFault) -> None:
        run = Run(ThroughKernel(self.driven.mountpoint / folder))
        try:
            self._steps(folder, fault, run)
        finally:
            run.close_rest()

    def _steps(self, folder: str, fault: TracedFault, run: Run) -> None:
        for step in SCRIPT:
            for _again in range(4):
                self._truths[folder] = [run.truth, after(run.truth, step)]
                try:
                    run.take(step)
                except OSError as error:
                    self.counts["errors told"] += 1
                    if not fault.code:
                        assert error.errno in _GONE, f"{step}: {error!r}"
                        return
                    assert error.errno == fault.code, f"{step}: {error!r}"
                    same(run.truth, state_of(run.calls), f"{step} failed")
                    if step[0] == "close":
                        break
                else:
                    break
            else:
                # A failed sync may be told until the next start: nobody knows what the disk has.
                assert fault.call in SYNCS, f"{step} fails for ever"
                self.counts["until the next start"] += 1
                run.close_rest()
                self._start_again()
                return
        self._truths[folder] = [run.truth]
        if fault.code:
            same(run.truth, state_of(run.calls), "at the end")

    def _start_again(self) -> None:
        """After the driver was killed; one that was not reached by the fault is killed now."""
        for pid in self.driven.pids():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not self.driven.pids(), "the driver dies")
        detach(self.driven.mountpoint)
        self.driven.mount()

    def look(self) -> None:
        """Everything acknowledged is there after the next start."""
        self.driven.refusals()  # each fault was told, and may have been logged
        self.driven.remount()
        for folder, truths in self._truths.items():
            try:
                found = state_of(ThroughKernel(self.driven.mountpoint / folder))
                if found not in truths:
                    same(truths[0], found, f"folder {folder} after the next start")
            except (AssertionError, OSError) as error:
                self.wrong.append(str(error))
        self.wrong += [f"the driver logged: {line}" for line in self.driven.refusals()]


def faults_of(calls: Counter[str], *, every_error: bool) -> list[TracedFault]:
    """Each call of the script with an error, all of them or one in turn; then with a kill."""
    found = []
    for call, count in sorted(calls.items()):
        for number in range(1, count + 1):
            errors = ERRORS[call]
            codes = errors if every_error else (errors[number % len(errors)],)
            found += [TracedFault(call, number, code) for code in codes]
    return found
