"""The rows, in groups: a group is what one system does in one turn, on files that it makes itself.

Warm rows run on the mount that wrote the files, after one untimed pass where the row says `again`;
cold rows follow a new mount.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.figures import Row

SMALL = 4096
"""Bytes of a small file."""
JOBS = 4
"""Of fio, at once."""


@dataclass(frozen=True)
class Sizes:
    """How much is done; bytes and numbers."""

    sequential: int = 1 << 30
    random_file: int = 256 << 20
    random_calls: int = 5000
    files: int = 2000
    list_passes: int = 10
    tree_files: int = 2450
    tree_bytes: int = 104_000_000
    repository_files: int = 1200
    transactions: int = 300
    fio_bytes: int = 32 << 20
    """Of each job."""


QUICK = Sizes(
    sequential=192 << 20,
    random_file=64 << 20,
    random_calls=3000,
    files=1500,
    tree_files=600,
    tree_bytes=25_000_000,
    repository_files=300,
    transactions=100,
    fio_bytes=8 << 20,
)


class Turn(Protocol):
    """One system, one repetition of one group."""

    @property
    def sizes(self) -> Sizes: ...

    @property
    def material(self) -> Path:
        """Where what is copied in lies."""
        ...

    @property
    def files(self) -> Path:
        """The mount's root."""
        ...

    @property
    def verify(self) -> bool:
        """The contents are to be verified in this turn."""
        ...

    def timed(self, row: str, task: str, *, needed: bool = False, **options: Any) -> None:
        """Run a task of the client and keep its figures; needed: also if the row was not chosen."""

    def untimed(self, task: str, **options: Any) -> None:
        """Run a task of the client."""

    def again(self, row: str | None = None) -> None:
        """Mount anew: what follows is cold. `row`: the one that this mount's time belongs to."""


@dataclass(frozen=True)
class Group:
    """`rows` in the order in which they are done."""

    name: str
    rows: Callable[[Sizes], list[Row]]
    perform: Callable[[Turn], None]
    needs: str | None = None
    """A program that has to be there."""
    material: bool = False
    """It copies in what `material` makes."""


def _bytes(name: str, does: str, amount: float, temperature: str = "warm") -> Row:
    return Row(
        name=name,
        does=does,
        amount=amount,
        amount_unit="bytes",
        temperature="cold" if temperature == "cold" else "warm",
    )


def operations(name: str, does: str, amount: float, temperature: str = "warm") -> Row:
    row = _bytes(name, does, amount, temperature)
    row.amount_unit = "operations"
    return row


def _sequential_rows(sizes: Sizes) -> list[Row]:
    size = sizes.sequential
    return [
        _bytes("sequential write", "a new file in calls of 1 MiB, and its close", size),
        _bytes("sequential write, fsync", "the same, and an fsync before the close", size),
        _bytes("sequential read", "the file in calls of 1 MiB, after a new mount", size, "cold"),
        _bytes("sequential read again", "the same, once more", size),
    ]


def _sequential(turn: Turn) -> None:
    size, path = turn.sizes.sequential, str(turn.files / "large")
    turn.timed("sequential write, fsync", "write_file", path=path, size=size, fsync=True)
    turn.untimed("command", words=["rm", "-f", path])
    turn.timed("sequential write", "write_file", needed=True, path=path, size=size)
    turn.again()
    turn.timed("sequential read", "read_file", needed=True, path=path, size=size)
    turn.timed("sequential read again", "read_file", path=path, size=size)
    if turn.verify:
        turn.again()
        turn.untimed("verify_file", path=path, size=size)
    turn.untimed("command", words=["rm", path])


def _random_rows(sizes: Sizes) -> list[Row]:
    calls, within = sizes.random_calls, f"in a file of {sizes.random_file >> 20} MiB"
    return [
        operations(
            "random read", f"4 KiB a call {within}, after a new mount and open", calls, "cold"
        ),
        operations("random read again", "the same offsets, once more", calls),
        operations("random write", f"4 KiB a call {within}, and its close", calls),
        operations("random write, fsync", "the same, and one fsync before the close", calls),
    ]


def _random(turn: Turn) -> None:
    size, calls = turn.sizes.random_file, turn.sizes.random_calls
    file: dict[str, Any] = {"path": str(turn.files / "random"), "size": size}
    turn.untimed("write_file", **file)
    turn.again()
    turn.timed("random read", "random_read", **file, count=calls, seed=11)
    turn.timed("random read again", "random_read", **file, count=calls, seed=11, warm=True)
    turn.again()
    turn.timed("random write", "random_write", needed=True, **file, count=calls, seed=12)
    turn.timed(
        "random write, fsync", "random_write", needed=True, **file, count=calls, seed=13, fsync=True
    )
    if turn.verify:
        turn.again()
        turn.untimed("verify_random", **file, writes=[(calls, 12), (calls, 13)])
    turn.untimed("command", words=["rm", file["path"]])


def _small_rows(sizes: Sizes) -> list[Row]:
    count, passes = sizes.files, sizes.list_passes
    return [
        operations("create", "new files of 4 KiB: open, one write, close", count),
        operations("list again", "names and attributes of all of them, as ls -l", count * passes),
        operations("stat again", "each by its name, once more", count),
        operations("read small again", "each: open, one read, close, once more", count),
        operations("list", "names and attributes, after a new mount", count, "cold"),
        operations("stat", "each by its name, after a new mount", count, "cold"),
        operations("read small", "each: open, read, close, after a new mount", count, "cold"),
        operations("rename", "each to another name in its folder", count),
        operations("delete", "each by its name", count),
    ]


def _small(turn: Turn) -> None:
    folder: dict[str, Any] = {"folder": str(turn.files / "small"), "count": turn.sizes.files}
    sized = {**folder, "size": SMALL}
    turn.timed("create", "create", needed=True, **sized)
    turn.timed("list again", "listing", **folder, passes=turn.sizes.list_passes, warm=True)
    turn.timed("stat again", "stat", **folder, warm=True)
    turn.timed("read small again", "read_files", **sized, warm=True)
    turn.again()
    turn.timed("list", "listing", **folder)
    turn.again()
    turn.timed("stat", "stat", **folder)
    turn.again()
    turn.timed("read small", "read_files", **sized)
    if turn.verify:
        turn.untimed("verify_files", **sized)
    turn.timed("rename", "rename", needed=True, **folder)
    turn.timed("delete", "delete", needed=True, **folder)


def _tree_rows(sizes: Sizes) -> list[Row]:
    files = f"{sizes.tree_files} files"
    size = sizes.tree_bytes
    return [
        _bytes("rsync in", f"rsync -a of {files} from memory", size),
        operations("rsync again", "the same, with nothing to do", sizes.tree_files),
        _bytes("tar out", "tar -c of them into a pipe, after a new mount", size, "cold"),
        _bytes("tar out again", "the same, once more", size),
    ]


def _tree(turn: Turn) -> None:
    source, copy = str(turn.material / "tree"), str(turn.files / "tree")
    rsync = ["rsync", "-a", source + "/", copy + "/"]
    tar = ["tar", "-C", str(turn.files), "-cf", "-", "tree"]
    turn.timed("rsync in", "command", needed=True, words=rsync)
    turn.timed("rsync again", "command", words=rsync)
    turn.again()
    turn.timed("tar out", "command", needed=True, words=tar)
    turn.timed("tar out again", "command", words=tar)
    if turn.verify:
        turn.again()
        turn.untimed("compare", source=source, copy=copy)
    turn.untimed("command", words=["rm", "-r", copy])


def _git_rows(sizes: Sizes) -> list[Row]:
    files = sizes.repository_files
    return [
        operations("git clone", f"of a repository of {files} files from memory", files),
        operations("git status again", "on the mount that cloned it, once more", files),
        operations("git status", "after a new mount", files, "cold"),
    ]


def _git(turn: Turn) -> None:
    source, clone = str(turn.material / "repository"), str(turn.files / "clone")
    status = ["git", "-C", clone, "status", "--porcelain"]
    turn.timed(
        "git clone",
        "command",
        needed=True,
        words=["git", "clone", "--quiet", "--no-local", source, clone],
    )
    turn.untimed("command", words=status)
    turn.timed("git status again", "command", words=status)
    turn.again()
    turn.timed("git status", "command", words=status)
    if turn.verify:
        turn.untimed("command", words=["git", "-C", clone, "fsck", "--strict", "--no-progress"])
        turn.untimed("command", words=["git", "-C", clone, "diff", "--exit-code", "HEAD"])
    turn.untimed("command", words=["rm", "-r", clone])


def _sqlite_rows(sizes: Sizes) -> list[Row]:
    count = sizes.transactions
    does = "transactions of an insert and an update, synchronous=FULL, "
    return [
        operations("SQLite", does + "rollback journal", count),
        operations("SQLite WAL", does + "write-ahead log", count),
    ]


def _sqlite(turn: Turn) -> None:
    for row, mode in (("SQLite", "delete"), ("SQLite WAL", "wal")):
        path, count = str(turn.files / f"{mode}.db"), turn.sizes.transactions
        turn.timed(row, "sqlite", needed=True, path=path, count=count, mode=mode)
        if turn.verify:
            turn.untimed("verify_sqlite", path=path, count=count)
        turn.untimed("command", words=["rm", path])


_FIO = {
    "fio random read": ("randread", "4k"),
    "fio random write": ("randwrite", "4k"),
    "fio read": ("read", "128k"),
    "fio write": ("write", "128k"),
}


def _fio_rows(sizes: Sizes) -> list[Row]:
    return [
        _bytes(
            name,
            f"{JOBS} jobs at once, {size} calls, each on a file of {sizes.fio_bytes >> 20} MiB",
            JOBS * sizes.fio_bytes,
        )
        for name, (_mode, size) in _FIO.items()
    ]


def _fio(turn: Turn) -> None:
    each = turn.sizes.fio_bytes
    for job in range(JOBS):
        turn.untimed("write_file", path=str(turn.files / f"job.{job}.0"), size=each)
    for row, (mode, size) in _FIO.items():
        turn.again()
        words = [
            "--name=job",
            f"--directory={turn.files}",
            f"--size={each}",
            f"--numjobs={JOBS}",
            f"--rw={mode}",
            f"--bs={size}",
            "--ioengine=psync",
            "--fallocate=none",
            "--randseed=7",
            "--invalidate=0",
        ]
        turn.timed(row, "fio", words=words)
    words = [str(turn.files / f"job.{job}.0") for job in range(JOBS)]
    turn.untimed("command", words=["rm", *words])


GROUPS = (
    Group("sequential", _sequential_rows, _sequential),
    Group("random", _random_rows, _random),
    Group("small", _small_rows, _small),
    Group("tree", _tree_rows, _tree, "rsync", material=True),
    Group("git", _git_rows, _git, "git", material=True),
    Group("sqlite", _sqlite_rows, _sqlite),
    Group("fio", _fio_rows, _fio, "fio"),
)
