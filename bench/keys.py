"""`python -m bench keys`: what a change of root keys costs, by the number of files in the store.

Stores of growing size on a tmpfs, under customer keys in two local vaults; each verb is the real
program, with its start-up. The claim is that no step grows with the files, since a change rewraps
tenant intermediate keys and site keys only.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType

import msgspec

from bench import keys_store, report
from bench.keys_figures import KeysRow, KeysRun
from bench.keys_reading import look_at_everything, seconds_to_last_read, wait_until_readable
from bench.mounted_machine import commit, machine, now
from bench.mounted_place import PlaceRefused, base, make_tmpfs, separate
from bench.stage import run as run_shown
from bench.stage import show
from bench.vaults import Vaults

COUNTS = (10, 1000, 100_000)
REPETITIONS = 3
PROBE_SECONDS = 2
_ROOM = 512 << 20
_VAULTS = ("kv-primary", "kv-secondary")


class Life:
    """One store's policy through all its verbs, again and again, each with its time."""

    def __init__(self, place: Path, vaults: Vaults, store: Path, files: int, making: float) -> None:
        self._vaults = vaults
        self._store = store
        self.files = files
        self.making = making
        self._mountpoint = place / "files"
        self._mountpoint.mkdir(exist_ok=True)
        self.seconds: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def _timed(self, step: str, *command: str, program: str = "ckfs-keys") -> None:
        start, used = time.perf_counter(), _children_cpu()
        run_shown(program, *command, quiet=True)
        self.seconds.setdefault(step, []).append(time.perf_counter() - start)
        self.cpu.setdefault(step, []).append(_children_cpu() - used)

    def _keys(self, step: str, *options: str) -> None:
        self._timed(step, *step.split(), str(self._store), *options, "--yes")

    def _pair(self, name: str) -> tuple[str, ...]:
        primary, secondary = (self._vaults.make(vault, name) for vault in _VAULTS)
        return "--primary-uri", primary, "--secondary-uri", secondary

    def repeat(self, repetition: int) -> None:
        """Service-managed at the start and at the end."""
        name = f"root-{self.files}-{repetition}"
        self._timed("program start", "--version")
        both = self._pair(name)
        self._timed("register", "policy", "register", str(self._store), *both, "--yes")
        self._keys("roll primary", "--uri", self._vaults.make(_VAULTS[0], name))
        self._keys("roll availability")
        self._keys("roll tik")
        with self._mounted():
            self._take_away(name)
        # Without a mount: what these cost is not what a mount's answers cost.
        self._keys("revoke", "--reason", "bench")
        self._timed("undo revoke", "revoke", "--undo", str(self._store), "--yes")
        for vault in _VAULTS:
            self._vaults.client(vault).begin_delete_key(name).wait()
        self._keys("restore", "--reason", "bench", *self._pair(f"{name}-new"))
        self._keys("offboard")

    @contextmanager
    def _mounted(self) -> Iterator[None]:
        start = time.perf_counter()
        run_shown("ckfs", "mount", str(self._store), str(self._mountpoint), quiet=True)
        try:
            os.listdir(self._mountpoint)
            self.seconds.setdefault("mount", []).append(time.perf_counter() - start)
            yield
        finally:
            run_shown("ckfs", "umount", str(self._mountpoint), quiet=True)

    def _take_away(self, name: str) -> None:
        """Twice, and give back: here, and at the vaults."""
        sample = self._mountpoint / keys_store.SAMPLE
        found = look_at_everything(self._mountpoint)
        if found != self.files:
            raise SystemExit(f"bench: the mount shows {found} files, not {self.files}")
        taken = seconds_to_last_read(sample, self._revoke)
        self.seconds.setdefault("last read, revoked here", []).append(taken)
        run_shown("ckfs-keys", "revoke", "--undo", str(self._store), "--yes", quiet=True)
        wait_until_readable(sample)
        taken = seconds_to_last_read(sample, lambda: self._enable(name, enabled=False))
        self.seconds.setdefault("last read, disabled in the vaults", []).append(taken)
        self._enable(name, enabled=True)
        wait_until_readable(sample)

    def _revoke(self) -> None:
        store = str(self._store)
        run_shown("ckfs-keys", "revoke", store, "--reason", "bench", "--yes", quiet=True)

    def _enable(self, name: str, *, enabled: bool) -> None:
        for vault in _VAULTS:
            self._vaults.enable(vault, name, enabled=enabled)


def _children_cpu() -> float:
    """Of programs that have ended: the vaults, which go on, are not among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _begin(place: Path, vaults: Vaults, files: int) -> Life:
    folder = place / f"files-{files}"
    folder.mkdir()
    making = keys_store.make(folder, Path(os.environ["CKFS_STATE_DIR"]), files)
    print(f"{files:,} files made in {making:.1f} s", flush=True)
    return Life(place, vaults, folder / "store", files, making)


def _interrupted(number: int, _frame: FrameType | None) -> None:
    """Ends as an error does, so that mount and vaults are taken down."""
    raise SystemExit(f"bench: ended by {signal.Signals(number).name}; nothing was written")


def measure(counts: list[int], repetitions: int) -> KeysRun:
    """Takes root; shows what it does on standard error. Raises PlaceRefused."""
    begun, version = machine(), commit()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    separate()
    with ExitStack() as undo:
        folder = undo.enter_context(base())
        place = folder / "tmpfs"
        what = make_tmpfs(place, _ROOM + keys_store.BACKING_BYTES * sum(counts))
        os.environ["CKFS_STATE_DIR"] = str(place / "state")
        os.environ["CKFS_AVAILABILITY_DIR"] = str(place / "availability")
        undo.enter_context(redirect_stdout(sys.stderr))
        vaults = Vaults(place / "vaults")
        undo.callback(vaults.close)
        vaults.settings(
            *(f"probe_seconds={PROBE_SECONDS}", "lease_seconds=20"),
            *("opening_deadline_seconds=5", "call_deadline_seconds=3"),
        )
        lives = [_begin(place, vaults, files) for files in sorted(counts)]
        # In turns, so that a machine that slows down does so for every number of files.
        for repetition in range(repetitions):
            for life in lives:
                show(f"repetition {repetition + 1} of {repetitions}, {life.files:,} files")
                life.repeat(repetition)
    return KeysRun(
        date=now(),
        commit=version,
        machine=begun,
        place=f"{what}; repetitions: {repetitions}, the stores in turns",
        probe_seconds=PROBE_SECONDS,
        rows=[
            KeysRow(files=one.files, making=one.making, seconds=one.seconds, cpu=one.cpu)
            for one in lives
        ],
    )


def run(counts: list[int], *, repetitions: int, json_file: Path | None, append: bool) -> None:
    """Measure, write, report."""
    try:
        measured = measure(counts or list(COUNTS), repetitions)
    except PlaceRefused as error:
        raise SystemExit(f"bench: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("bench: interrupted; nothing was written") from None
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
    report.present([measured], append=append)
