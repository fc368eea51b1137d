"""What may be in one file after a cut: every chunk wholly as at one moment since the last sync."""

from __future__ import annotations

from tests.crash.power.content import described

_PAGE = 4096


class FileModel:
    """A file as a program left it, and what it was since it was last made durable."""

    def __init__(self, chunk_size: int, content: bytes = b"", *, exists: bool = True) -> None:
        self.now = bytearray(content)
        self.must_exist = exists
        self._chunk_size = chunk_size
        self._since: dict[int, list[bytes]] = {}
        self._sizes = {len(content)}

    def settle(self) -> None:
        """All of it is durable."""
        self.must_exist = True
        self._since.clear()
        self._sizes = {len(self.now)}

    def settle_range(self, offset: int, length: int) -> None:
        """These bytes are durable, as after a write through O_DSYNC; the rest need not be."""
        end = offset + length
        for index in range(offset // self._chunk_size, self._chunks(end)):
            self._since[index] = [self._chunk(index)]
        lowest = max(end, min(self._sizes))
        self._sizes = {size for size in self._sizes if size >= lowest} | {lowest}
        self.must_exist = True

    def write_part(self, offset: int, data: bytes) -> None:
        """A write(2) that did not return: the kernel hands it on in parts that end with a page."""
        end = offset + len(data)
        for border in range(offset // _PAGE * _PAGE + _PAGE, end, _PAGE):
            self.write(offset, data[: border - offset])
        self.write(offset, data)

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        touched = range(min(offset, len(self.now)) // self._chunk_size, self._chunks(end))
        self._note(touched)
        self.now.extend(bytes(max(0, offset - len(self.now))))
        self.now[offset:end] = data
        self._note(touched)

    def truncate(self, size: int) -> None:
        ends = sorted((size, len(self.now)))
        touched = range(ends[0] // self._chunk_size, self._chunks(ends[1]))
        self._note(touched)
        del self.now[size:]
        self.now.extend(bytes(size - len(self.now)))
        self._note(touched)

    def _chunks(self, size: int) -> int:
        return -(-size // self._chunk_size)

    def _chunk(self, index: int) -> bytes:
        return bytes(self.now[index * self._chunk_size : (index + 1) * self._chunk_size])

    def _note(self, touched: range) -> None:
        self._sizes.add(len(self.now))
        for index in touched:
            self._since.setdefault(index, []).append(self._chunk(index))

    def judge(self, found: bytes | None) -> list[str]:
        """What is wrong with what was found."""
        if found is None:
            return ["it was synced and is gone"] if self.must_exist else []
        wrong = []
        if not min(self._sizes) <= len(found) <= max(self._sizes):
            wrong.append(f"its size is {len(found)} and was in {sorted(self._sizes)[:9]}")
        for index in range(self._chunks(len(found))):
            data = found[index * self._chunk_size : (index + 1) * self._chunk_size]
            was = self._since.get(index) or [self._chunk(index)]
            if not any(one[: len(data)].ljust(len(data), b"\0") == data for one in was):
                place = index * self._chunk_size
                last = [f"[{described(one, place)}]" for one in was[-3:]]
                wrong.append(
                    f"chunk {index} is neither old nor new: [{described(data, place)}]; it was "
                    f"{', '.join(last)} ({len(was)} states since it was synced)"
                )
        return wrong
