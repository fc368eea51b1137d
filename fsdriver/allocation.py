"""Room and holes of one open file: what fallocate(2) asks for.

Room is reserved in the backing file, for the records of whole chunks. Whole chunks that are
punched out become holes of the sealed extent map and give their room back, parts of chunks are
written as zeros; both in one transaction, since a header on the disk names what was there.
"""

from contextlib import suppress

from fsdriver.buffers import Buffers
from fsdriver.format.extents import ExtentMap
from fsdriver.openfile import OpenFile
from fsdriver.sealedfile import SealedFile
from fsdriver.storing import Plan


class AllocatedFile(OpenFile):
    """One inode's content, and the room that it takes."""

    __slots__ = ("lacks_set_ids",)

    def __init__(self, file: SealedFile, buffers: Buffers, *, vetted: bool = False) -> None:
        super().__init__(file, buffers, vetted=vetted)
        self.lacks_set_ids = False
        """Whether its mode was seen to have no set-id bits that a write would have to take away."""

    def reserve(self, offset: int, length: int, *, grows: bool) -> None:
        """Have room for [offset, offset + length); `grows` if the file is to reach as far.

        Raises ENOSPC or EDQUOT, and the file is as it was; EOPNOTSUPP where the store's filesystem
        promises no room. Room for what replaces chunks is the journal's and is not reserved.
        """
        self._admit()
        file = self.file
        geometry = file.geometry
        end = offset + length
        geometry.require_size(end)
        low = geometry.record_offset(offset // geometry.chunk_size)
        high = geometry.record_offset(geometry.chunk_count(end))
        self._changing(self._allocate, low, high)
        if file.journaled is not None:
            file.journaled.keep_room(low, high)
        if grows and end > file.state.size:
            self.truncate(end)

    def _allocate(self, low: int, high: int) -> None:
        backing, descriptor = self.file.backing, self.file.descriptor
        try:
            backing.allocate(descriptor, low, high - low)
        except OSError:
            with suppress(OSError):  # what was had behind the end is no use to anybody
                backing.truncate(descriptor, backing.stat_open(descriptor).st_size)
            raise

    def punch(self, offset: int, length: int) -> None:
        """Zeros in [offset, offset + length), as far as the file goes; all of them or none."""
        self._admit()
        end = min(offset + length, self.file.state.size)
        if offset < end:
            self._changing(self._punch, offset, end)

    def _punch(self, offset: int, end: int) -> None:
        file = self.file
        file.settle()
        geometry, size = file.geometry, file.state.size
        chunk_size, chunks = geometry.chunk_size, geometry.chunk_count(size)
        first = -(-offset // chunk_size)
        stop = chunks if end == size else end // chunk_size
        partial = {at // chunk_size for at in (offset, end) if at % chunk_size and at != size}
        edges = sorted(index for index in partial if file.is_present(index))
        extents, hole, digest = file.extents, None, 0
        if first < stop:
            extents = ExtentMap.full(chunks) if extents is None else extents.copy()
            extents.remove(first, stop)
            place = geometry.record_offset(first)
            hole = place, min(geometry.record_offset(stop), geometry.ciphertext_size(size)) - place
            digest = self._outdated(first, stop)
        elif not edges:
            return
        journaled = [(index, index + 1) for index in edges]
        plan = Plan(
            file, self._buffers, size, extents, journaled, [], -1, None, forced=True, hole=hole
        )
        for index in edges:
            kept, start = self._keep(index), index * chunk_size
            low, high = max(0, offset - start), min(chunk_size, end - start)
            kept.plaintext[low:high] = bytes(high - low)
            digest ^= self._outdated(index, index + 1)
            part = kept.plaintext[: geometry.chunk_length(index, size)]
            record = plan.records(index, index + 1)
            kept.nonce = file.cipher.encrypt_run(index, [part], record)
            digest ^= file.chunk_set.digest(index, kept.nonce)
        self._kept.drop([index for index in self._kept.chunks if first <= index < stop])
        self._store(plan, size, file.state.chunk_set ^ digest)

    def zero(self, offset: int, length: int, *, grows: bool) -> None:
        """Zeros in [offset, offset + length) that have room; `grows` as for `reserve`."""
        self.reserve(offset, length, grows=False)
        self.punch(offset, length)
        self.reserve(offset, length, grows=grows)
