"""Runs workloads, mounts every crash state of them, and holds it against the oracle."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from tests.crash.states.cuts import Crash, kills, power_cuts
from tests.crash.states.image import Image
from tests.crash.states.memory import MemoryBacking
from tests.crash.states.mounting import REFUSALS, Host, Look, seeded
from tests.crash.states.oracle import ROOT, Oracle, Posix, Seen, Violation
from tests.crash.states.recording import Recording
from tests.crash.states.workloads import BASE, UNMOUNT, Operation

STRANGER = -1
"""Stands for an object that no step of the workload made."""


class Finding(NamedTuple):
    """One broken promise in one state, and how to see it again."""

    violation: Violation
    workload: str
    crash: Crash
    before: str
    """The event before the stop, and the one that would have come."""

    def __str__(self) -> str:
        kind, what = self.violation
        power = "power cut" if self.crash.power else "kill"
        return (
            f"{kind}: {what}\n    {power} after {self.crash.at} events, kept: {self.crash.how}\n"
            f"    {self.before}\n"
            f"    python -m tests.crash.states --workload {self.workload!r} "
            f"--at {self.crash.at} --kept {self.crash.how!r}" + (" --power" * self.crash.power)
        )


class Run(NamedTuple):
    """A workload that was run: what is needed to judge its states."""

    name: str
    recording: Recording
    oracle: Oracle
    keys: dict[int, int]
    """From the image's key of an inode to the oracle's id."""
    session: bytes
    fresh: int
    """The event from which on the states are its own, and not those of a shorter workload."""
    repeats: bool
    """Whether an operation did nothing, so that a shorter workload has the same states."""


class Checker:
    """Over one host. `wrap` makes the backing of a workload from an image: a blinded driver's."""

    def __init__(
        self, host: Host, *, backing: Callable[..., MemoryBacking] = MemoryBacking
    ) -> None:
        self._host = host
        self._backing = backing
        self._seen: set[tuple] = set()
        self.states = 0
        """States mounted."""
        self.duplicates = 0
        """States that were there before, with the same to expect of them."""
        self.base, self._base_oracle, self._base_keys = self._make_base()

    def _make_base(self) -> tuple[Image, Posix, dict[int, int]]:
        posix = Posix()
        with seeded("base"):
            mount = self._host.mount(self._host.image.copy())
            keys = {mount.backing.image.root: ROOT}
            for step in BASE.steps:
                assert posix.take(step), step
                mount.take(step)
                self._learn(keys, posix, mount, step.arguments[0])
            image = mount.backing.image
            mount.close()
        posix.held = frozenset()
        return image, posix, keys

    @staticmethod
    def _learn(keys: dict[int, int], posix: Posix, mount, path: str) -> None:
        """Which inode of the image the object under a path is."""
        one = posix.find(path)
        if one is not None:
            image = mount.backing.image
            keys[image.numbers()[mount.number(path)] if path else image.root] = one

    def run(self, workload: tuple[Operation, ...]) -> Run | None:
        """None if it is not possible."""
        posix = Posix()
        posix.version, posix._next = self._base_oracle.version, self._base_oracle._next
        oracle, keys = Oracle(posix), dict(self._base_keys)
        name = "; ".join(operation.name for operation in workload)
        recording = Recording(self.base.copy())
        count = fresh = 0
        repeats = False
        with seeded(name):
            backing = self._backing(self.base.copy(), recording)
            mount = self._host.mount(backing.image, backing=backing)
            for operation in (*workload, UNMOUNT):
                if operation is workload[-1] and len(workload) > 1:
                    fresh = len(recording.events)
                before = len(recording.events)
                for step in operation.steps:
                    if not oracle.add(step):
                        return None
                    count += 1
                    recording.begin(count)
                    mount.take(step)
                    recording.done(count)
                    if step.call in ("create", "mkdir"):
                        self._learn(keys, posix, mount, step.arguments[0])
                happened = {event.kind for event in recording.events[before:]} - {"mark"}
                repeats |= operation is workload[-1] and not happened
                repeats |= operation is workload[0] and "changed" not in happened
        return Run(name, recording, oracle, keys, mount.session.id, fresh, repeats)

    def crashes(self, run: Run, *, strict: bool = False) -> Iterator[Crash]:
        """Every state of a workload."""
        return chain(
            kills(run.recording, run.fresh), power_cuts(run.recording, run.fresh, strict=strict)
        )

    def check(self, run: Run, crashes: Iterator[Crash]) -> Iterator[Finding]:
        """Mount each state that was not there before; yields what is broken in it."""
        steps = list(_steps(run.recording))
        for crash in crashes:
            done, begun = steps[crash.at]
            key = (crash.image.digest(), crash.database, crash.power, done, begun)
            if key in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(key)
            self.states += 1
            for violation in self.judge(run, crash, done, begun):
                yield Finding(violation, run.name, crash, _around(run.recording, crash.at))
        self._seen.clear()

    def judge(self, run: Run, crash: Crash, done: int, begun: int) -> list[Violation]:
        """Of one state."""
        backing = MemoryBacking(crash.image.copy())
        unended = frozenset({run.session})
        try:
            mount = self._host.mount(backing.image, unended=unended, backing=backing)
            look = mount.look()
        except Exception as error:  # noqa: BLE001 that is what is looked for
            kind = "mount refused" if isinstance(error, REFUSALS) else "escaped"
            return [Violation(kind, f"{type(error).__name__}: {error}")]
        found = [Violation(*trouble) for trouble in look.troubles]
        found += self._again(look, mount, unended)
        seen, strangers = self._identify(run, look, backing.image)
        found += strangers
        if not any(one.kind in ("unreadable", "escaped") for one in found):
            found += run.oracle.judge(seen, done, begun, power=crash.power)
        return found

    def _again(self, look: Look, mount, unended: frozenset[bytes]) -> list[Violation]:
        """The next mount, after a kill or an unmount in turns, shows the same."""
        if not mount.backing.changes:
            return []
        image = mount.backing.image
        killed = self.states % 2
        sessions = unended | ({mount.session.id} if killed else set())
        try:
            if not killed:
                mount.close()
            again = self._host.mount(image, unended=sessions).look()
        except Exception as error:  # noqa: BLE001 that is what is looked for
            return [Violation("unstable", f"second mount: {type(error).__name__}: {error}")]
        if again.found != look.found or again.troubles != look.troubles:
            return [Violation("unstable", "the second mount shows something else")]
        return []

    @staticmethod
    def _identify(run: Run, look: Look, image: Image) -> tuple[dict[int, Seen], list[Violation]]:
        numbers = image.numbers()
        numbers[1] = image.root
        ids = {number: run.keys.get(numbers[number], STRANGER) for number in look.found}
        seen, strangers = {}, []
        for number, found in look.found.items():
            if ids[number] == STRANGER:
                strangers.append(Violation("stranger", f"inode {number} is not the workload's"))
                continue
            entries = {
                name: target if isinstance(target, bytes) else ids.get(target, STRANGER)
                for name, target in found.entries.items()
            }
            seen[ids[number]] = Seen(found.kind, found.content, found.xattrs, entries)
        return seen, strangers


def _steps(recording: Recording) -> Iterator[tuple[int, int]]:
    """After each count of events: how many steps were acknowledged, and how many begun."""
    done = begun = 0
    yield done, begun
    for event in recording.events:
        if event.kind == "mark":
            begun = event.operation
            done = event.operation if event.call == "returned" else done
        yield done, begun


def _around(recording: Recording, at: int) -> str:
    events = recording.events
    before = str(events[at - 1]) if at else "the beginning"
    return f"after [{before}] before [{events[at] if at < len(events) else 'the end'}]"
