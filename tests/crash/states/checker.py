"""Runs workloads, mounts every crash state of them, and holds it against the oracle."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from fsdriver.inodes import ROOT as INODE_OF_ROOT
from tests.crash.states.cuts import Crash, kills, power_cuts
from tests.crash.states.looking import REFUSALS, Look
from tests.crash.states.memory import MemoryBacking
from tests.crash.states.mounting import Host, Mount, State, seeded
from tests.crash.states.oracle import Oracle, Seen, Violation
from tests.crash.states.posix import ROOT, Posix
from tests.crash.states.recording import Recording
from tests.crash.states.workloads import BASE, UNMOUNT, Operation

STRANGER = -1
"""Stands for an object that no step of the workload made."""


MAKING = ("create", "mkdir", "tmpfile")
NOTES = ("stat", "leftover")
"""Kinds of findings that are told and are no broken promise: a size that a listing shows before
the file was ever opened is computed from lengths alone."""


class Finding(NamedTuple):
    """One broken promise in one state, and how to see it again."""

    violation: Violation
    workload: str
    crash: Crash
    before: str
    """The event before the stop, and the one that would have come."""
    then: Crash | None = None
    """A second stop, while the next mount looked at what the first had left."""

    def __str__(self) -> str:
        kind, what = self.violation
        crash, then = self.crash, self.then
        said = f"{_name(crash)} after {crash.at} events, kept: {crash.how}"
        again = f"--at {crash.at} --kept {crash.how!r}" + " --power" * crash.power
        if then is not None:
            said += f"; {_name(then)} after {then.at} events of the next mount, kept: {then.how}"
            again += f" --then {then.at} --then-kept {then.how!r}" + " --then-power" * then.power
        return (
            f"{kind}: {what}\n    {said}\n    {self.before}\n"
            f"    python -m tests.crash.states --workload {self.workload!r} {again}"
        )


def _name(crash: Crash) -> str:
    return "power cut" if crash.power else "kill"


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
    """Over one host. `backing` makes that of a workload from an image: a blinded driver's.

    One state in `again` is mounted a second time; at one in `twice` the next mount is stopped, too,
    in all ways, and the one after it is held against the same promises. 0: at none.
    """

    def __init__(
        self,
        host: Host,
        *,
        backing: Callable[..., MemoryBacking] = MemoryBacking,
        again: int = 1,
        twice: int = 0,
    ) -> None:
        self._host = host
        self._backing = backing
        self._again_every = again
        self._twice_every = twice
        self._seen: set[tuple] = set()
        self.states = 0
        """States mounted."""
        self.duplicates = 0
        """States that were there before, with the same to expect of them."""
        self.base, self._base_oracle, self._base_keys = self._make_base()

    def _make_base(self) -> tuple[State, Posix, dict[int, int]]:
        posix = Posix()
        with seeded("base"):
            mount = Mount(self._host, self._host.fresh)
            keys = {mount.backing.image.root: ROOT}
            for step in BASE.steps:
                assert posix.take(step), step
                mount.take(step)
                if step.call in MAKING:
                    self._learn(keys, posix, mount, step.arguments[0])
            left = mount.close()
        posix.held = frozenset()
        return left, posix, keys

    @staticmethod
    def _learn(keys: dict[int, int], posix: Posix, mount, path: str) -> None:
        """Which inode of the image the object under a path is."""
        one = posix.find(path)
        if one is not None:
            image = mount.backing.image
            number = mount.number(path) % (1 << 48)  # what the driver adds to one that is reused
            keys[image.numbers()[number] if path else image.root] = one

    def run(self, workload: tuple[Operation, ...]) -> Run | None:
        """None if it is not possible."""
        posix = Posix()
        posix.version, posix._next = self._base_oracle.version, self._base_oracle._next
        oracle, keys = Oracle(posix), dict(self._base_keys)
        name = "; ".join(operation.name for operation in workload)
        recording = Recording(self.base.image.copy())
        count = fresh = 0
        repeats = False
        with seeded(name):
            backing = self._backing(self.base.image.copy(), recording)
            mount = Mount(self._host, self.base, backing=backing, committed=recording.committed)
            for operation in (*workload, UNMOUNT):
                if operation is workload[-1] and len(workload) > 1:
                    fresh = len(recording.events)
                before = len(recording.events)
                for step in operation.steps:
                    if not oracle.add(step):
                        mount.drop()
                        return None
                    count += 1
                    recording.begin(count)
                    mount.take(step)
                    recording.done(count)
                    if step.call in MAKING:
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
            state = self._state(run, crash, done)
            around = _around(run.recording, crash.at)
            found = self._judge(run, state, done, begun, power=crash.power)
            for violation in found:
                yield Finding(violation, run.name, crash, around)
            if self._twice_every and self.states % self._twice_every == 0 and not found:
                for then, inner in self._stopped_again(run, crash, state):
                    for violation in self._judge(run, inner, done, begun, power=crash.power):
                        yield Finding(violation, run.name, crash, around, then)
        self._seen.clear()

    def _state(self, run: Run, crash: Crash, done: int) -> State:
        ended = done == len(run.oracle.versions) - 1
        unended = frozenset() if ended else frozenset({run.session})
        database = self.base.database if crash.database is None else crash.database
        return State(crash.image, database, unended)

    def _stopped_again(self, run: Run, crash: Crash, state: State) -> Iterator[tuple[Crash, State]]:
        """Every stop of a mount that begins with a state, looks at all, and unmounts."""
        recording = Recording(state.image.copy())
        with seeded(f"{run.name} {crash[1:4]}"):
            backing = MemoryBacking(state.image.copy(), recording)
            mount = Mount(self._host, state, backing=backing, committed=recording.committed)
            Look(mount.fs)
            mount.close()
        seen = set()
        for then in chain(kills(recording), power_cuts(recording)):
            database = state.database if then.database is None else then.database
            key = (then.image.digest(), database)
            if key not in seen:
                seen.add(key)
                self.states += 1
                yield then, State(then.image, database, state.unended | {mount.session.id})

    def _judge(
        self, run: Run, state: State, done: int, begun: int, *, power: bool
    ) -> list[Violation]:
        try:
            mount = Mount(self._host, state._replace(image=state.image.copy()))
        except Exception as error:  # noqa: BLE001 that is what is looked for
            return [_refused("mount refused", error)]
        look = Look(mount.fs)
        found = [Violation(*trouble) for trouble in look.troubles]
        numbers = mount.backing.image.numbers()
        seen, strangers = self._identify(run, look, numbers)
        found += self._again(look, mount)
        found += strangers
        if not any(one.kind in ("unreadable", "escaped") for one in found):
            found += run.oracle.judge(seen, done, begun, power=power)
        return found

    def _again(self, look: Look, mount: Mount) -> list[Violation]:
        """The next mount, after a kill or an unmount in turns, shows the same."""
        turn, rest = divmod(self.states, self._again_every)
        if rest:
            mount.drop()
            return []
        try:
            left = mount.drop() if turn % 2 else mount.close()
            after = Mount(self._host, left)
        except Exception as error:  # noqa: BLE001 that is what is looked for
            return [_refused("unstable", error)]
        again = Look(after.fs)
        after.drop()
        if again.found != look.found or _serious(again) != _serious(look):
            return [Violation("unstable", f"the next mount shows something else {again.troubles}")]
        return []

    @staticmethod
    def _identify(
        run: Run, look: Look, numbers: dict[int, int]
    ) -> tuple[dict[int, Seen], list[Violation]]:
        ids = {number: run.keys.get(numbers.get(number), STRANGER) for number in look.found}
        ids[INODE_OF_ROOT] = ROOT
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


def _serious(look: Look) -> list[tuple[str, str]]:
    return [trouble for trouble in look.troubles if trouble[0] not in NOTES]


def _refused(kind: str, error: Exception) -> Violation:
    kind = kind if isinstance(error, REFUSALS) else "escaped"
    return Violation(kind, f"{type(error).__name__}: {error}")


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
