"""A file's content on a disk that lost some of what was written to it since its last sync.

Which sectors of which writes are there is a choice; how long the file is, and which blocks a
truncation or a hole has freed, follows from the metadata that is there (see `cuts`).
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.crash.states.image import BLOCK, Node, whole_blocks

SECTOR = 512
_TORN_WRITES = 3
EVERYTHING = 1 << 60


class Item(NamedTuple):
    """What was done to a file's content since its last sync: a write, or a change of length."""

    number: int
    """Of a write, in the order of all; of a change of length, of its metadata operation."""
    offset: int
    data: bytes | None
    """None for a change of length to `offset`, or for a hole that begins there."""
    extends: bool = False
    hole: int = 0
    """Bytes of a hole."""


def without(item: Item, gone: range) -> Iterator[Item]:
    """What is left of an earlier change of a file once a range of it is durably gone."""
    if item.data is None:
        return  # it was durable before
    if item.offset < gone.start:
        kept = item.data[: gone.start - item.offset]
        yield item._replace(data=kept, extends=item.extends and len(kept) == len(item.data))
    if item.offset + len(item.data) > gone.stop:
        skipped = max(0, gone.stop - item.offset)
        yield item._replace(offset=item.offset + skipped, data=item.data[skipped:])


class Choice(NamedTuple):
    """Which writes are on the disk: those named in whole, one in some of its sectors."""

    how: str
    whole: frozenset[int]
    torn: int = 0
    sectors: range = range(0)
    """Of the torn write, counted from its first."""

    def has(self, item: Item, sector: int) -> bool:
        if item.number == self.torn:
            return sector - item.offset // SECTOR in self.sectors
        return item.number in self.whole


def choices(writes: list[Item]) -> Iterator[Choice]:
    numbers = [item.number for item in writes]
    everything = frozenset(numbers)
    yield Choice("", everything)
    if not writes:
        return
    yield Choice("no content", frozenset())
    if len(writes) > 1:
        for number in numbers:
            yield Choice(f"without {number}", everything - {number})
            yield Choice(f"only {number}", frozenset({number}))
        for at in range(2, len(numbers)):
            yield Choice(f"last from {numbers[at]}", frozenset(numbers[at:]))
            yield Choice(f"first to {numbers[at - 1]}", frozenset(numbers[:at]))
    for item in writes[-_TORN_WRITES:]:
        count = -(-(item.offset + len(item.data)) // SECTOR) - item.offset // SECTOR
        for part in _parts(count):
            how = f"torn {item.number} sectors {part.start}-{part.stop}"
            yield Choice(how, everything, item.number, part)
            if len(writes) > 1:
                yield Choice(how + " alone", frozenset(), item.number, part)


def _parts(count: int) -> Iterator[range]:
    """The sectors of a torn write that are there."""
    if count > 1:
        yield range(1)
        yield range(1, count)
    if count > 3:
        yield range(count // 2)
        yield range(count // 2, count)
    if count > 2:
        yield range(count - 1)


def few_choices(numbers: list[int]) -> Iterator[Choice]:
    yield Choice("", frozenset(numbers))
    if numbers:
        yield Choice("no content", frozenset())
    if len(numbers) > 1:
        yield Choice(f"only {numbers[-1]}", frozenset(numbers[-1:]))
        yield Choice(f"without {numbers[-1]}", frozenset(numbers[:-1]))


def fill(node: Node, items: list[Item], there: set[int], choice: Choice, reach: int) -> None:
    """Give a file the content and length that the disk has of it."""
    newest: dict[int, int] = {}
    for item in items:
        if item.data is not None:
            for sector in _sectors(item):
                if choice.has(item, sector):
                    newest[sector] = item.number
    content, blocks, length = bytearray(node.data), set(node.blocks), len(node.data)
    freed = EVERYTHING
    lost_holes: set[int] = set()
    for item in items:
        if item.data is not None:
            _put(content, blocks, item, newest, freed, lost_holes)
            if item.extends and freed == EVERYTHING and item.number <= reach:
                length = max(length, item.offset + len(item.data))
        elif item.hole:
            inside = whole_blocks(item.offset, item.hole)
            if item.number not in there:
                lost_holes.update(inside)
            else:
                end = min(item.offset + item.hole, len(content))
                content[item.offset : end] = bytes(max(0, end - item.offset))
                blocks -= set(inside)
        elif item.number not in there:
            freed = min(freed, -(-item.offset // BLOCK))
        elif freed == EVERYTHING:
            if item.offset < length:
                del content[item.offset :]
                blocks = {block for block in blocks if block * BLOCK < item.offset}
            length = item.offset
    del content[length:]
    content.extend(bytes(length - len(content)))
    node.data = content
    node.blocks = {block for block in blocks if block * BLOCK < length}


def _sectors(item: Item) -> range:
    return range(item.offset // SECTOR, -(-(item.offset + len(item.data)) // SECTOR))


def _put(
    content: bytearray,
    blocks: set[int],
    item: Item,
    newest: dict[int, int],
    freed: int,
    lost_holes: set[int],
) -> None:
    for sector in _sectors(item):
        block = sector * SECTOR // BLOCK
        if newest.get(sector, 0) < item.number or block >= freed or block in lost_holes:
            continue
        start = max(item.offset, sector * SECTOR)
        end = min(item.offset + len(item.data), (sector + 1) * SECTOR)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[start:end] = item.data[start - item.offset : end - item.offset]
        blocks.add(block)
