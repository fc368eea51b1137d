"""One backing file and its header: create, open, seal; its bindings and extent map.

Says nothing of reading or writing content; openfile.py does. One instance stands for one inode,
whatever the number of its links and handles.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver import extentpages
from fsdriver.backing import Backing
from fsdriver.errors import (
    KeyRejected,
    NameBindingMismatch,
)
from fsdriver.format import header
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.filekeys import FileKeys
from fsdriver.format.geometry import HEADER_SIZE, NONCE_SIZE, Geometry
from fsdriver.format.header import ClearHeader, SealedState, file_id_of
from fsdriver.format.journal import Draft, size_of
from fsdriver.journaled import JournaledFile
from fsdriver.judging import judge
from fsdriver.lease import Lease
from fsdriver.overlay import Overlay
from fsdriver.sessions import Session
from fsdriver.wrappedkeys import open_keys

if TYPE_CHECKING:
    from fsdriver.format.extents import ExtentMap


class SealedFile:
    """An open backing file whose header has been verified."""

    __slots__ = (
        "_clear",
        "_header_cipher",
        "_journaled",
        "_keys",
        "_prepared",
        "backing",
        "chunk_set",
        "cipher",
        "descriptor",
        "extents",
        "file_id",
        "geometry",
        "header",
        "lease",
        "locked",
        "overlay",
        "paged",
        "provisional",
        "session",
        "state",
        "trimmed",
        "writable",
    )

    def __init__(
        self,
        backing: Backing,
        descriptor: int,
        file_id: bytes,
        chunk_size: int,
        clear: bytes,
        lease: Lease,
        session: Session,
        *,
        writable: bool,
    ) -> None:
        """`clear` is the clear part as the header has it. Its keys are still to be taken."""
        self.backing = backing
        self.descriptor = descriptor
        self.writable = writable
        self.lease = lease
        self.session = session
        self.file_id = file_id
        self.geometry = Geometry.of(chunk_size)
        self.state = SealedState()
        self.header = b""
        """The newest that was verified or written, 512 bytes."""
        self.extents: ExtentMap | None = None
        """Chunks present in a sparse file; None for a dense one."""
        self.trimmed = 0
        """Bytes behind the sealed end that a stop had left and that were cut off at open."""
        self.provisional = False
        """Whether a stopped driver may have left it out of step: to be recovered before use."""
        self.paged = False
        """Whether its map lay in pages at some time since it was opened."""
        self._journaled: JournaledFile | None = None
        self.overlay: Overlay | None = None
        """Deltas that are in no header yet; `state` has the size and generation with them."""
        self._clear = clear
        self.locked = False
        """Whether the keys were dropped because the lease ended."""
        self._prepared = False

    def _take_keys(self, keys: FileKeys) -> None:
        self._header_cipher = AESGCM(keys.header_key)
        self._keys = keys

    def lock(self) -> None:
        """Seal what is unsealed while there are keys, then drop them."""
        if self.locked:
            return
        try:
            if self.state.dirty and self.writable:
                self.seal()
            self.settle()
        finally:
            self.locked = True
            self._prepared = False
            for secret in ("_header_cipher", "_keys", "cipher", "chunk_set"):
                if hasattr(self, secret):
                    delattr(self, secret)

    def unlock(self) -> None:
        """The lease is valid again: the same keys from the same header."""
        if self.locked:
            clear = ClearHeader.parse(self._clear)
            self._take_keys(open_keys(clear, self.lease))
            self.prepare_content()
            self.locked = False

    def prepare_content(self) -> None:
        """Set up the ciphers of content, which an open for a rename or a stat never needs."""
        if not self._prepared:
            self._use(ChunkCipher(self._keys.chunk_key, self.file_id))

    def _use(self, cipher: ChunkCipher) -> None:
        self.cipher = cipher
        self.chunk_set = cipher.chunk_set
        self._prepared = True

    @classmethod
    def create(
        cls,
        backing: Backing,
        descriptor: int,
        lease: Lease,
        session: Session,
        chunk_size: int,
        bindings: tuple[bytes, ...],
    ) -> "SealedFile":
        """Give a new, empty backing file its key and its header."""
        fresh = session.fresh_keys.take(lease, chunk_size)
        sealed = cls(
            backing,
            descriptor,
            fresh.file_id,
            chunk_size,
            fresh.clear,
            lease,
            session,
            writable=True,
        )
        sealed._keys = fresh.keys
        sealed._header_cipher = fresh.header_cipher
        sealed._use(fresh.cipher)
        sealed.state.bindings = bindings
        backing.write(descriptor, [sealed.next_header()], 0)
        session.generations.note_new(fresh.file_id)
        return sealed

    @classmethod
    def open(
        cls,
        backing: Backing,
        descriptor: int,
        lease: Lease,
        session: Session,
        *,
        writable: bool,
        length: int | None = None,
    ) -> "SealedFile":
        """Read and verify the header; raises a Damaged error, KeyRejected, or FormatUnsupported.

        `length` is that of the backing file, if it is known already. A file that a driver left
        behind when it stopped is `provisional`: call recovery.recover.
        """
        raw = backing.read(descriptor, HEADER_SIZE, 0)
        journaled = session.journal.files.get(file_id_of(raw)) if session.journal else None
        if journaled is not None and journaled.parts:
            raw, length = journaled.header, journaled.parts[-1].length
        elif length is None or journaled is not None:
            length = backing.stat_open(descriptor).st_size
        clear = ClearHeader.parse(raw)
        if clear.site_id != lease.site_id:
            raise KeyRejected(
                f"the file belongs to site {clear.site_id.hex()}, its folder to "
                f"{lease.site_id.hex()}: it was moved between sites in the store"
            )
        keys = open_keys(clear, lease)
        sealed = cls(
            backing,
            descriptor,
            clear.file_id,
            clear.chunk_size,
            raw[: header.CLEAR_SIZE],
            lease,
            session,
            writable=writable,
        )
        sealed._take_keys(keys)
        sealed.state = state = header.unseal(raw, sealed._header_cipher)
        sealed.header = raw
        sealed._journaled = journaled
        sealed.paged = bool(state.extent_pages)
        judge(sealed, length)
        if journaled is not None and journaled.deltas and session.journal is not None:
            sealed.overlay = Overlay.over(sealed, journaled)
            session.journal.note_length(journaled)
        return sealed

    @property
    def length(self) -> int:
        """Of the backing file, once its transactions are in place."""
        journaled = self.journaled
        if journaled is not None:
            return journaled.length
        return self.backing.stat_open(self.descriptor).st_size

    def check_binding(self, binding: bytes) -> None:
        """Raises NameBindingMismatch unless the file was sealed under this name."""
        if binding not in self.state.bindings and not self.state.unbound:
            raise NameBindingMismatch(
                "the file was sealed under another name: it was moved, swapped or copied in the "
                "store"
            )

    # What the journal has to be asked for

    @property
    def journaled(self) -> JournaledFile | None:
        """Its transactions that are not in place for good; None: the header may be written."""
        journaled = self._journaled
        if journaled is not None and not journaled.live:
            self._journaled = journaled = None
        return journaled

    @property
    def holes_are_free(self) -> bool:
        """Whether a chunk that is not present may be written in place.

        Not after a cut, while a header that the disk may have still names what was there, or a
        replay would cut it off; and not where a hole may hold a page of the map.
        """
        journaled = self.journaled
        return not self.paged and (journaled is None or not journaled.was_cut)

    def put(
        self,
        draft: Draft,
        state: SealedState,
        cut: int | None = None,
        *,
        still_provisional: bool = False,
    ) -> None:
        """Make `state` true through the journal, with the records of `draft`, all or nothing.

        `still_provisional`: its stopped driver's session stays in it, so that it is recovered.
        """
        if self.overlay is not None:
            raise RuntimeError("a transaction of a file whose deltas were not folded")
        journal = self.session.writing_journal
        state.generation = self.state.generation + 1
        if not still_provisional:
            state.session = self.session.id
        state.dirty = False
        self.header = sealed = header.seal(self._clear, state, self._header_cipher)
        length = self.geometry.ciphertext_size(state.size)
        self._journaled = journal.append(draft, self.file_id, self.descriptor, sealed, length, cut)
        self.state = state
        self.paged |= bool(state.extent_pages)
        self.note_written()

    def settle(self) -> None:
        """Make a transaction of the deltas, before anything else is made of the file."""
        if self.overlay is not None and self.writable:
            if not self.locked:
                self.prepare_content()
            if self.provisional:
                extentpages.load(self)
            for _step in self.overlay.fold():
                pass

    def take_deltas(self, draft: Draft, state: SealedState) -> None:
        """The transaction that all deltas are in."""
        overlay, self.overlay = self.overlay, None
        try:
            self.put(draft, state, still_provisional=self.provisional)
        except BaseException:
            self.overlay = overlay
            raise

    def put_header(
        self,
        state: SealedState,
        extras: Sequence[extentpages.Extra] = (),
        cut: int | None = None,
    ) -> None:
        """A header and the records that its map needs, through the journal; no content."""
        lengths = extentpages.images(self, state, extras)
        draft = Draft(memoryview(bytearray(size_of(lengths))), lengths)
        if extras:
            extentpages.encrypt(self, state, extras, draft, 0)
        self.put(draft, state, cut)

    # Headers

    def next_header(self) -> bytes:
        """The header of the present state, one generation on."""
        self.state.generation += 1
        self.state.session = self.session.id
        self.header = sealed = header.seal(self._clear, self.state, self._header_cipher)
        return sealed

    def write_header(self) -> None:
        """Make the present state the sealed one; the file's times stay as they were."""
        self.settle()
        if self.journaled is not None:
            self.put_header(self.state.copy())
            return
        status = self.backing.stat_open(self.descriptor)
        self.backing.write(self.descriptor, [self.next_header()], 0)
        self.note_written()
        with suppress(PermissionError):  # of a file that somebody else owns
            self.backing.change_open_times(self.descriptor, status.st_atime_ns, status.st_mtime_ns)

    def touch(self) -> None:
        """Its content was changed now, though nothing was written to its place."""
        with suppress(OSError):  # it is written; only the time says otherwise
            self.backing.touch(self.descriptor)

    def note_written(self) -> None:
        """The header of the present state is in the store, or in its journal."""
        self.session.generations.note_generation(self.file_id, self.state.generation)

    def mark_dirty(self) -> None:
        """Before records are written in place that no header names yet: see recovery.py."""
        if not self.state.dirty:
            self.state.content_digest = None
            self._write_header_as(dirty=True)

    def seal(self) -> None:
        """Make size, chunk set and extents authentic again after writes."""
        if self.state.dirty:
            state = self.state.copy()
            extents, extras = extentpages.fit(self, state, self.extents)
            if extras:
                self.put_header(state, extras)
            else:
                self.state = state
                self._write_header_as(dirty=False)
            self.extents = extents

    def _write_header_as(self, *, dirty: bool) -> None:
        """Only what the store took is true: after a failure the next call tries again."""
        self.state.dirty = dirty
        try:
            self.write_header()
        except BaseException:
            self.state.dirty = not dirty
            raise

    def is_present(self, chunk_index: int) -> bool:
        """Whether a chunk is there, and no hole."""
        if self.extents is not None:
            return chunk_index in self.extents
        return chunk_index < self.geometry.chunk_count(self.state.size)

    def read_record(self, chunk_index: int, record: memoryview) -> int:
        """The newest bytes of one record, from the journal or from its place."""
        offset = self.geometry.record_offset(chunk_index)
        journaled = self.journaled
        found = journaled.image(offset) if journaled is not None else None
        if found is not None and self.session.journal is not None:
            return self.session.journal.read(*found, record)
        return self.backing.read_into(self.descriptor, record, offset)

    def nonce_of(self, chunk_index: int) -> bytes:
        """The nonce of a record as it lies in the store, not verified."""
        nonce = bytearray(NONCE_SIZE)
        self.read_record(chunk_index, memoryview(nonce))
        return bytes(nonce)
