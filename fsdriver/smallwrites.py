"""Small writes to an open file: only the change goes to the journal, as a delta.

The chunk is written whole when the deltas are folded (overlay.py).
"""

from contextlib import suppress

from fsdriver.errors import ChunkInvalid
from fsdriver.overlay import Overlay
from fsdriver.readfile import ReadFile


class SmallWrites(ReadFile):
    """One inode's content, of which a little can be changed."""

    __slots__ = ()

    def _takes_delta(self, offset: int, length: int) -> bool:
        """Whether a write is small enough, and stands on what is there.

        The file's first write brings its header into the journal, so that is none.
        """
        file = self.file
        chunk_size, size = file.geometry.chunk_size, file.state.size
        if 2 * length > chunk_size or offset > size or not size:
            return False
        end = offset + length
        first, stop = offset // chunk_size, -(-end // chunk_size)
        if file.extents is not None and not all(
            index in file.extents for index in range(first, stop)
        ):
            return False
        # All of a short last chunk is better written as what it is.
        start = first * chunk_size
        return offset > start or end < size or start == size

    def _write_delta(self, offset: int, view: memoryview) -> None:
        """Only the change goes to the journal; the chunk is written whole when it is folded."""
        file = self.file
        journaled = file.journaled
        if journaled is None:
            raise RuntimeError("a delta of a file that the journal does not know")
        overlay = file.overlay
        if overlay is None:
            overlay = Overlay(file)
        dirty = overlay.dirty
        geometry, state = file.geometry, file.state
        chunk_size = geometry.chunk_size
        end = offset + len(view)
        first, stop = offset // chunk_size, -(-end // chunk_size)
        fresh = 0
        for index in range(first, stop):
            if index not in dirty:
                self._keep(index)  # what the delta stands on is whole
                fresh += 1
        if fresh or end > state.size:
            overlay.prepare(end, fresh)
        size = max(end, state.size)
        place = file.session.writing_journal.append_delta(
            journaled,
            file.cipher,
            view,
            state.generation + 1,
            offset,
            geometry.ciphertext_size(size),
        )
        if file.overlay is None:
            file.overlay = overlay
            self._attend(overlay)
        overlay.add(place)
        state.generation += 1
        state.size = size
        for index in range(first, stop):
            kept = self._kept.get(index)
            start = index * chunk_size
            if kept is not None:
                low, high = max(offset, start), min(end, start + chunk_size)
                kept.plaintext[low - start : high - start] = view[low - offset : high - offset]
            if overlay.is_crowded(index):
                self._cover(overlay, index)
        file.touch()

    def _cover(self, overlay: Overlay, index: int) -> None:
        """One delta of a whole chunk in place of its many: so many need not be read again."""
        file = self.file
        start = index * file.geometry.chunk_size
        journaled = file.journaled
        with suppress(OSError, ChunkInvalid):
            plaintext = self._keep(index).plaintext
            if journaled is not None:
                length = file.geometry.chunk_length(index, file.state.size)
                place = file.session.writing_journal.append_delta(
                    journaled,
                    file.cipher,
                    plaintext[:length],
                    file.state.generation + 1,
                    start,
                    journaled.length,
                )
                file.state.generation += 1
                overlay.add(place)
