"""Journal files that a stopped driver left: which they are, and what they hold.

Read only: replay.py puts it in place, and a read-only mount looks through it.
"""

from collections.abc import Iterator
from contextlib import suppress

from fsdriver.backing import Backing
from fsdriver.errors import FormatUnsupported, JournalInvalid
from fsdriver.format import delta
from fsdriver.format.delta import Delta
from fsdriver.format.journal import (
    FRAME_HEAD,
    HEAD_SIZE,
    NO_CUT,
    Image,
    JournalCipher,
    Transaction,
    frame_length,
    is_delta,
    open_head,
    parse,
)
from fsdriver.journal import FILES, FOLDER
from fsdriver.journaled import DeltaPlace, Epoch, JournaledFile, Pending


def folder_of(backing: Backing, control: int) -> int:
    """A descriptor of the journal's folder in the control folder, which is made if need be."""
    try:
        return backing.open_directory(control, FOLDER)
    except FileNotFoundError:
        backing.make_directory(control, FOLDER, 0o700)
        backing.sync(control)
        return backing.open_directory(control, FOLDER)


class Found:
    """A journal file that another driver left."""

    __slots__ = ("cipher", "descriptor", "name")

    def __init__(self, name: str, descriptor: int, cipher: JournalCipher) -> None:
        self.name = name
        self.descriptor = descriptor
        self.cipher = cipher

    def frames(
        self, backing: Backing
    ) -> Iterator[tuple[Transaction, list[Image]] | tuple[Delta, tuple[int, int]]]:
        """Transactions and deltas, up to the first that is not whole.

        Of a delta the position of its record, and the length of its content.
        """
        position, sequence = HEAD_SIZE, 1
        length = backing.stat_open(self.descriptor).st_size
        while position + FRAME_HEAD <= length:
            try:
                size = frame_length(backing.read(self.descriptor, FRAME_HEAD, position))
                frame = backing.read(self.descriptor, min(size, length - position), position)
                view = memoryview(frame)
                if is_delta(view):
                    yield delta.parse(view, position, sequence, self.cipher)
                else:
                    yield parse(view, position, sequence, self.cipher)
            except JournalInvalid:
                return
            position += size
            sequence += 1


def find(backing: Backing, folder: int, metadata_key: bytes) -> list[Found]:
    """The journal files of a store, the older epoch first; what is none is passed over.

    Raises FormatUnsupported for one that only a newer ckfs understands.
    """
    found = []
    for name, descriptor, raw in _heads(backing, folder):
        try:
            found.append(Found(name, descriptor, open_head(raw, metadata_key)))
        except JournalInvalid:
            backing.close(descriptor)
        except FormatUnsupported:
            for one in (descriptor, *(before.descriptor for before in found)):
                backing.close(one)
            raise
    return sorted(found, key=lambda one: one.cipher.head.epoch)


def newest(found: list[Found]) -> int:
    """The newest epoch; 0 if there is none."""
    return max((one.cipher.head.epoch for one in found), default=0)


def is_older(found: list[Found], checkpoint: int) -> bool:
    """Whether the store is of a time before the checkpoint that a host knows of; 0 for none.

    Each checkpoint has begun the next epoch but one before the host notes it.
    """
    return checkpoint > 0 and newest(found) <= checkpoint + 1


def damaged(backing: Backing, folder: int, metadata_key: bytes) -> list[str]:
    """Journal files with a head that does not open: whatever they held is lost."""
    names = []
    for name, descriptor, raw in _heads(backing, folder):
        backing.close(descriptor)
        try:
            open_head(raw, metadata_key)
        except JournalInvalid:
            if any(raw):  # else it was only being made
                names.append(name)
    return names


def _heads(backing: Backing, folder: int) -> Iterator[tuple[str, int, bytes]]:
    for name in FILES:
        with suppress(FileNotFoundError):
            descriptor = backing.open_file(folder, name, writable=False)
            yield name, descriptor, backing.read(descriptor, HEAD_SIZE, 0)


def left_behind(backing: Backing, device: int, found: list[Found]) -> Pending:
    """What journals hold, over a store that is not to be changed; the older epoch first."""
    pending = Pending(backing)
    for one in found:
        epoch = Epoch(one.descriptor, one.cipher)
        for change, what in one.frames(backing):
            file = pending.files.get(change.file_id)
            if file is None:
                file = JournaledFile(change.file_id, (device, change.inode), -1)
                pending.files[change.file_id] = file
            _take(file, epoch, change, what)
            pending.transactions += 1
    for file_id in [one for one, file in pending.files.items() if not file.live]:
        del pending.files[file_id]  # only a part of a transaction that never came
    pending.lengths.update((file.key, file.length) for file in pending.files.values())
    return pending


def _take(
    file: JournaledFile,
    epoch: Epoch,
    change: Transaction | Delta,
    what: list[Image] | tuple[int, int],
) -> None:
    if isinstance(what, tuple):
        if isinstance(change, Delta):
            file.take_delta(DeltaPlace(epoch, *what, *change[2:]))
    elif isinstance(change, Transaction):
        if change.is_part:
            file.stage(epoch, what)
        else:
            cut = None if change.cut == NO_CUT else change.cut
            file.take(epoch, change.header, change.length, cut, what)
