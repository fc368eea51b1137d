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
from fsdriver.format import delta as delta_format
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.delta import Delta
from fsdriver.format.journal import (
    HEAD_SIZE,
    NO_CUT,
    SALT_SIZE,
    Draft,
    JournalCipher,
    JournalHead,
    Transaction,
    part_of,
)
from fsdriver.journaled import DeltaPlace, Epoch, JournaledFile, Part, Pending

FOLDER: Final = "journal"
FILES: Final = ("a", "b")
_AT_ONCE: Final = 2 << 20
"""Bytes that are put in place before others are served."""
_KEPT: Final = 32 << 20
"""Bytes that a journal file may keep for the next time."""
RESERVE: Final = 1 << 20
"""Bytes that a journal file keeps, so that a full store can still be cut and deleted from."""

Carried = tuple[JournaledFile, list[bytearray]]
"""A file, and the frames of its deltas that a driver left."""


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
        carried: Sequence[Carried] = (),
    ) -> None:
        """Begin both files at epochs `first` and on; what they held must be in place and synced.

        `names` with that of the older one first: a stop in between must not leave older
        transactions alone. `carried`: deltas of theirs that are in place nowhere; the descriptors
        of their files are the journal's from here on.
        """
        super().__init__(backing)
        self._metadata_key = metadata_key
        self._session = session
        self._next = first
        self.make_room: Callable[[], bool] = lambda: False
        """Asked when the store is full; true if it is worth another try."""
        self.failed: OSError | None = None
        """A sync failed, so nobody knows what the disk has: nothing more is taken."""
        self._owed = 0
        self._frame = memoryview(bytearray(1 << 16))
        self._folder = folder
        self.closing: Epoch | None = None
        begun: list[Epoch] = []
        for name in names:
            if carried and not begun:
                begun.append(self._begin_with(name, carried))
                continue
            descriptor = _open(backing, folder, name)
            begun.append(self._begin(descriptor))
            backing.sync(descriptor)
        self.current, self._other = begun
        backing.sync(folder)

    def _begin(self, descriptor: int) -> Epoch:
        head = JournalHead(self._next, self._session, os.urandom(SALT_SIZE))
        self._next += 1
        cipher = JournalCipher(self._metadata_key, head)
        self._backing.write(descriptor, [cipher.sealed_head()], 0)
        return Epoch(descriptor, cipher)

    def _begin_with(self, name: str, carried: Sequence[Carried]) -> Epoch:
        """In a file that takes the old one's name once it is whole: that may hold the same."""
        descriptor = _open(self._backing, self._folder, name + ".new")
        epoch = self._begin(descriptor)
        for file, frames in carried:
            self.files[file.file_id] = file
            self.carry(epoch, file, frames)
        self._backing.sync(descriptor)
        self._backing.rename(self._folder, name + ".new", self._folder, name)
        self._backing.sync(self._folder)
        return epoch

    @property
    def written_bytes(self) -> int:
        """Of transactions and deltas since the last checkpoint began."""
        return self.current.size - HEAD_SIZE - self.current.carried

    @property
    def owed_bytes(self) -> int:
        """That a fold of all deltas would add."""
        return self._owed

    @property
    def pending_bytes(self) -> int:
        """What a checkpoint would have to put in place, in the end."""
        return self.written_bytes + self._owed

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

    def append_part(self, draft: Draft, file: JournaledFile) -> None:
        """Images that count with the next transaction of the file. Raises OSError."""
        epoch = self.current
        draft.finish(epoch.cipher, epoch.sequence + 1, part_of(file.file_id, file.key[1]))
        self._backing.write(epoch.descriptor, [draft.frame], epoch.size)
        file.stage(epoch, draft.placed(epoch.size))
        epoch.files[file.file_id] = file
        epoch.sequence += 1
        epoch.size += len(draft.frame)

    def append_delta(
        self,
        file: JournaledFile,
        cipher: ChunkCipher,
        data: memoryview,
        generation: int,
        offset: int,
        final: int,
    ) -> DeltaPlace:
        """A delta is acknowledged, of a file that has a header here. Raises OSError."""
        if self.failed is not None:
            raise OSError(self.failed.errno, "a sync of the journal failed before; unmount")
        epoch = self.current
        count = len(data)
        length = count + delta_format.OVERHEAD
        if len(self._frame) < length:
            self._frame = memoryview(bytearray(length))
        frame = self._frame[:length]
        key = file.key
        change = Delta(file.file_id, key[1], generation, offset, final)
        sequence = epoch.sequence + 1
        delta_format.pack(frame, change, data, cipher, epoch.cipher, sequence)
        self._backing.write(epoch.descriptor, [frame], epoch.size)
        place = DeltaPlace(
            epoch, epoch.size + delta_format.RECORD_AT, count, generation, offset, final
        )
        file.deltas.append(place)
        epoch.files[file.file_id] = file
        epoch.sequence = sequence
        epoch.size += length
        self.lengths[key] = final
        return place

    def carry(self, epoch: Epoch, file: JournaledFile, frames: Sequence[bytearray]) -> None:
        """Deltas that cannot be folded without their file's key go on in a newer epoch."""
        deltas = []
        for before, frame in zip(file.deltas, frames, strict=True):
            delta_format.renumber(frame, epoch.cipher, epoch.sequence + 1)
            self._backing.write(epoch.descriptor, [frame], epoch.size)
            position = epoch.size + delta_format.RECORD_AT
            deltas.append(before._replace(epoch=epoch, position=position))
            epoch.sequence += 1
            epoch.size += len(frame)
            epoch.carried += len(frame)
        file.deltas[:] = deltas
        epoch.files[file.file_id] = file
        self.lengths[file.key] = file.length

    def frames_of(self, file: JournaledFile) -> list[bytearray]:
        """Of its deltas, as they lie there."""
        return [bytearray(frame) for frame in read_frames(self._backing, file)]

    def owe(self, length: int) -> None:
        """A fold will need room for this much more; negative: it has it. Raises OSError."""
        owed = max(0, self._owed + length)
        epoch = self.current
        wanted = epoch.size + owed + (owed >> 6)
        if length > 0 and wanted > epoch.reserved:
            # From where there is room already: to ask for it again takes time.
            start, wanted = max(epoch.reserved, epoch.size), wanted + RESERVE
            self._backing.reserve(epoch.descriptor, start, wanted - start)
            epoch.reserved = wanted
        self._owed = owed

    def _enter(self, file_id: bytes, descriptor: int) -> JournaledFile:
        own = self._backing.duplicate(descriptor)
        status = self._backing.stat_open(own)
        file = JournaledFile(file_id, (status.st_dev, status.st_ino), own)
        self.files[file_id] = file
        return file

    def _drop_if_dead(self, file: JournaledFile) -> None:
        if not file.live and self.files.pop(file.file_id, None) is not None:
            self.lengths.pop(file.key, None)
            self._close(file)

    def _close(self, file: JournaledFile) -> None:
        for descriptor in (file.descriptor, *file.also):
            self._backing.close(descriptor)

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
        for part in [one for one in file.parts if one.epoch is epoch and not one.applied]:
            for descriptor in (file.descriptor, *file.also):
                yield from put_in_place(self._backing, descriptor, file, part)
            part.images.clear()
            part.applied = True  # its holes go with it: till then nothing is written into them

    def begin_anew(self, epoch: Epoch) -> Epoch:
        """On any thread, once all that it held is in place and synced: durably another epoch."""
        fresh = self._begin(epoch.descriptor)
        self.sync(fresh)
        # What lies behind the end means nothing, and new pages cost more than used ones.
        fresh.reserved = min(max(epoch.size, RESERVE), _KEPT)
        if epoch.size > fresh.reserved or epoch.reserved > 2 * fresh.reserved:
            with suppress(OSError):
                self._shrink(fresh, fresh.reserved)
        return fresh

    def release(self, epoch: Epoch, fresh: Epoch) -> None:
        """What the epoch protected is protected no longer."""
        for file in epoch.files.values():
            file.parts = [part for part in file.parts if part.epoch is not epoch]
            self._drop_if_dead(file)
        self._other = fresh
        self.closing = None

    def _shrink(self, epoch: Epoch, length: int) -> None:
        self._backing.truncate(epoch.descriptor, max(length, epoch.size))
        self._backing.reserve(epoch.descriptor, 0, RESERVE)
        epoch.reserved = max(length, RESERVE)

    def shrink(self) -> None:
        """Give back the room of journal files that hold nothing."""
        for epoch in (self.current, self._other):
            if epoch.size == HEAD_SIZE and epoch is not self.closing:
                self._shrink(epoch, HEAD_SIZE)

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self.files.values():
            self._close(file)
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


def read_frames(backing: Backing, file: JournaledFile) -> Iterator[bytes]:
    """Those of a file's deltas, whole, from whichever journals they lie in."""
    for delta in file.deltas:
        position, length = delta_format.frame_place(delta.position, delta.length)
        yield backing.read(delta.epoch.descriptor, length, position)


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
