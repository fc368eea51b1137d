"""What has to be put back when a file could not grow or shrink after all: its last chunk."""


class Tail:
    """The chunk whose record has to change its length with the file, as it was before."""

    __slots__ = ("chunk_index", "length", "nonce", "plaintext")

    def __init__(self, chunk_index: int, length: int) -> None:
        self.chunk_index = chunk_index
        self.length = length
        self.plaintext = memoryview(b"")
        self.nonce: bytes | None = None

    def save(self, kept: memoryview, nonce: bytes | None, *, copy: bool) -> None:
        """`copy` when the buffer is about to take another chunk."""
        plaintext = kept[: self.length]
        self.plaintext = memoryview(bytes(plaintext)) if copy else plaintext
        self.nonce = nonce
