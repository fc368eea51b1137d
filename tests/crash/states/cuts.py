"""The states that a stop leaves on a disk: the model of what a disk keeps.

**Kill.** The page cache survives: every prefix of the calls, and within a write every page border,
since SIGKILL can end a pwrite half way.

**Power cut**, after every prefix of the calls. What a sync made durable is there. Of the rest:

- Content is kept by sectors of 512 bytes, in any choice; a sector holds the whole of one moment,
  so a later write to it is never there without the earlier ones. The choice is enumerated: none,
  all, each write missing, each alone, the last ones alone, the first ones alone, and writes torn.
- Metadata (names, truncations, attributes, modes) is kept as a prefix of its order over the whole
  filesystem, as ext4 and XFS do it. fsync of anything, and syncfs, make all metadata before it
  durable; fdatasync of a file makes its length durable and what came before its last truncation.
  With `strict`, folders and inodes each keep a prefix of their own; a rename is in both folders.
- A file is as long as any prefix of its writes made it; what is missing in it is zeros (unwritten
  extents). A truncation is metadata; the rest of its last block is zeroed before it, as content.
  Blocks that a lost truncation had freed keep what they had, whatever was written in them later.

The same call gives the same states in the same order: `how` is enough to find one again.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.crash.states.image import BLOCK, Change, Image, clear, whole_blocks
from tests.crash.states.recording import Event, Recording
from tests.crash.states.sectors import (
    EVERYTHING,
    Choice,
    Item,
    choices,
    few_choices,
    fill,
    without,
)

_TIMES = ("atime", "mtime", "ctime")


class Crash(NamedTuple):
    """One state, and how the disk came to it."""

    image: Image
    power: bool
    at: int
    """How many events of the recording had happened."""
    how: str
    database: bytes | None
    """The content database's file at that moment."""


def kills(recording: Recording, first: int = 0) -> Iterator[Crash]:
    """Every state of a driver killed after at least `first` events."""
    image, database = recording.base.copy(), None
    for at, event in enumerate(recording.events):
        if at >= first:
            yield Crash(image.copy(), False, at, "kill", database)
            if event.call == "write":
                ((_kind, key, offset, data),) = event.changes
                for border in range(offset // BLOCK * BLOCK + BLOCK, offset + len(data), BLOCK):
                    cut = image.copy()
                    cut.apply(("write", key, offset, data[: border - offset]))
                    yield Crash(cut, False, at, f"kill+{border - offset}", database)
        database = event.database or database
        for change in event.changes:
            image.apply(change)
    yield Crash(image, False, len(recording.events), "kill", database)


def power_cuts(recording: Recording, first: int = 0, *, strict: bool = False) -> Iterator[Crash]:
    """Every enumerated state of a power cut after at least `first` events."""
    disk, database = _Disk(recording.base, strict=strict), None
    for at, event in enumerate([*recording.events, None]):
        if at >= first:
            for image, how in disk.states():
                yield Crash(image, True, at, how, database)
        if event is not None:
            database = event.database or database
            disk.take(event)


class _Meta(NamedTuple):
    """A metadata operation that is not durable yet."""

    number: int
    groups: frozenset[int]
    changes: tuple[Change, ...]


class _Disk:
    """What is durable, and what is on its way."""

    def __init__(self, base: Image, *, strict: bool) -> None:
        self._live = base.copy()
        self._base = base.copy()
        self._strict = strict
        self._meta: list[_Meta] = []
        self._items: dict[int, list[Item]] = {}
        self._count = 0
        self._last_data: dict[int, int] = {}
        """Of an inode: its last metadata operation that fdatasync has to wait for."""

    # What happens

    def take(self, event: Event) -> None:
        """The next event of the recording."""
        if event.kind == "changed":
            self._change(event.changes)
        elif event.kind == "synced":
            self._sync(event.key, data_only=event.data_only)
        elif event.kind == "synced_all":
            for key in list(self._items):
                self._content_is_durable(key)
            self._commit(self._count)

    def _change(self, changes: tuple[Change, ...]) -> None:
        self._count += 1
        kept: list[Change] = []
        for change in changes:
            kind, key = change[0], change[1]
            if kind == "new":
                self._base.apply(change)
                self._last_data[key] = self._count
            elif kind == "write":
                size = len(self._live.nodes[key].data)
                end = change[2] + len(change[3])
                self._note(key, Item(self._count, change[2], change[3], extends=end > size))
            elif kind == "clear":
                self._note_hole(key, change[2], change[3])
                kept.append(change)
                self._last_data[key] = self._count
            elif kind == "length":
                self._note_cut(key, change[2])
                kept.append(change)
                self._last_data[key] = self._count
            elif kind != "set" or change[2] not in _TIMES:
                kept.append(change)
            self._live.apply(change)
        if kept:
            groups = frozenset(change[1] if self._strict else 0 for change in kept)
            self._meta.append(_Meta(self._count, groups, tuple(kept)))

    def _note(self, key: int, item: Item) -> None:
        self._items.setdefault(key, []).append(item)

    def _note_cut(self, key: int, length: int) -> None:
        old = len(self._live.nodes[key].data)
        border = min(old, -(-length // BLOCK) * BLOCK)
        if border > length:
            self._note(key, Item(self._count, length, bytes(border - length)))
        self._note(key, Item(self._count, length, None))

    def _note_hole(self, key: int, offset: int, length: int) -> None:
        end = min(offset + length, len(self._live.nodes[key].data))
        freed = whole_blocks(offset, length)
        first, last = freed.start * BLOCK, freed.stop * BLOCK
        edges = [(offset, min(first, end)), (max(offset, last), end)] if freed else [(offset, end)]
        for start, stop in edges:
            if start < stop:
                self._note(key, Item(self._count, start, bytes(stop - start)))
        if freed:
            self._note(key, Item(self._count, first, None, hole=last - first))

    def _sync(self, key: int, *, data_only: bool) -> None:
        self._content_is_durable(key)
        if not data_only:
            self._commit(self._count, group=key)
        elif key in self._last_data:
            self._commit(self._last_data[key], group=key)

    def _content_is_durable(self, key: int) -> None:
        if self._items.pop(key, None) is not None:
            node, now = self._base.own(key), self._live.nodes[key]
            node.data, node.blocks = bytearray(now.data), set(now.blocks)

    def _commit(self, upto: int, group: int | None = None) -> None:
        """Metadata before `upto` is durable; with `strict`, that of one group."""
        groups = None if group is None or not self._strict else {group}
        for meta in reversed(self._meta if groups is not None else ()):
            if meta.number <= upto and meta.groups & groups:
                groups |= meta.groups
        left = []
        for meta in self._meta:
            if meta.number > upto or not (groups is None or meta.groups & groups):
                left.append(meta)
                continue
            for change in meta.changes:
                if change[0] not in ("length", "clear"):
                    self._base.apply(change)
                elif self._has(change[1], meta.number):
                    self._space_durably(change[1], meta.number)
        self._meta = left

    def _has(self, key: int, number: int) -> bool:
        items = self._items.get(key, ())
        return any(item.data is None and item.number == number for item in items)

    def _space_durably(self, key: int, number: int) -> None:
        """A truncation or hole whose earlier writes are on their way: what was in it is gone."""
        items = self._items[key]
        at = next(i for i, one in enumerate(items) if one.data is None and one.number == number)
        item = items[at]
        if item.hole:
            clear(self._base.own(key), item.offset, item.hole)
            gone = range(item.offset, item.offset + item.hole)
        else:
            self._base.apply(("length", key, item.offset))
            gone = range(item.offset, EVERYTHING)
        before = [part for one in items[:at] for part in without(one, gone)]
        self._items[key] = before + items[at + 1 :]

    # What may be left of it

    def states(self) -> Iterator[tuple[Image, str]]:
        """Every enumerated state of a power cut at this moment."""
        writes = [item for items in self._items.values() for item in items if item.data is not None]
        writes.sort()
        numbers = [item.number for item in writes]
        extending = [item.number for item in writes if item.extends]
        reach = {"": EVERYTHING, "short": 0}
        for kept, said in self._kept_metadata():
            newest = said == ""
            some = choices(writes) if newest else few_choices(numbers)
            for choice in list(some):
                for label, last in reach.items() if extending else [("", EVERYTHING)]:
                    how = " ".join(filter(None, (said, choice.how, label)))
                    yield self._state(kept, choice, last), how or "all"
            if newest:
                for last in extending[:-1]:
                    yield self._state(kept, Choice("", frozenset(numbers)), last), f"to {last}"

    def _kept_metadata(self) -> Iterator[tuple[list[_Meta], str]]:
        yield self._meta, ""
        if not self._strict:
            for count in reversed(range(len(self._meta))):
                yield self._meta[:count], f"metadata:{count}/{len(self._meta)}"
            return
        groups = sorted(frozenset().union(*(meta.groups for meta in self._meta)))
        for group in groups:
            own = [meta.number for meta in self._meta if group in meta.groups]
            for last in [0, *own[:-1]]:
                yield (
                    self._metadata_without(
                        lambda g, g0=group, n=last: n if g == g0 else EVERYTHING
                    ),
                    (f"metadata of {group} to {last}"),
                )
            yield (
                self._metadata_without(lambda g, g0=group: EVERYTHING if g == g0 else 0),
                f"only {group}",
            )
        if groups:
            yield [], "no metadata"

    def _metadata_without(self, last_of) -> list[_Meta]:
        kept, stopped = [], set()
        for meta in self._meta:
            if meta.groups & stopped or any(meta.number > last_of(g) for g in meta.groups):
                stopped |= meta.groups
            else:
                kept.append(meta)
        return kept

    def _state(self, kept: list[_Meta], choice: "Choice", reach: int) -> Image:
        image = self._base.copy()
        there = set()
        for meta in kept:
            there.add(meta.number)
            for change in meta.changes:
                if change[0] not in ("length", "clear"):
                    image.apply(change)
        for key, items in self._items.items():
            fill(image.own(key), items, there, choice, reach)
        return image
