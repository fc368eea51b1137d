"""The rows of `bench scale`: what one file costs, and a mount, when there are few or many."""

from collections.abc import Callable
from functools import partial
from typing import Any

from bench.figures import Row
from bench.workloads.groups import Group, Sizes, Turn, operations

COUNTS = (1_000, 10_000, 100_000)
_SIZE = 1000
"""Bytes of a file: what is asked is what a file costs, not its bytes."""
_SHAPES = {"one": "one folder", "20": "deep tree"}
"""As the client calls them, and as a reader does: 20 files in a folder, six levels down."""


def groups(counts: tuple[int, ...]) -> tuple[Group, ...]:
    """One for each shape and number of files."""
    return tuple(
        Group(
            f"{counts_word(count)}, {name}",
            partial(_rows, count, name),
            _performer(count, shape, name),
        )
        for count in counts
        for shape, name in _SHAPES.items()
    )


def counts_word(count: int) -> str:
    """100000 as 100,000."""
    return f"{count:,}"


def _row(what: str, does: str, count: int, name: str, *, cold: bool) -> Row:
    row = operations(
        f"{what}, {counts_word(count)}, {name}", does, count, "cold" if cold else "warm"
    )
    row.scale, row.curve = count, f"{what}, {name}"
    return row


def _rows(count: int, name: str, _sizes: Sizes) -> list[Row]:
    mount = _row("mount", "and a listing of its root", count, name, cold=True)
    mount.amount = 1
    return [
        _row("create", f"files of {_SIZE} bytes: open, one write, close", count, name, cold=False),
        mount,
        _row("stat", "each by its name, after that mount", count, name, cold=True),
        _row("read", "each: open, one read, close, after the stats", count, name, cold=True),
        _row("unlink", "each by its name, after the reads", count, name, cold=False),
    ]


def _performer(count: int, shape: str, name: str) -> Callable[[Turn], None]:
    end = f"{counts_word(count)}, {name}"

    def perform(turn: Turn) -> None:
        tree: dict[str, Any] = {"folder": str(turn.files / "tree"), "count": count, "shape": shape}
        turn.timed(f"create, {end}", "create", needed=True, **tree, size=_SIZE)
        turn.again(f"mount, {end}")
        turn.timed(f"stat, {end}", "stat", **tree)
        turn.timed(f"read, {end}", "read_files", **tree, size=_SIZE)
        turn.timed(f"unlink, {end}", "delete", needed=True, **tree, stem="file")

    return perform
