"""The operations of `python -m bench operations`: what a kernel asks for, and what it takes first.

Each is a generator: it prepares, gives (calls, the work that makes them), and tidies up.
"""

import os
import random
from collections.abc import Callable, Iterator

from bench.unmounted import Unmounted
from fsdriver.inodes import ROOT

FILES = 200
"""A repetition's files for each operation on small ones."""
SMALL = 4096
LARGE = 16 << 20
REFERENCE = "reference"

Work = Callable[[], None]
Operation = Callable[["Stand"], Iterator[tuple[int, Work]]]


class Stand:
    """Where an operation is measured: a folder of its own in a store, and what is in it."""

    def __init__(self, unmounted: Unmounted, plain: str, seed: int) -> None:
        self.fs = unmounted.filesystem
        self.caller = unmounted.caller
        self.checkpoint = unmounted.checkpoint
        self._create = unmounted.create
        self.plain = plain
        self.random = random.Random(seed)  # noqa: S311 offsets
        self.data = self.random.randbytes(SMALL)
        self._name = f"stand {seed}".encode()
        self.folder = self.fs.mkdir(ROOT, self._name, 0o755, self.caller).number
        self.names = [f"file {number:03} of many.txt".encode() for number in range(FILES)]

    def create(self, name: bytes) -> int:
        """A small file; returns the inode's number."""
        return self._create(self.folder, name, self.data)

    def small_files(self, *, known: bool) -> list[int]:
        """FILES of 4 KiB; `known`: their inodes are, as after a stat."""
        numbers = [self.create(name) for name in self.names]
        for number in numbers:
            self.fs.forget(number, 1)
        return self.look_up() if known else []

    def enter_again(self) -> None:
        """The driver knows no more of the folder than its inode, as after another mount."""
        self.fs.forget(self.folder, 1 << 40)
        self.folder = self.fs.lookup(ROOT, self._name).number

    def look_up(self) -> list[int]:
        """The inodes of all small files."""
        return [self.fs.lookup(self.folder, name).number for name in self.names]

    def large_file(self) -> tuple[int, int]:
        """(inode, handle for reading and writing) of a new file of LARGE bytes."""
        made, handle = self.fs.create(self.folder, b"large", 0o644, os.O_RDWR, self.caller)
        block = memoryview(self.random.randbytes(1 << 20))
        for offset in range(0, LARGE, len(block)):
            self.fs.write(handle, offset, block)
        self.fs.flush(handle)
        return made.number, handle

    def large_empty(self) -> tuple[int, int]:
        """The same before anything was written."""
        made, handle = self.fs.create(self.folder, b"large", 0o644, os.O_RDWR, self.caller)
        return made.number, handle

    def clear(self) -> None:
        """Nothing is left of it."""
        handle = self.fs.opendir(self.folder)
        found = [name for name, _attributes, _next in self.fs.readdir(handle, 0)]
        self.fs.releasedir(handle)
        for name in found:
            if name not in (b".", b".."):
                number = self.fs.lookup(self.folder, name).number
                self.fs.unlink(self.folder, name)
                self.fs.forget(number, 1 << 40)
        self.fs.rmdir(ROOT, self._name)
        self.fs.forget(self.folder, 1 << 40)
        self.checkpoint()


def _reference(stand: Stand) -> Iterator[tuple[int, Work]]:
    def work() -> None:
        for name in stand.names:
            place = os.path.join(os.fsencode(stand.plain), name)
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(descriptor, stand.data)
            os.fstat(descriptor)
            os.close(descriptor)

    yield FILES, work
    for name in stand.names:
        os.unlink(os.path.join(os.fsencode(stand.plain), name))


def _lookup(stand: Stand) -> Iterator[tuple[int, Work]]:
    stand.small_files(known=False)
    stand.enter_again()
    yield FILES, _looking(stand)


def _lookup_again(stand: Stand) -> Iterator[tuple[int, Work]]:
    stand.small_files(known=True)
    yield FILES, _looking(stand)


def _looking(stand: Stand) -> Work:
    def work() -> None:
        for name in stand.names:
            stand.fs.lookup(stand.folder, name)

    return work


def _lookup_absent(stand: Stand) -> Iterator[tuple[int, Work]]:
    def work() -> None:
        for name in stand.names:
            try:
                stand.fs.lookup(stand.folder, name)
            except FileNotFoundError:
                continue
            raise AssertionError(name)

    yield FILES, work


def _getattr(stand: Stand) -> Iterator[tuple[int, Work]]:
    numbers = stand.small_files(known=True)

    def work() -> None:
        for number in numbers:
            stand.fs.getattr(number)

    yield FILES, work


def _create(stand: Stand) -> Iterator[tuple[int, Work]]:
    def work() -> None:
        for name in stand.names:
            stand.create(name)

    yield FILES, work


def _read_small(stand: Stand) -> Iterator[tuple[int, Work]]:
    yield FILES, _opening(stand, stand.small_files(known=True))


def _read_small_again(stand: Stand) -> Iterator[tuple[int, Work]]:
    work = _opening(stand, stand.small_files(known=True))
    work()
    yield FILES, work


def _opening(stand: Stand, numbers: list[int]) -> Work:
    def work() -> None:
        fs = stand.fs
        for number in numbers:
            handle = fs.open(number, os.O_RDONLY)
            fs.may_keep_cache(handle)
            if len(fs.read(handle, 0, SMALL)) != SMALL:
                raise AssertionError(number)
            fs.flush(handle)
            fs.release(handle)

    return work


def _readdir(stand: Stand) -> Iterator[tuple[int, Work]]:
    stand.small_files(known=False)
    stand.enter_again()

    def work() -> None:
        handle = stand.fs.opendir(stand.folder)
        count = 0
        for name, attributes, _next in stand.fs.readdir(handle, 0):
            if name not in (b".", b".."):
                stand.fs.count_lookup(attributes.number)
            count += 1
        stand.fs.releasedir(handle)
        if count != FILES + 2:
            raise AssertionError(count)

    yield FILES, work


def _forget(stand: Stand) -> Iterator[tuple[int, Work]]:
    numbers = stand.small_files(known=True)

    def work() -> None:
        for number in numbers:
            stand.fs.forget(number, 1)

    yield FILES, work


def _unlink(stand: Stand) -> Iterator[tuple[int, Work]]:
    numbers = stand.small_files(known=True)

    def work() -> None:
        for name, number in zip(stand.names, numbers, strict=True):
            stand.fs.unlink(stand.folder, name)
            stand.fs.forget(number, 1)

    yield FILES, work


def _rename(stand: Stand) -> Iterator[tuple[int, Work]]:
    stand.small_files(known=True)

    def work() -> None:
        for name in stand.names:
            _moved(stand, name, b"renamed " + name)

    yield FILES, work


def _rename_over(stand: Stand) -> Iterator[tuple[int, Work]]:
    stand.small_files(known=True)
    half = len(stand.names) // 2

    def work() -> None:
        for name, other in zip(stand.names[:half], stand.names[half:], strict=True):
            _moved(stand, name, other)

    yield half, work


def _moved(stand: Stand, name: bytes, new_name: bytes) -> None:
    names = (stand.folder, name, stand.folder, new_name)
    wait = stand.fs.begin_rename(*names)
    if wait is not None:
        wait()
    stand.fs.rename(*names)


def _mkdir(stand: Stand) -> Iterator[tuple[int, Work]]:
    def work() -> None:
        for name in stand.names:
            made = stand.fs.mkdir(stand.folder, name, 0o755, stand.caller)
            stand.fs.forget(made.number, 1)

    yield FILES, work
    for name in stand.names:
        stand.fs.rmdir(stand.folder, name)


def _sequential_write(size: int) -> Operation:
    def operation(stand: Stand) -> Iterator[tuple[int, Work]]:
        _number, handle = stand.large_empty()
        block = memoryview(stand.random.randbytes(size))

        def work() -> None:
            for offset in range(0, LARGE, size):
                stand.fs.write(handle, offset, block)
            stand.fs.flush(handle)

        yield LARGE // size, work
        stand.fs.release(handle)

    return operation


def _sequential_read(size: int) -> Operation:
    def operation(stand: Stand) -> Iterator[tuple[int, Work]]:
        _number, handle = stand.large_file()

        def work() -> None:
            for offset in range(0, LARGE, size):
                stand.fs.read(handle, offset, size)

        yield LARGE // size, work
        stand.fs.release(handle)

    return operation


def _offsets(stand: Stand) -> list[int]:
    return [stand.random.randrange(LARGE // SMALL) * SMALL for _ in range(FILES)]


def _random_read(stand: Stand) -> Iterator[tuple[int, Work]]:
    _number, handle = stand.large_file()
    yield FILES, _reading_at(stand, handle)
    stand.fs.release(handle)


def _random_read_again(stand: Stand) -> Iterator[tuple[int, Work]]:
    _number, handle = stand.large_file()
    work = _reading_at(stand, handle)
    work()
    yield FILES, work
    stand.fs.release(handle)


def _reading_at(stand: Stand, handle: int) -> Work:
    offsets = _offsets(stand)

    def work() -> None:
        for offset in offsets:
            stand.fs.read(handle, offset, SMALL)

    return work


def _random_write(stand: Stand) -> Iterator[tuple[int, Work]]:
    _number, handle = stand.large_file()
    stand.checkpoint()
    yield FILES, _writing_at(stand, handle)
    stand.fs.release(handle)


def _writing_at(stand: Stand, handle: int) -> Work:
    offsets = _offsets(stand)

    def work() -> None:
        for offset in offsets:
            stand.fs.write(handle, offset, stand.data)

    return work


def _checkpoint_creates(stand: Stand) -> Iterator[tuple[int, Work]]:
    stand.checkpoint()
    stand.small_files(known=False)
    yield FILES, stand.checkpoint


def _checkpoint_writes(stand: Stand) -> Iterator[tuple[int, Work]]:
    _number, handle = stand.large_file()
    stand.checkpoint()
    _writing_at(stand, handle)()
    yield FILES, stand.checkpoint
    stand.fs.release(handle)


OPERATIONS: dict[str, Operation] = {
    REFERENCE: _reference,
    "lookup": _lookup,
    "lookup-again": _lookup_again,
    "lookup-absent": _lookup_absent,
    "getattr": _getattr,
    "forget": _forget,
    "create-4k": _create,
    "open-read-4k": _read_small,
    "open-read-4k-again": _read_small_again,
    "readdir-entry": _readdir,
    "unlink": _unlink,
    "rename": _rename,
    "rename-over": _rename_over,
    "mkdir": _mkdir,
    "write-128k": _sequential_write(128 << 10),
    "write-1m": _sequential_write(1 << 20),
    "read-128k": _sequential_read(128 << 10),
    "read-1m": _sequential_read(1 << 20),
    "random-read-4k": _random_read,
    "random-read-4k-again": _random_read_again,
    "random-write-4k": _random_write,
    "checkpoint-per-create": _checkpoint_creates,
    "checkpoint-per-write": _checkpoint_writes,
}
"""What a kernel asks for each: create-4k is create, write, flush, release; open-read-4k is open,
read, flush, release of an inode that was looked up; lookup is of names that are not in memory.
"""
