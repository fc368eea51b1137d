"""Which chunks of a sparse file are present: a set of runs, and its bytes (FORMAT.md section 6).

Held as one sorted list of borders: start, end, start, end. An index is present when an odd
number of borders lies at or below it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from fsdriver.errors import HeaderInvalid

_DIGIT: Final = 0x7F
_MORE: Final = 0x80
"""A byte of a packed number: seven bits of it, and whether more follow."""


class ExtentMap:
    """A set of chunk indexes, cheap while they come in runs."""

    __slots__ = ("_borders",)

    def __init__(self, borders: list[int] | None = None) -> None:
        self._borders = borders or []

    @classmethod
    def full(cls, chunk_count: int) -> "ExtentMap":
        """The map of a dense file."""
        return cls([0, chunk_count] if chunk_count else [])

    def copy(self) -> "ExtentMap":
        """One that can be changed alone."""
        return ExtentMap(list(self._borders))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExtentMap) and self._borders == other._borders

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __contains__(self, chunk_index: int) -> bool:
        return bisect_right(self._borders, chunk_index) % 2 == 1

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._borders) // 2

    def is_dense(self, chunk_count: int) -> bool:
        """Whether no chunk of the file is missing."""
        return self._borders == ([0, chunk_count] if chunk_count else [])

    def add(self, first_chunk: int, end_chunk: int) -> None:
        """Make [first_chunk, end_chunk) present."""
        self._splice(first_chunk, end_chunk, outside=0)

    def remove(self, first_chunk: int, end_chunk: int) -> None:
        """Make [first_chunk, end_chunk) a hole."""
        self._splice(first_chunk, end_chunk, outside=1)

    def _splice(self, first_chunk: int, end_chunk: int, *, outside: int) -> None:
        low = bisect_left(self._borders, first_chunk)
        high = bisect_right(self._borders, end_chunk)
        borders = []
        if low % 2 == outside:
            borders.append(first_chunk)
        if high % 2 == outside:
            borders.append(end_chunk)
        self._borders[low:high] = borders

    def runs(self) -> Iterator[tuple[int, int]]:
        """The present runs, in order, as [first, end)."""
        return iter(zip(self._borders[::2], self._borders[1::2], strict=True))

    def segments(self, first_chunk: int, end_chunk: int) -> Iterator[tuple[int, int, bool]]:
        """Cut [first_chunk, end_chunk) into runs that are wholly present or wholly a hole."""
        at = bisect_right(self._borders, first_chunk)
        while first_chunk < end_chunk:
            border = self._borders[at] if at < len(self._borders) else end_chunk
            stop = min(border, end_chunk)
            yield first_chunk, stop, at % 2 == 1
            first_chunk = stop
            at += 1

    def holes(self, chunk_count: int) -> Iterator[tuple[int, int]]:
        """The runs that are missing below `chunk_count`."""
        for first, end, present in self.segments(0, chunk_count):
            if not present:
                yield first, end

    def pack(self) -> bytes:
        """Distances between neighbouring borders as little-endian base-128 numbers."""
        packed = bytearray()
        previous = 0
        for border in self._borders:
            distance = border - previous
            previous = border
            while distance > _DIGIT:
                packed.append(_MORE | (distance & _DIGIT))
                distance >>= 7
            packed.append(distance)
        return bytes(packed)

    @classmethod
    def parse(cls, packed: bytes, chunk_count: int) -> "ExtentMap":
        """Raises HeaderInvalid unless these are exactly the bytes that `pack` gives."""
        borders: list[int] = []
        border = shift = 0
        for byte in packed:
            if byte == 0 and (shift or borders):
                raise HeaderInvalid("the extent map is not in its shortest form")
            border += (byte & _DIGIT) << shift
            if border > chunk_count:
                raise HeaderInvalid("the extent map goes beyond the end of the file")
            if byte & _MORE:
                shift += 7
            else:
                borders.append(border)
                shift = 0
        if shift or len(borders) % 2:
            raise HeaderInvalid("the extent map ends inside a run")
        return cls(borders)
