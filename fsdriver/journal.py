"""The redo journal: what replaces bytes of a backing file lies here, whole, before it goes there.

Two journal files take turns. New transactions go to the current one; at a checkpoint they change
places, and the other is synced, applied, synced again and begun anew (checkpoint.py). Until then
reads see its images over what lies in place. The order of FORMAT.md section 11 is kept here.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from fsdriver.backing import Backing
from fsdriver.format.journal import (
    HEAD_SIZE,
    NO_CUT,
    SALT_SIZE,
    Draft,
    Image,
    JournalCipher,
    JournalHead,
    Transaction,
)

FOLDER: Final = "journal"
FILES: Final = ("a", "b")
_AT_ONCE: Final = 4 << 20
RESERVE: Final = 1 << 20
"""Bytes that a journal file keeps, so that a full store can still be cut and deleted from."""

Key = tuple[int, int]


class Hole:
    """Bytes of a backing file that are to be zeros: [offset, end)."""

    __slots__ = ("end", "offset", "room_kept")

    def __init__(self, offset: int, end: int) -> None:
        self.offset = offset
        self.end = end
        self.room_kept = False
        """Whether a program was promised room there since."""


class Part:
    """What one epoch holds of one file."""

    __slots__ = ("applied", "cut", "epoch", "header", "holes", "images", "length")

    def __init__(self, epoch: "Epoch") -> None:
        self.epoch = epoch
        self.images: dict[int, Image] = {}  # by offset in the backing file
        self.cut: int | None = None
        """The shortest that the backing file has been meanwhile."""
        self.holes: list[Hole] = []
        """What was punched out; an image in one of them came later."""
        self.length = 0
        self.header = b""
        self.applied = False
        """Whether all of it is in place: never twice, since newer writes may lie there then."""


class JournaledFile:
    """A file with transactions that are not in place for good yet."""

    __slots__ = ("descriptor", "file_id", "key", "parts")

    def __init__(self, file_id: bytes, key: Key, descriptor: int) -> None:
        self.file_id = file_id
        self.key = key
        self.descriptor = descriptor
        """The journal's own, so that the file is found however it is renamed."""
        self.parts: list[Part] = []  # oldest first, at most two

    @property
    def live(self) -> bool:
        """Whether its header and what that names are the journal's to change."""
        return bool(self.parts)

    @property
    def was_cut(self) -> bool:
        """Then nothing may be written in place: a replay would cut it off, or make it zeros."""
        return any(part.cut is not None or part.holes for part in self.parts)

    @property
    def header(self) -> bytes:
        """The newest."""
        return self.parts[-1].header

    @property
    def length(self) -> int:
        """That the backing file has once all is in place."""
        return self.parts[-1].length

    def image(self, offset: int) -> tuple["Epoch", Image] | None:
        """Where the newest bytes of the record at `offset` are; None: in place."""
        for part in reversed(self.parts):
            found = part.images.get(offset)
            if found is not None:
                return part.epoch, found
            if part.cut is not None and offset >= part.cut:
                return None
        return None

    def take(
        self, epoch: "Epoch", header: bytes, length: int, cut: int | None, images: list[Image]
    ) -> None:
        """A transaction that lies in the journal."""
        if not self.parts or self.parts[-1].epoch is not epoch:
            self.parts.append(Part(epoch))
        part = self.parts[-1]
        if cut is not None:
            part.cut = cut if part.cut is None else min(part.cut, cut)
            for offset in [one for one in part.images if one >= cut]:
                del part.images[offset]
        for image in images:
            if image.hole:
                end = image.offset + image.hole
                for offset in [one for one in part.images if image.offset <= one < end]:
                    del part.images[offset]
                part.holes.append(Hole(image.offset, end))
            else:
                part.images[image.offset] = image
        part.header, part.length = header, length

    def keep_room(self, offset: int, end: int) -> None:
        """What was punched out of [offset, end) and is not in place yet is to leave its room."""
        for part in self.parts:
            for hole in part.holes:
                if hole.offset < end and offset < hole.end:
                    hole.room_kept = True

    @property
    def has_images(self) -> bool:
        """Whether reads have to ask."""
        return any(part.images for part in self.parts)


class Epoch:
    """One journal file between two times that it is begun anew."""

    __slots__ = ("cipher", "descriptor", "files", "sequence", "size")

    def __init__(self, descriptor: int, cipher: JournalCipher) -> None:
        self.descriptor = descriptor
        self.cipher = cipher
        self.files: dict[bytes, JournaledFile] = {}
        self.sequence = 0
        self.size = HEAD_SIZE

    @property
    def number(self) -> int:
        """Of all epochs of the store."""
        return self.cipher.head.epoch


class Pending:
    """What lies in journals and not yet in its place, for those who read."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self.files: dict[bytes, JournaledFile] = {}
        self.transactions = 0
        """How many a stopped driver left."""
        self.lengths: dict[Key, int] = {}
        """Of backing files as they will be, by (device, inode): for stat of a closed file."""

    def read(self, epoch: Epoch, image: Image, into: memoryview) -> int:
        """Fill `into` from an image; returns how many bytes there were."""
        part = into[: image.length]
        return self._backing.read_into(epoch.descriptor, part, image.position)


class Journal(Pending):
    """Of one mount. `metadata_key` is the root site's, `folder` the journal's own."""

    def __init__(
        self,
        backing: Backing,
        folder: int,
        metadata_key: bytes,
        session: bytes,
        first: int,
        names: Sequence[str] = FILES,
    ) -> None:
        """Begin both files at epochs `first` and on; what they held must be in place and synced.

        `names` with that of the older one first: a stop in between must not leave older
        transactions alone.
        """
        super().__init__(backing)
        self._metadata_key = metadata_key
        self._session = session
        self._next = first
        self.make_room: Callable[[], bool] = lambda: False
        """Asked when the store is full; true if it is worth another try."""
        self.failed: OSError | None = None
        """A sync failed, so nobody knows what the disk has: nothing more is taken."""
        begun = []
        for name in names:
            descriptor = _open(backing, folder, name)
            begun.append(self._begin(descriptor))
            backing.sync(descriptor)
        self.current, self._other = begun
        self.closing: Epoch | None = None
        backing.sync(folder)

    def _begin(self, descriptor: int) -> Epoch:
        head = JournalHead(self._next, self._session, os.urandom(SALT_SIZE))
        self._next += 1
        cipher = JournalCipher(self._metadata_key, head)
        self._backing.write(descriptor, [cipher.sealed_head()], 0)
        return Epoch(descriptor, cipher)

    @property
    def pending_bytes(self) -> int:
        """What a checkpoint would have to put in place."""
        return self.current.size - HEAD_SIZE

    @property
    def waiting_bytes(self) -> int:
        """The same, with what a checkpoint has not finished with."""
        closing = self.closing.size - HEAD_SIZE if self.closing is not None else 0
        return self.pending_bytes + closing

    def draft(self, buffer: memoryview, images: Sequence[tuple[int, int]]) -> Draft:
        """A transaction to be filled in; `buffer` from `size_of(images)`."""
        return Draft(buffer, images)

    def append(
        self,
        draft: Draft,
        file_id: bytes,
        descriptor: int,
        header: bytes,
        length: int,
        cut: int | None,
    ) -> JournaledFile:
        """A finished draft is acknowledged: a killed driver's successor will find it.

        Raises OSError, and then nothing has happened.
        """
        if self.failed is not None:
            raise OSError(self.failed.errno, "a sync of the journal failed before; unmount")
        epoch = self.current
        file = self.files.get(file_id) or self._enter(file_id, descriptor)
        change = Transaction(file_id, file.key[1], NO_CUT if cut is None else cut, length, header)
        draft.finish(epoch.cipher, epoch.sequence + 1, change)
        try:
            self._backing.write(epoch.descriptor, [draft.frame], epoch.size)
        except OSError:
            self._drop_if_dead(file)
            raise
        file.take(epoch, header, length, cut, draft.placed(epoch.size))
        epoch.files[file_id] = file
        epoch.sequence += 1
        epoch.size += len(draft.frame)
        self.lengths[file.key] = length
        return file

    def _enter(self, file_id: bytes, descriptor: int) -> JournaledFile:
        own = self._backing.duplicate(descriptor)
        status = self._backing.stat_open(own)
        file = JournaledFile(file_id, (status.st_dev, status.st_ino), own)
        self.files[file_id] = file
        return file

    def _drop_if_dead(self, file: JournaledFile) -> None:
        if not file.parts and self.files.pop(file.file_id, None) is not None:
            self.lengths.pop(file.key, None)
            self._backing.close(file.descriptor)

    # Syncing and putting in place, a step at a time

    def rotate(self) -> Epoch:
        """New transactions go to the other file; the epoch that is over is to be applied."""
        self.closing, self.current = self.current, self._other
        return self.closing

    def sync(self, epoch: Epoch) -> None:
        """On any thread. After a failure nothing that was written before can be relied on."""
        try:
            self._backing.sync_data(epoch.descriptor)
        except OSError as error:
            self.failed = error
            raise

    def apply(self, epoch: Epoch, file: JournaledFile) -> Iterator[int]:
        """Put one file's part of a synced epoch in place; its times stay as they were.

        A step at a time, after each of which files may be read and written.
        """
        part = next(one for one in file.parts if one.epoch is epoch)
        if not part.applied:
            yield from put_in_place(self._backing, file.descriptor, file, part)
            part.images.clear()
            part.applied = True  # its holes go with it: till then nothing is written into them

    def begin_anew(self, epoch: Epoch) -> Epoch:
        """On any thread, once all that it held is in place and synced: durably another epoch."""
        fresh = self._begin(epoch.descriptor)
        self.sync(fresh)
        return fresh

    def release(self, epoch: Epoch, fresh: Epoch) -> None:
        """What the epoch protected is protected no longer."""
        for file in epoch.files.values():
            file.parts = [part for part in file.parts if part.epoch is not epoch]
            self._drop_if_dead(file)
        self._other = fresh
        self.closing = None
        if epoch.size > RESERVE:
            self._backing.truncate(epoch.descriptor, HEAD_SIZE)
            self._backing.reserve(epoch.descriptor, 0, RESERVE)

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self.files.values():
            self._backing.close(file.descriptor)
        for descriptor in {self.current.descriptor, self._other.descriptor} | (
            {self.closing.descriptor} if self.closing else set()
        ):
            self._backing.close(descriptor)


def _open(backing: Backing, folder: int, name: str) -> int:
    try:
        descriptor = backing.open_file(folder, name, writable=True)
    except FileNotFoundError:
        descriptor = backing.create_file(folder, name, 0o600)
    backing.truncate(descriptor, 0)
    backing.reserve(descriptor, 0, RESERVE)
    return descriptor


def put_in_place(
    backing: Backing, descriptor: int, file: JournaledFile, part: Part
) -> Iterator[int]:
    """One part of a file, however often it is begun. Raises OSError.

    Gives the bytes moved after every few MiB. Room that the file has is used before any is given
    back: the store may be full.
    """
    status = backing.stat_open(descriptor)
    moved = 0
    for hole in part.holes:
        length = min(hole.end, status.st_size) - hole.offset
        if length > 0:
            (backing.zero if hole.room_kept else backing.clear)(descriptor, hole.offset, length)
    for image in part.images.values():
        record = backing.read(part.epoch.descriptor, image.length, image.position)
        backing.write(descriptor, [record], image.offset)
        moved += image.length
        if moved > _AT_ONCE:
            _keep_times(backing, descriptor, status)
            yield moved
            moved = 0
            status = backing.stat_open(descriptor)
    backing.write(descriptor, [part.header], 0)
    if part.cut is not None:
        # What was cut off in between must not come back where nothing was written since.
        at = part.cut
        for image in sorted(part.images.values()):
            if at < min(image.offset, status.st_size):
                backing.clear(descriptor, at, min(image.offset, status.st_size) - at)
            at = max(at, image.offset + image.length)
        if at < min(part.length, status.st_size):
            backing.clear(descriptor, at, min(part.length, status.st_size) - at)
    # Later parts may have records in place behind this one's end, and failed writes may, too.
    length = backing.stat_open(descriptor).st_size
    longest = max(one.length for one in file.parts)
    if part.cut is not None or length < part.length:
        backing.truncate(descriptor, part.length)
    elif length > longest:
        backing.truncate(descriptor, longest)
    _keep_times(backing, descriptor, status)


def _keep_times(backing: Backing, descriptor: int, status: os.stat_result) -> None:
    with suppress(PermissionError):  # of a file that somebody else owns
        backing.change_open_times(descriptor, status.st_atime_ns, status.st_mtime_ns)
