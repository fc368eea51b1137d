"""`python -m bench mounted`: the same work on ckfs, its peers and a plain folder, side by side.

In each repetition of a group the systems take turns, in an order that rotates; one is mounted at a
time. A system that is missing or fails is in the result with its reason, and the run goes on.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench import mounted_place, peers
from bench.figures import Row, Run, Sample, System, Where
from bench.mounted_machine import commit, machine, now
from bench.mounted_turn import ContentsWrong, Turn, WorkloadFailed
from bench.peers.ckfs import DURABILITY
from bench.peers.system import System as Measured
from bench.peers.system import SystemFailed, Unavailable
from bench.workloads import material
from bench.workloads.groups import GROUPS, Group, Sizes


@contextmanager
def interruptible() -> Iterator[None]:
    """Being told to end is an exception, so that everything is undone on the way out."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # what is undone is undone in peace
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class Refused(Exception):
    """The run cannot begin; the text says why."""


@dataclass
class Plan:
    """What was asked for."""

    where: tuple[Where, ...] = ("tmpfs",)
    rows: tuple[str, ...] = ()
    """Groups, or beginnings of rows' names; none: all."""
    systems: tuple[str, ...] = peers.NAMES
    repetitions: int = 5
    quick: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    disk_folder: Path | None = None
    ckfs_options: tuple[str, ...] = ()
    time_cap: float = 120.0
    """Seconds for one workload of one system; it is stopped then, and has failed."""
    group_cap: float = 150.0
    """Seconds for all repetitions of one group by one system; no further one is begun then."""
    groups: tuple[Group, ...] = GROUPS
    bench: Literal["mounted", "scale"] = "mounted"
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def room(self) -> int:
        """Bytes that the place gets: the largest file twice, and what keeps beside it."""
        return 3 * self.sizes.sequential + (3 << 30)

    def chosen(self) -> list[tuple[Group, list[Row]]]:
        """Groups with their rows, as far as they were asked for."""
        found = []
        for group in self.groups:
            rows = [row for row in group.rows(self.sizes) if self._wants(group, row)]
            if rows:
                found.append((group, rows))
        if not found:
            names = ", ".join(row.name for group in self.groups for row in group.rows(self.sizes))
            raise Refused(
                f"no row is called {' or '.join(self.rows)}. Groups: "
                f"{', '.join(group.name for group in self.groups)}. Rows: {names}"
            )
        return found

    def _wants(self, group: Group, row: Row) -> bool:
        return not self.rows or any(
            word == group.name or row.name.startswith(word) for word in self.rows
        )


def measure(plan: Plan) -> list[Run]:
    """One run for each place. PlaceRefused or Refused if it cannot begin; an interrupted one comes
    back with `complete` False. Nothing is left mounted, whatever happens."""
    plan.chosen()
    for name in plan.systems:
        if name not in peers.NAMES:
            raise Refused(f"no system is called {name!r}; there are: {', '.join(peers.NAMES)}")
    mounted_place.separate()
    runs: list[Run] = []
    with interruptible(), mounted_place.base() as folder:
        mounted_place.make_tmpfs(folder / "material", 1 << 30)
        environment = material.git_environment(folder / "material")
        _make_material(plan, folder / "material", environment)
        for where in plan.where:
            place, said = mounted_place.place_for(where, folder, plan.disk_folder, plan.room())
            run = _begin(plan, where, said)
            runs.append(run)
            try:
                # Rows of its own: they carry what was measured here.
                _Series(plan, run, folder, place, environment).perform(plan.chosen())
            except KeyboardInterrupt:
                run.complete = False
                run.rows = [row for row in run.rows if any(_told(one) for one in row.samples)]
                plan.console.print("[yellow]interrupted: what was measured is kept")
                break
            finally:
                mounted_place.unmount(place)
    return runs


def _make_material(plan: Plan, place: Path, environment: dict[str, str]) -> None:
    sizes = plan.sizes
    if not any(group.material for group, _rows in plan.chosen()):
        return
    material.make_tree(place / "tree", files=sizes.tree_files, size=sizes.tree_bytes)
    with suppress(FileNotFoundError):  # without git its group says so
        material.make_repository(
            place / "repository", files=sizes.repository_files, environment=environment
        )


def _begin(plan: Plan, where: Where, place: str) -> Run:
    options = f"; mounted with -o {','.join(plan.ckfs_options)}" if plan.ckfs_options else ""
    return Run(
        bench=plan.bench,
        date=now(),
        commit=commit(),
        machine=machine(),
        systems=[],
        durability=DURABILITY + options,
        where=where,
        place=place,
        quick=plan.quick,
        repetitions=plan.repetitions,
    )


@dataclass
class _Series:
    """All turns in one place."""

    plan: Plan
    run: Run
    base: Path
    place: Path
    environment: dict[str, str]
    systems: list[Measured] = field(default_factory=list)

    def perform(self, chosen: list[tuple[Group, list[Row]]]) -> None:
        plan = self.plan
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=plan.console, transient=True) as progress:
            bar = progress.add_task("making stores", total=None)
            self._make_systems()
            turns = len(chosen) * plan.repetitions * len(self.systems)
            progress.update(bar, total=turns)

            def advance(said: str) -> None:
                progress.update(bar, description=f"{self.run.where}: {said}")
                if not plan.console.is_terminal:
                    plan.console.print(f"{self.run.where}: {said}", highlight=False)

            for group, rows in chosen:
                for row in rows:
                    row.samples = [Sample(system=system.name) for system in self.systems]
                self.run.rows.extend(rows)
                if group.needs and shutil.which(group.needs) is None:
                    missing = f"{group.needs} is not installed: `make bench-peers`"
                    for system in self.systems:
                        _note(rows, system.name, missing)
                    self._say(f"{group.name}: {missing}")
                    progress.advance(bar, plan.repetitions * len(self.systems))
                    continue
                self._group(group, rows, advance, lambda: progress.advance(bar))

    def _make_systems(self) -> None:
        for name in self.plan.systems:
            system = peers.make(
                name, self.place, self.base / f"mnt-{self.run.where}", self.plan.ckfs_options
            )
            entry = System(name=system.name, kind=system.kind, version="", setting=system.setting)
            try:
                version = system.version()
                entry = _with(entry, version=version)
                system.create()
                self.systems.append(system)
            except (Unavailable, SystemFailed, OSError) as error:
                entry = _with(entry, failure=str(error))
                self._say(f"{name}: {error}")
            self.run.systems.append(entry)

    def _group(
        self,
        group: Group,
        rows: list[Row],
        say: Callable[[str], None],
        advance: Callable[[], None],
    ) -> None:
        spent = dict.fromkeys((system.name for system in self.systems), 0.0)
        given_up: set[str] = set()
        for repetition in range(self.plan.repetitions):
            turn_order = repetition % max(1, len(self.systems))
            for system in self.systems[turn_order:] + self.systems[:turn_order]:
                say(f"{group.name}, {system.name}, {repetition + 1}/{self.plan.repetitions}")
                if system.name not in given_up:
                    began = os.times().elapsed
                    failure = self._turn(group, rows, system, verify=repetition == 0)
                    spent[system.name] += os.times().elapsed - began
                    last = repetition + 1 == self.plan.repetitions
                    if failure is None and spent[system.name] > self.plan.group_cap and not last:
                        failure = (
                            f"{repetition + 1} of {self.plan.repetitions} repetitions: they took "
                            f"over {self.plan.group_cap:.0f} s"
                        )
                        _note(rows, system.name, failure)
                    if failure is not None:
                        given_up.add(system.name)
                        self._say(f"{system.name}, {group.name}: {failure}")
                advance()

    def _turn(self, group: Group, rows: list[Row], system: Measured, *, verify: bool) -> str | None:
        """Why it failed; None if it did not."""
        samples = {
            row.name: next(one for one in row.samples if one.system == system.name) for row in rows
        }
        turn = Turn(
            system,
            self.plan.sizes,
            self.base / "material",
            self.environment,
            samples,
            verify,
            self.plan.time_cap,
            self.run.where == "disk",
        )
        failure: str | None = None
        try:
            if turn.on_disk:
                mounted_place.drop_caches(self.place)  # nobody pays for the one before
            system.mount()
            group.perform(turn)
            system.unmount()
        except ContentsWrong as error:
            failure = f"its contents were wrong: {error}"
            for sample in samples.values():
                sample.seconds, sample.driver_cpu, sample.client_cpu = [], [], []
            self._disgrace(system.name, failure)
        except (WorkloadFailed, SystemFailed, Unavailable, OSError) as error:
            failure = f"{turn.at}: {error}" if turn.at else str(error)
        finally:
            self._end(system)
        if failure is not None:
            _note(rows, system.name, failure)
            with suppress(SystemFailed, Unavailable, OSError):
                self._tidy(system)
        return failure

    def _end(self, system: Measured) -> None:
        """Unmounted, whatever happened."""
        try:
            system.unmount()
        except (SystemFailed, OSError) as error:
            self._say(str(error))

    def _tidy(self, system: Measured) -> None:
        """A turn that failed half-way must not fill the place."""
        system.mount()
        try:
            for entry in system.files.iterdir():
                mounted_place.remove(entry)
        finally:
            self._end(system)

    def _disgrace(self, name: str, failure: str) -> None:
        self.run.systems = [
            _with(one, failure=failure) if one.name == name else one for one in self.run.systems
        ]

    def _say(self, text: str) -> None:
        self.plan.console.print(f"[yellow]{text}", highlight=False)


def _with(entry: System, *, version: str | None = None, failure: str | None = None) -> System:
    return System(
        name=entry.name,
        kind=entry.kind,
        version=entry.version if version is None else version,
        setting=entry.setting,
        failure=failure or entry.failure,
    )


def _told(sample: Sample) -> bool:
    return bool(sample.seconds) or sample.failure is not None


def _note(rows: list[Row], system: str, failure: str) -> None:
    for row in rows:
        for sample in row.samples:
            if sample.system == system:
                sample.failure = failure
