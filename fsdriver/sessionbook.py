"""The host's record of driver sessions of one store, outside the store.

A store that was last written on another host is that host's to recover, or the administrator's to
accept with the mount option `recover`.
"""

import os
from typing import Final

import msgspec

from fsdriver.errors import StoreDamaged
from fsdriver.sessions import Session
from keyhierarchy.durable import read_document, replace_document
from keyhierarchy.errors import KeystoreMissing

_DOCUMENT: Final = "sessions.json"
_LIMIT: Final = 1 << 20
_ID_SIZE: Final = 16


class _Sessions(msgspec.Struct, forbid_unknown_fields=True):
    format: int = 1
    running: str = ""  # hex, empty when none is
    unended: list[str] = []  # hex


class SessionBook:
    """In the host's folder for the store."""

    def __init__(self, folder: str) -> None:
        self._place = os.path.join(folder, _DOCUMENT)
        self._before = _Sessions()

    def begin(self, *, read_only: bool, accepts_all: bool) -> Session:
        """Durable before anything is written to the store; the store's lock must be held.

        With the lock, a session that is still called running has been killed.
        """
        self._before = known = self._load()
        unended = {bytes.fromhex(one) for one in (*known.unended, known.running) if one}
        session = Session(frozenset(unended), accepts_all=accepts_all)
        session.follows_one = bool(known.running)
        if not read_only:
            self._store(session.id, unended)
        return session

    def running(self) -> bytes:
        """The session that was begun and not ended, 16 bytes; empty if there is none.

        It is at work, or it was killed: the store's lock tells.
        """
        return bytes.fromhex(self._load().running)

    def cancel(self) -> None:
        """A mount that came to nothing: the record is what it was, a killed driver's included."""
        replace_document(self._place, msgspec.json.encode(self._before) + b"\n")

    def end(self, session: Session) -> None:
        """Unmounted. One that left a file unsealed, or not folded, stays among the unended."""
        left = {session.id} if session.unsealed or session.carried else set()
        self._store(b"", session.unended | left)

    def _store(self, running: bytes, unended: set[bytes] | frozenset[bytes]) -> None:
        document = _Sessions(running=running.hex(), unended=sorted(one.hex() for one in unended))
        replace_document(self._place, msgspec.json.encode(document) + b"\n")

    def _load(self) -> _Sessions:
        try:
            raw = read_document(self._place, limit=_LIMIT, private=True)
        except KeystoreMissing:
            return _Sessions()
        try:
            known = msgspec.json.decode(raw, type=_Sessions)
            ids = [bytes.fromhex(one) for one in (known.running, *known.unended) if one]
            if known.format != 1 or any(len(one) != _ID_SIZE for one in ids):
                raise ValueError("not what this version writes")
        except (msgspec.MsgspecError, ValueError) as error:
            raise StoreDamaged(
                f"{self._place} is damaged ({error}); move it away, and mount with -o recover if "
                "the last driver was killed"
            ) from None
        return known
