"""The script with a fault at every call of the store, one at a time."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsdriver.errors import CkfsError
from tests.crash.power.calls import SCRIPT, Run, State, Step, after, prepare, state_of
from tests.crash.power.faulty import errors_of
from tests.crash.power.inprocess import FaultyDriver, InProcess
from tests.filesystem.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYNCS = ("sync", "sync_data", "sync_filesystem")
CHANGED = ("old", "large", "whole")
"""Files of the script whose bytes are replaced before they are fsynced."""


@dataclass(frozen=True)
class Fault:
    """Call `number` of the store from the start on fails; the driver is killed then, or not."""

    number: int
    call: str
    step: Step
    code: int
    killed: bool = False

    @property
    def place(self) -> str:
        """Without the errno: the call, and the beginning of the step in which it fails."""
        return f"{self.call} in {' '.join(str(word)[:12] for word in self.step[:3])}"

    def __str__(self) -> str:
        step = " ".join(str(word)[:12] for word in self.step)
        name = errno.errorcode[self.code]
        return f"{self.call} ({self.number}, in `{step}`) {name}{', killed' * self.killed}"


@dataclass
class FaultLoop:
    """Runs in a folder of its own, which should be in memory."""

    folder: Path
    wrong: list[tuple[Fault, str]] = field(default_factory=list)
    runs: int = 0

    def __post_init__(self) -> None:
        self._template = Driver(str(self.folder / "template"))
        prepare(InProcess(self._template))
        self._template.close()

    def _fresh(self) -> FaultyDriver:
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        return FaultyDriver(str(self.folder / "run"), self._template)

    def every(self) -> Iterator[Fault]:
        """Each call that the script makes of the store, with each error that it can have."""
        driver = self._fresh()
        run = Run(InProcess(driver))
        of_step = []
        before = len(driver.faulty.calls)
        for step in SCRIPT:
            run.take(step)
            of_step += [step] * (len(driver.faulty.calls) - before - len(of_step))
        calls = driver.faulty.calls[before : before + len(of_step)]
        driver.close()
        for number, (call, step) in enumerate(zip(calls, of_step, strict=True)):
            for code in errors_of(call):
                yield Fault(number, call, step, code)

    def run(self, fault: Fault) -> None:
        """One run with one fault; what is not as it should be is noted."""
        self.runs += 1
        driver = self._fresh()
        driver.faulty.arm(fault.number, fault.code)
        try:
            self._run(driver, fault)
        except AssertionError as error:
            self.wrong.append((fault, str(error).splitlines()[0]))
        except (OSError, CkfsError) as error:
            self.wrong.append((fault, f"{type(error).__name__} {error}"))

    def _run(self, driver: FaultyDriver, fault: Fault) -> None:
        run = Run(InProcess(driver))
        left = list(reversed(SCRIPT))
        told = False
        while left:
            step = left.pop()
            try:
                run.take(step)
            except (OSError, CkfsError) as error:
                assert driver.faulty.failed, f"{step} failed by itself: {error!r}"
                assert error.errno == fault.code, f"told as {error!r}"
                if told:
                    assert fault.call in SYNCS, f"{step} failed after it, too: {error!r}"
                    self._stuck(driver, run)
                    return
                assert step == fault.step, f"told to {step}"
                told = True
                if fault.killed:
                    self._killed(driver, run, after(run.truth, step))
                    return
                same(run.truth, state_of(run.calls), "after the fault")
                if step[0] != "close":  # closed all the same
                    left.append(step)
                continue
            if step[0] in ("fsync", "fdatasync"):
                self._must_be_safe(driver, step)
            if fault.killed and driver.faulty.failed:
                self._killed(driver, run, run.truth)
                return
        assert driver.faulty.failed, "the fault was not met"
        same(run.truth, state_of(run.calls), "at the end")
        self._end(driver, run, told=told and fault.call in SYNCS)

    def _must_be_safe(self, driver: FaultyDriver, step: Step) -> None:
        """Its own pages, and the journal's where the file was changed in place."""
        driver.faulty.counting = False
        path = driver.backing_path(step[1])
        driver.faulty.counting = True
        unsafe = driver.unsafe(path, journal=step[1] in CHANGED)
        assert not unsafe, f"{step} said yes to {unsafe}"

    def _stuck(self, driver: FaultyDriver, run: Run) -> None:
        """A failed sync may be told again and again, for nobody knows what the disk has."""
        same(run.truth, state_of(run.calls), "after a failed sync was told again")
        self._end(driver, run, told=True)

    def _end(self, driver: FaultyDriver, run: Run, *, told: bool) -> None:
        """Unmount; all of it is safe then, or the session has not ended: recovery comes next."""
        try:
            driver.close()
        except (OSError, CkfsError) as error:
            assert told, f"unmounting failed: {error!r}"
        ended = driver.has_ended()
        assert ended or told, "the session has not ended"
        unsafe = driver.unsafe() if ended else []
        assert not unsafe, f"the session has ended with {unsafe}"
        driver.open()
        same(run.truth, state_of(InProcess(driver)), "after the next start")
        driver.close()

    def _killed(self, driver: FaultyDriver, run: Run, done: State) -> None:
        driver.drop()
        driver.open()
        found = state_of(InProcess(driver))
        if found != done:  # nobody was told that it was done, and it may be
            same(run.truth, found, "after the kill")
        driver.close()


def same(truth: dict, found: dict, when: str) -> None:
    """In one line, what differs."""
    if truth == found:
        return
    told = []
    for path in sorted({*truth, *found}):
        if truth.get(path) != found.get(path):
            was, now = truth.get(path, "nothing"), found.get(path, "nothing")
            sizes = [one if isinstance(one, str) else f"{len(one)} bytes" for one in (was, now)]
            told.append(f"{path[:20]} is {sizes[1]} and should be {sizes[0]}")
    raise AssertionError(f"{when}: {'; '.join(told)}")


def in_memory() -> str | None:
    """Where a store in memory can lie."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
