"""What a journal holds of each file, in memory: its newest header, images, and deltas.

For those who read over it. What writes it is journal.py.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from fsdriver.backing import Backing
from fsdriver.format.geometry import RECORD_OVERHEAD
from fsdriver.format.journal import HEAD_SIZE, Image, JournalCipher

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


class DeltaPlace(NamedTuple):
    """A delta that no transaction has taken in yet."""

    epoch: "Epoch"
    position: int
    """Of its record in the journal."""
    length: int
    """Of its content."""
    generation: int
    offset: int
    final: int


class Folds(Protocol):
    """Who has a file open, and turns its deltas into a transaction."""

    def fold(self) -> Iterator[None]:
        """A step at a time. Raises OSError; then the deltas still count."""
        ...

    def moved(self, deltas: Sequence[DeltaPlace]) -> None:
        """They lie in another epoch now."""
        ...


class JournaledFile:
    """A file with transactions that are not in place for good yet."""

    __slots__ = (
        "_staged",
        "_staged_in",
        "also",
        "deltas",
        "descriptor",
        "file_id",
        "key",
        "opened",
        "parts",
    )

    def __init__(self, file_id: bytes, key: Key, descriptor: int) -> None:
        self.file_id = file_id
        self.key = key
        self.descriptor = descriptor
        """The journal's own, so that the file is found however it is renamed."""
        self.also: list[int] = []
        """Of further files of a copied store that were links of this one."""
        self.parts: list[Part] = []  # oldest first, at most two
        self.deltas: list[DeltaPlace] = []
        """That came after the newest header, in order."""
        self.opened: Folds | None = None
        self._staged: dict[int, Image] = {}
        self._staged_in: Epoch | None = None

    @property
    def live(self) -> bool:
        """Whether its header and what that names are the journal's to change."""
        return bool(self.parts or self.deltas)

    @property
    def was_cut(self) -> bool:
        """Then nothing may be written in place: a replay would cut it off, or make it zeros."""
        return any(part.cut is not None or part.holes for part in self.parts)

    @property
    def header(self) -> bytes:
        """The newest, without the deltas; empty if that is the one in place."""
        return self.parts[-1].header if self.parts else b""

    @property
    def length(self) -> int:
        """That the backing file has once all is in place."""
        return self.deltas[-1].final if self.deltas else self.parts[-1].length

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
        """A transaction that lies in the journal: with its parts, and in place of all deltas."""
        if not self.parts or self.parts[-1].epoch is not epoch:
            self.parts.append(Part(epoch))
        part = self.parts[-1]
        if self._staged_in is epoch:
            part.images.update(self._staged)
        self._staged, self._staged_in = {}, None
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
        self.deltas.clear()

    def stage(self, epoch: "Epoch", images: list[Image]) -> None:
        """A part of a transaction that is to come."""
        if self._staged_in is not epoch:
            self._staged, self._staged_in = {}, epoch
        for image in images:
            self._staged[image.offset] = image

    def take_delta(self, delta: DeltaPlace) -> None:
        """A delta that lies in the journal; a copy of one, in a newer epoch, says nothing new."""
        if not self.deltas or self.deltas[-1].generation < delta.generation:
            self.deltas.append(delta)

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

    @property
    def epochs(self) -> "list[Epoch]":
        """That have anything of it: to be synced."""
        found = [part.epoch for part in self.parts]
        if self.deltas and self.deltas[-1].epoch not in found:
            found.append(self.deltas[-1].epoch)
        return found


class Epoch:
    """One journal file between two times that it is begun anew."""

    __slots__ = ("carried", "cipher", "descriptor", "files", "reserved", "sequence", "size")

    def __init__(self, descriptor: int, cipher: JournalCipher) -> None:
        self.descriptor = descriptor
        self.cipher = cipher
        self.files: dict[bytes, JournaledFile] = {}
        self.sequence = 0
        self.size = HEAD_SIZE
        self.carried = 0
        """Bytes of deltas that were copied from an older epoch."""
        self.reserved = 0
        """Up to where the file has room."""

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

    def note_length(self, file: JournaledFile) -> None:
        """Some of its deltas were found to have lost their ground."""
        if file.live:
            self.lengths[file.key] = file.length
        else:
            self.lengths.pop(file.key, None)

    def read(self, epoch: Epoch, image: Image, into: memoryview) -> int:
        """Fill `into` from an image; returns how many bytes there were."""
        part = into[: image.length]
        return self._backing.read_into(epoch.descriptor, part, image.position)

    def read_delta(self, delta: DeltaPlace, into: memoryview) -> memoryview:
        """The record of a delta, in a part of `into`; shorter where the journal was cut."""
        record = into[: delta.length + RECORD_OVERHEAD]
        got = self._backing.read_into(delta.epoch.descriptor, record, delta.position)
        return record[:got]
