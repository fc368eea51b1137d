"""Workloads, generated: every sequence of operations of a small alphabet over a synced base tree.

An operation is one to three steps, each one system call of a program. Chunks are of 4 KiB, and
contents of one to five chunks, so that a write covers a whole chunk, a part of one, or the border
of two. Which sequences are possible, the oracle says.
"""

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import NamedTuple

CHUNK = 4096


class Step(NamedTuple):
    """One call."""

    call: str
    arguments: tuple


class Operation(NamedTuple):
    """What a workload is a sequence of; its name is what a developer types to see it again."""

    name: str
    steps: tuple[Step, ...]


def content(seed: str, length: int) -> bytes:
    """The same for the same seed, and no two chunks alike."""
    return Random(seed).randbytes(length)


def _operation(name: str, *steps: tuple) -> Operation:
    return Operation(name, tuple(Step(call, tuple(arguments)) for call, *arguments in steps))


def _written(name: str, path: str, *steps: tuple) -> Iterator[Operation]:
    """A program that opens, writes and closes; and one that leaves the file open."""
    yield _operation(f"{name} {path}", ("open", path), *steps, ("close", path))
    yield _operation(f"{name} {path} held", ("open", path), *steps)


BASE = _operation(
    "base",
    ("mkdir", "A"),
    ("mkdir", "B"),
    ("mkdir", "E"),
    ("create", "A/f"),
    ("write", "A/f", 0, content("A/f", 2 * CHUNK + 1808)),
    ("close", "A/f"),
    ("setxattr", "A/f", "user.colour", b"red"),
    ("create", "B/g"),
    ("write", "B/g", 0, content("B/g", CHUNK)),
    ("close", "B/g"),
    ("create", "h"),
    ("write", "h", 0, content("h", CHUNK)),
    ("write", "h", 3 * CHUNK, content("h end", 1000)),
    ("close", "h"),
    ("symlink", "s", b"A/f"),
)
"""Two files, one with a hole of two chunks; two folders with a file, an empty one; a symlink."""
UNMOUNT = _operation("unmount", ("unmount",))
CHECKPOINT_WAITS = 5
"""Waits for a disk in a checkpoint; the steps that follow a part of one fall in its midst."""
FILES = ("A/f", "B/g", "A/n")


def alphabet() -> list[Operation]:
    """In a fixed order."""
    made = [
        _operation("create A/n", ("create", "A/n"), ("close", "A/n")),
        _operation(
            "new A/n",
            ("create", "A/n"),
            ("write", "A/n", 0, content("new", CHUNK + 1900)),
            ("close", "A/n"),
        ),
        _operation(
            "new A/n held", ("create", "A/n"), ("write", "A/n", 0, content("held", 2 * CHUNK))
        ),
    ]
    for path in FILES:
        border = ("write", path, 3000, content(path + "border", 2000))
        made += _written("overwrite", path, border)
        made += _written("append", path, ("write", path, None, content(path + "append", 5000)))
        for name, step in (
            ("overwrite-chunk", ("write", path, 0, content(path + "chunk", CHUNK))),
            ("truncate-5000", ("truncate", path, 5000)),
            ("truncate-0", ("truncate", path, 0)),
            ("truncate-20000", ("truncate", path, 20000)),
        ):
            steps = (("open", path), step, ("close", path))
            made.append(_operation(f"{name} {path}", *steps))
        made += [
            _operation(
                f"rewrite {path}",
                ("open", path),
                ("truncate", path, 0),
                ("write", path, 0, content(path + "rewrite", CHUNK + 100)),
                ("close", path),
            ),
            _operation(f"setxattr {path}", ("setxattr", path, "user.colour", b"blue")),
            _operation(f"unlink {path}", ("unlink", path)),
            _operation(f"fsync {path}", ("fsync", path)),
        ]
    for name, step in (
        ("fill h", ("write", "h", CHUNK, content("fill", 2 * CHUNK))),
        ("overwrite h", ("write", "h", CHUNK - 500, content("h border", 1000))),
        ("append h", ("write", "h", None, content("h append", 5000))),
        ("truncate-6000 h", ("truncate", "h", 6000)),
        ("truncate-30000 h", ("truncate", "h", 30000)),
    ):
        made.append(_operation(name, ("open", "h"), step, ("close", "h")))
    grown = ("write", "B/g", None, content("grown", 2 * CHUNK))
    made += [
        _operation(
            "punch A/f", ("open", "A/f"), ("punch", "A/f", 3000, CHUNK + 3000), ("close", "A/f")
        ),
        _operation("punch h held", ("open", "h"), ("punch", "h", 0, 2 * CHUNK)),
        _operation(
            "punch-append B/g held",
            ("open", "B/g"),
            grown,
            ("punch", "B/g", CHUNK, CHUNK),
            ("sync",),
            ("write", "B/g", None, content("behind", CHUNK)),
        ),
        _operation("tmpfile A/n", ("tmpfile", "A/n", content("tmpfile", CHUNK + 1900))),
        _operation("fsync h", ("fsync", "h")),
        _operation("fdatasync A/f", ("fdatasync", "A/f")),
        _operation("close A/f", ("close", "A/f")),
    ]
    for waits in range(CHECKPOINT_WAITS):
        made.append(
            _operation(
                f"pending {waits}",
                ("open", "A/f"),
                ("write", "A/f", 3000, content("pending", 2000)),
                ("close", "A/f"),
                ("checkpoint", waits),
            )
        )
    made += _small_writes()
    renames = ["A/f A/n", "A/f B/n", "A/f B/g", "B/g A/f", "A/n A/f", "A/n B/g", "A C", "A E"]
    renames += ["C B/C"]
    for pair in [*renames, "E A/E", "s B/s"]:
        made.append(_operation(f"rename {pair}", ("rename", *pair.split())))
    made.append(_operation("exchange A/f B/g", ("exchange", "A/f", "B/g")))
    for pair in ("A/f A/n", "A/f B/n"):
        made.append(_operation(f"link {pair}", ("link", *pair.split())))
    made.append(
        _operation(
            "new-link-rename A/n",
            ("create", "A/n"),
            ("write", "A/n", 0, content("linked", CHUNK)),
            ("close", "A/n"),
            ("link", "A/n", "A/l"),
            ("rename", "A/n", "B/n"),
        )
    )
    for path in ("C", "A/C"):
        made.append(_operation(f"mkdir {path}", ("mkdir", path)))
    for path in ("E", "C", "B"):
        made.append(_operation(f"rmdir {path}", ("rmdir", path)))
    made += [
        _operation("symlink t", ("symlink", "t", b"B/g")),
        _operation("unlink s", ("unlink", "s")),
        _operation("setxattr A", ("setxattr", "A", "user.colour", b"green")),
    ]
    for path in ("", "A", "B"):
        made.append(_operation(f"fsyncdir /{path}", ("fsyncdir", path)))
    made.append(_operation("sync", ("sync",)))
    made.append(_operation("syncfs", ("syncfs",)))
    return made


def _small_writes() -> Iterator[Operation]:
    """Deltas of the journal: within chunks, over a border, at the end; folded by what follows."""
    first, second = (
        [("write", "A/f", offset, content(f"small {offset}", 300)) for offset in offsets]
        for offsets in ((100, 200, CHUNK - 100), (250, CHUNK - 50))
    )
    end = ("write", "A/f", None, content("small append", 1000))
    yield _operation("small A/f held", ("open", "A/f"), *first, end, *second)
    yield _operation("small A/f", ("open", "A/f"), *first, end, ("close", "A/f"))
    lines = [("write", "A/n", None, content(f"line {count}", 1500)) for count in range(4)]
    yield _operation("log A/n held", ("create", "A/n"), *lines)
    yield _operation("log A/n", ("create", "A/n"), *lines, ("close", "A/n"))
    for waits in (1, 2, 3, 4):
        steps = (("open", "A/f"), *first, ("checkpoint", waits), *second, end)
        yield _operation(f"small pending {waits}", *steps)


def sequences(length: int) -> Iterator[tuple[Operation, ...]]:
    """Every one of exactly this length; most of the longer ones are possible."""
    yield from product(alphabet(), repeat=length)
