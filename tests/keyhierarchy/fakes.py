"""Stand-ins for what a test wants to command: a root key with switches, a clock that is told."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from keyhierarchy.errors import KeyHierarchyError, WrappedKeyInvalid


class FakeClock:
    """A monotonic clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeRootKey:
    """A root key that works until `trouble` is set to what it shall raise."""

    def __init__(self, key_id: str = "fake:1", key: bytes = bytes(range(64))) -> None:
        self.key_id = key_id
        self.trouble: KeyHierarchyError | None = None
        self.asked = 0
        self._siv = AESSIV(key)

    def wrap(self, key: bytes) -> bytes:
        self._answer()
        if len(key) != 32:
            raise ValueError("a key has 32 bytes")
        return self._siv.encrypt(key, None)

    def unwrap(self, wrapped: bytes) -> bytes:
        self._answer()
        try:
            opened = self._siv.decrypt(wrapped, None)
        except (InvalidTag, ValueError) as error:
            raise WrappedKeyInvalid("does not open", key_id=self.key_id) from error
        return opened

    def probe(self) -> None:
        self.unwrap(self.wrap(bytes(32)))

    def _answer(self) -> None:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
