"""Random operations on one file against a bytearray, through the kernel's caches and mappings.

Every failure names its seed and its last steps, and the same seed does the same again.
"""

from __future__ import annotations

import mmap
import os
import random

import pytest

pytestmark = pytest.mark.mounted

LIMIT = 400_000
STEPS = 250


class Exerciser:
    def __init__(self, driven, seed: int) -> None:
        self.driven = driven
        self.place = driven.mountpoint / "file"
        self.random = random.Random(seed)
        self.model = bytearray()
        self.steps: list[str] = []
        self.descriptor = os.open(self.place, os.O_CREAT | os.O_RDWR, 0o600)

    def span(self) -> tuple[int, int]:
        """A start and a length that like the borders of chunks and pages."""
        near = self.random.choice((0, 4096, 65536, 131072, len(self.model)))
        start = self.random.choice(
            (self.random.randrange(LIMIT), max(0, near + self.random.randrange(-3, 4)))
        )
        length = self.random.choice((1, 3, 4096, 65536, self.random.randrange(1, 150_000)))
        return start, min(length, LIMIT + 200_000 - start)

    def step(self) -> None:
        name = self.random.choice(
            ("write", "write", "read", "read", "truncate", "map_write", "map_read", "append")
            if self.random.random() < 0.8
            else ("reopen", "fsync", "punch_by_size", "size")
        )
        if self.random.random() < 0.005:
            name = "remount"
        start, length = self.span()
        self.steps.append(f"{name} {start} {length}")
        getattr(self, name)(start, length)

    def write(self, start: int, length: int) -> None:
        data = self.random.randbytes(length)
        assert os.pwrite(self.descriptor, data, start) == length
        self.put(start, data)

    def put(self, start: int, data: bytes) -> None:
        if len(self.model) < start:
            self.model.extend(bytes(start - len(self.model)))
        self.model[start : start + len(data)] = data

    def read(self, start: int, length: int) -> None:
        assert os.pread(self.descriptor, length, start) == self.model[start : start + length]

    def truncate(self, start: int, _length: int) -> None:
        os.ftruncate(self.descriptor, start)
        self.resize(start)

    def resize(self, size: int) -> None:
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def punch_by_size(self, start: int, _length: int) -> None:
        """Cut and extend: what was cut must not come back."""
        size = len(self.model)
        cut = min(start, size)
        os.truncate(self.place, cut)
        os.truncate(self.place, size)
        self.resize(cut)
        self.resize(size)

    def map_write(self, start: int, length: int) -> None:
        length = min(length, len(self.model) - start)
        if length <= 0:
            return
        data = self.random.randbytes(length)
        with mmap.mmap(self.descriptor, len(self.model)) as mapped:
            mapped[start : start + length] = data
            if self.random.random() < 0.5:
                mapped.flush()
        self.put(start, data)

    def map_read(self, start: int, length: int) -> None:
        if self.model:
            with mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) as mapped:
                assert len(mapped) == len(self.model)
                assert mapped[start : start + length] == self.model[start : start + length]

    def append(self, _start: int, length: int) -> None:
        if len(self.model) + length > LIMIT + 200_000:
            return
        data = self.random.randbytes(length)
        other = os.open(self.place, os.O_WRONLY | os.O_APPEND)
        os.write(other, data)
        os.close(other)
        self.put(len(self.model), data)

    def reopen(self, _start: int, _length: int) -> None:
        os.close(self.descriptor)
        self.descriptor = os.open(self.place, os.O_RDWR)

    def fsync(self, _start: int, _length: int) -> None:
        os.fsync(self.descriptor)

    def size(self, _start: int, _length: int) -> None:
        assert os.fstat(self.descriptor).st_size == len(self.model)

    def remount(self, _start: int, _length: int) -> None:
        os.close(self.descriptor)
        self.driven.remount()
        self.descriptor = os.open(self.place, os.O_RDWR)
        self.read(0, LIMIT + 200_000)


def exercise(driven, seed: int, steps: int) -> None:
    exerciser = Exerciser(driven, seed)
    try:
        for _ in range(steps):
            exerciser.step()
        exerciser.remount(0, 0)
    except (AssertionError, OSError, ValueError) as error:
        raise AssertionError(
            f"seed {seed}, after {exerciser.steps[-12:]}: {error!r:.500}"
        ) from None
    finally:
        os.close(exerciser.descriptor)


@pytest.mark.parametrize("seed", range(3))
def test_random_operations(driven, seed):
    exercise(driven, seed, STEPS)


def test_random_operations_on_small_chunks(fresh):
    driven = fresh("--chunk-size", "4096")
    driven.mount()
    exercise(driven, 99, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 103))
def test_many_random_operations(driven, seed):
    exercise(driven, seed, 6 * STEPS)
