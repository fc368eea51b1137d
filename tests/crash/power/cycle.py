"""Chains of power cuts: work, cut, start again, look; the same store through all of them."""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.crash.power.database import Database
from tests.crash.power.flushing import MODES, flush_until
from tests.crash.power.foldering import Foldering
from tests.crash.power.host import Host
from tests.crash.power.ledger import Ledger, steps
from tests.crash.power.naming import Naming
from tests.crash.power.overwriting import Overwriting
from tests.crash.power.program import Found, Program, Rules, look
from tests.crash.power.replacing import Replacing
from tests.crash.power.sixfiles import SixFiles
from tests.mounted import driving
from tests.mounted.driving import is_running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAMS: tuple[Program, ...] = (
    Overwriting(), Naming(), Replacing(), Database(), Foldering(), SixFiles()
)  # fmt: skip
CYCLES = 5
_DISK_FAILS = 27
_KILLED = f"ended with status {int(signal.SIGKILL)} "


@dataclass(frozen=True)
class Setting:
    """What one chain is run on."""

    seed: int
    kind: str = "ext4"
    chunk_size: int = 65536
    state_is_cut: bool = False
    peer: str = ""
    programs: tuple[Program, ...] = PROGRAMS
    kills: bool = False
    """End the driver alone, by kill -9; the disk goes on."""
    wrapper: tuple[str, ...] = ()

    @classmethod
    def of(cls, seed: int) -> Setting:
        """Every combination in turn."""
        return cls(seed, ("ext4", "xfs")[seed % 2], (65536, 4096)[seed // 2 % 2], seed % 5 == 0)

    def __str__(self) -> str:
        state = ", its notes on a disk that is cut too" if self.state_is_cut else ""
        state += ", killed" if self.kills else ""
        of = f"{self.peer} on " if self.peer else ""
        return f"seed {self.seed}: {of}{self.kind}, chunks of {self.chunk_size}{state}"


@dataclass
class Outcome:
    """Of a chain, or of many."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Outcome) -> None:
        self.wrong += other.wrong
        self.counts += other.counts


def prepare(place: Path) -> None:
    """What all cycles of a chain find."""
    for number in range(CYCLES):
        for program in PROGRAMS:
            folder = place / str(number) / program.name
            folder.mkdir(parents=True)
            program.prepare(folder)


def start_program(program: Program, place: Path, ledger: Path, seed: str) -> int:
    """In a process of its own; it ends with the first error."""
    child = os.fork()
    if child:
        return child
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        program.run(place, Ledger(ledger), random.Random(seed))
    except OSError:
        pass  # the ledger tells when and which
    except BaseException:  # noqa: BLE001 a mistake of the program's own must be told
        ledger.with_suffix(".trace").write_text(traceback.format_exc())
    finally:
        os._exit(0)


def end_programs(children: list[int]) -> None:
    """They end by themselves, for nothing answers them any more."""
    try:
        driving.until(lambda: not any(map(is_running, children)), "the programs notice")
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def moment(order: random.Random, ledgers: list[Path], longest: float) -> Callable[[], bool]:
    """When to cut: at a time, or as soon as so much was acknowledged."""
    if order.random() < 0.5:
        end = time.monotonic() + order.uniform(0.01, longest)
        return lambda: time.monotonic() > end
    wanted = order.randrange(200, 8000)
    last = time.monotonic() + 3 * longest

    def reached() -> bool:
        said = sum(place.stat().st_size for place in ledgers if place.exists())
        return said > wanted or time.monotonic() > last

    return reached


class Chain:
    """One store, cut again and again."""

    def __init__(self, setting: Setting, host: Host, *, longest: float = 0.35) -> None:
        self.setting = setting
        self.host = host
        self.outcome = Outcome()
        self._longest = longest
        self._seen: dict[str, str] = {}
        """Folder of a program -> digest of all that was read in it after its own cut."""

    def run(self, cycles: int = CYCLES) -> Outcome:
        self.host.driven.wrapper = self.setting.wrapper
        self.host.driven.mount()
        for number in range(cycles):
            before = len(self.outcome.wrong)
            try:
                self._cycle(number)
            except AssertionError as error:
                self._complain(number, str(error))
            self.outcome.counts["cuts"] += 1
            if len(self.outcome.wrong) > before:
                self.outcome.counts["failed"] += 1
                break
        return self.outcome

    def _complain(self, number: int, what: str) -> None:
        self.outcome.wrong.append(f"{self.setting}; cut {number}: {what}")

    def _cycle(self, number: int) -> None:
        order = random.Random(f"{self.setting.seed} {number}")
        host, driven = self.host, self.host.driven
        if number and order.random() < 0.3:
            driven.remount()  # what is there is old then, and not merely recovered
        programs = self.setting.programs
        chosen = order.sample(programs, min(4 if self.setting.kills else 3, len(programs)))
        mode = order.choice(MODES)
        folder = driven.mountpoint / str(number)
        ledgers = [host.folder / f"{number}-{program.name}.ledger" for program in chosen]
        children = [
            start_program(program, folder / program.name, ledger, f"{self.setting.seed} {number}")
            for program, ledger in zip(chosen, ledgers, strict=True)
        ]
        try:
            ended = moment(order, ledgers, self._longest)
            flush_until(ended, host.store_disk.place, mode, order)
        finally:
            cut_at = time.monotonic()
            if self.setting.kills:
                host.kill()
            else:
                host.cut()
            end_programs(children)
        until = cut_at
        if self.setting.kills:
            until = math.inf  # what a driver answers before it is gone counts
            host.forget_mount()
        else:
            host.restart()
        if order.random() < 0.2 and not self.setting.peer:
            self._end_while_starting(number, order)
        driven.mount()
        for program, ledger in zip(chosen, ledgers, strict=True):
            self._tell_errors(number, program, ledger, cut_at)
        self._judge(number, chosen, ledgers, until)

    def _end_while_starting(self, number: int, order: random.Random) -> None:
        """The power or the disk comes back for a moment only, or the new driver is killed, too."""
        mounting = self.host.start_mounting()
        end = time.monotonic() + order.uniform(0.2, 0.8)
        flush_until(
            lambda: time.monotonic() > end,
            self.host.store_disk.place,
            order.choice(MODES),
            order,
        )
        if not self.setting.kills:
            self.host.cut_disks()
        if self.setting.kills or order.random() < 0.5:
            self.host.kill()
        code = mounting.wait(timeout=30)
        self.host.kill()  # one that was about to be started, or has nothing below it
        self._judge_start(number, code, self.host.starting.read_text())
        if self.setting.kills:
            self.host.forget_mount()
        else:
            self.host.restart()
        self.outcome.counts["ended while starting"] += 1

    def _judge_start(self, number: int, code: int, said: str) -> None:
        """It stood already, it was killed, or it said in words that the disk is gone."""
        if code == _DISK_FAILS and not self.setting.kills and "Traceback" not in said:
            self.outcome.counts["refused while starting"] += 1
        elif code not in (0, -signal.SIGKILL) and _KILLED not in said:
            self._complain(number, f"a start in which the disk went ended with {code}: {said}")

    def _tell_errors(self, number: int, program: Program, ledger: Path, cut_at: float) -> None:
        trace = ledger.with_suffix(".trace")
        if trace.exists():
            self._complain(number, f"{program.name}: {trace.read_text()}")
        for step in steps(ledger, cut_at):
            if 0 < step.ended_at < cut_at and not step.done:
                self._complain(
                    number,
                    f"{program.name}: {step.verb} {step.facts} failed while there was power: "
                    f"{os.strerror(step.error)}",
                )

    def _judge(self, number: int, chosen: list[Program], ledgers: list[Path], until: float) -> None:
        driven = self.host.driven
        rules = Rules(self.setting.chunk_size, every_step_is_durable=self.setting.kills)
        found = look(driven.mountpoint)
        for one in found.unreadable:
            self._complain(number, f"cannot be read: {one}")
        for folder, digest in self._seen.items():
            if digest_of(found.below(folder)) != digest:
                self._complain(number, f"{folder} is not as it was after its own cut")
        for program, ledger in zip(chosen, ledgers, strict=True):
            folder = f"{number}/{program.name}"
            taken = steps(ledger, until)
            verdict = program.judge(taken, found.below(folder), rules)
            if isinstance(program, Database):
                opened = program.judge_opened(taken, driven.mountpoint / folder)
                verdict.wrong += opened.wrong
                verdict.counts += opened.counts
            else:
                self._seen[folder] = digest_of(found.below(folder))
            for one in verdict.wrong:
                self._complain(number, f"{program.name}: {one}")
            self.outcome.counts += verdict.counts
            self.outcome.counts["acknowledged steps"] += sum(step.done for step in taken)
        for path in found.files:
            with suppress(FileNotFoundError):  # SQLite has taken its journal away
                os.close(os.open(driven.mountpoint / path, os.O_RDWR))
        self.outcome.counts["files read"] += len(found.files)
        for line in driven.refusals():
            self._complain(number, f"the driver logged: {line}")


def digest_of(found: Found) -> str:
    """Of everything in it."""
    whole = hashlib.sha256()
    for path, data in sorted(found.files.items()):
        whole.update(f"{path}\n{len(data)}\n".encode() + data)
    whole.update(repr((sorted(found.folders), sorted(found.links.items()))).encode())
    return whole.hexdigest()


class Templates:
    """Stores with the old content, made once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, int], Host] = {}

    def run(self, setting: Setting, *, cycles: int = CYCLES, longest: float = 0.35) -> Outcome:
        """One chain, from a new copy to its end."""
        key = (setting.kind, setting.chunk_size)
        if key not in self._made:
            made = Host(
                self._folder / f"template-{len(self._made)}", setting.kind, peer=setting.peer
            )
            self._made[key] = made
            made.make(setting.chunk_size, prepare)
        host = Host(
            self._folder / f"chain-{setting.seed}",
            setting.kind,
            state_is_cut=setting.state_is_cut,
            peer=setting.peer,
        )
        try:
            chain = Chain(setting, host.copy_of(self._made[key]), longest=longest)
            outcome = chain.run(cycles)
        finally:
            left = host.end()
        outcome.wrong += [f"{setting}: {one}" for one in left]
        return outcome

    def close(self) -> None:
        for made in self._made.values():
            made.end()
