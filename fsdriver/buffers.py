"""Memory that requests share, so that none is allocated or cleared for each of them."""

from fsdriver.chunkcache import ChunkCache


class Buffers:
    """The buffers that all files of a mount share; they grow to the largest request."""

    __slots__ = ("_ahead", "_journal", "_plaintext", "_records", "_single", "ahead", "chunks")

    def __init__(self) -> None:
        self.chunks = ChunkCache()
        self._records = memoryview(bytearray(1 << 16))
        self._plaintext = memoryview(bytearray(1 << 16))
        self._single = memoryview(bytearray(1 << 16))
        self._journal = memoryview(bytearray(1 << 16))
        self._ahead = memoryview(bytearray(1 << 16))
        self.ahead: tuple[object, memoryview] | None = None
        """The one small file whose content was read before it was asked for; till the next call."""

    def journal(self, length: int) -> memoryview:
        """Room for a transaction."""
        if len(self._journal) < length:
            self._journal = memoryview(bytearray(length))
        return self._journal[:length]

    def records(self, length: int) -> memoryview:
        """Room for ciphertext."""
        if len(self._records) < length:
            self._records = memoryview(bytearray(length))
        return self._records[:length]

    def single(self, length: int) -> memoryview:
        """Room for the one record that a partial write has to read first."""
        if len(self._single) < length:
            self._single = memoryview(bytearray(length))
        return self._single[:length]

    def plaintext(self, length: int) -> memoryview:
        """Room for plaintext."""
        if len(self._plaintext) < length:
            self._plaintext = memoryview(bytearray(length))
        return self._plaintext[:length]

    def whole(self, length: int) -> memoryview:
        """Room for what is to be `ahead`."""
        if len(self._ahead) < length:
            self._ahead = memoryview(bytearray(length))
        return self._ahead[:length]
