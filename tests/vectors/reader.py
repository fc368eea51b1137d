"""Reads a whole ckfs store without ckfs: written from FORMAT.md and HIERARCHY.md alone.

Imports the standard library and `cryptography`, nothing of the package, so that whatever both
read is what the two specifications say. Only service-managed roots; never writes to the store.
Files with transactions in the journal are shown as they are after a replay.

    python reader.py STORE STATE            prints JSON: path -> kind, SHA-256, target, attributes
    python reader.py STORE STATE --to DIR   writes the plaintext tree to a new folder, too
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.cmac import CMAC

READER = 1
CHUNK_SIZES = [1 << bits for bits in range(12, 21)]


class Refused(Exception):
    """What a reader must refuse; `kind` is the name that FORMAT.md gives to the refusal."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind


def refuse(kind: str, reason: str) -> NoReturn:
    raise Refused(kind, reason)


# Building blocks


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand-SHA256."""
    block, output, counter = b"", b"", 0
    while len(output) < length:
        counter += 1
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


def lp(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def siv_open(key: bytes, sealed: bytes, associated: list[bytes], kind: str, reason: str) -> bytes:
    try:
        return AESSIV(key).decrypt(sealed, associated)
    except InvalidTag:
        refuse(kind, reason)


def xaes(key: bytes, nonce: bytes) -> tuple[AESGCM, bytes]:
    """The AES-256-GCM cipher and nonce of one XAES-256-GCM message."""
    block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305 as C2SP says
    number = int.from_bytes(block.update(bytes(16)), "big") << 1
    if number >> 128:
        number = (number & ((1 << 128) - 1)) ^ 0x87
    derived = b""
    for counter in (1, 2):
        message = bytes([0, counter]) + b"X\0" + nonce[:12]
        derived += block.update((int.from_bytes(message, "big") ^ number).to_bytes(16, "big"))
    return AESGCM(derived), nonce[12:]


def base32hex_decode(text: str, kind: str) -> bytes:
    if not re.fullmatch("[0-9a-v]+", text, re.ASCII) or len(text) % 8 in (1, 3, 6):
        refuse(kind, f"{text!r} is not base32hex")
    data = base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8))
    if base32hex(data) != text:
        refuse(kind, f"{text!r} has bits beyond its last byte")
    return data


def base32hex(data: bytes) -> str:
    return base64.b32hexencode(data).decode().rstrip("=").lower()


# FORMAT.md 2 and 3: file keys and the header


class FileKeys(NamedTuple):
    header_key: bytes
    chunk_key: bytes
    commitment: bytes


def file_keys(file_key: bytes, file_id: bytes) -> FileKeys:
    output = expand(file_key, b"ckfs 1 file keys" + file_id, 96)
    return FileKeys(output[:32], output[32:64], output[64:])


class Clear(NamedTuple):
    chunk_size: int
    generation: int
    file_id: bytes
    site_id: bytes
    wrapped_file_key: bytes
    commitment: bytes


def parse_clear(raw: bytes) -> Clear:
    if len(raw) < 128 or raw[:5] != b"CKFS\x01":
        refuse("HeaderInvalid", "no file header")
    if raw[6] > READER:
        refuse("FormatUnsupported", f"wants a reader of format {raw[6]}")
    if raw[7] or not 12 <= raw[8] <= 20 or any(raw[9:12]):
        refuse("HeaderInvalid", "a flag, chunk size or filler that no writer writes")
    generation = int.from_bytes(raw[12:16], "big")
    return Clear(1 << raw[8], generation, raw[16:32], raw[32:48], raw[48:96], raw[96:128])


class Page(NamedTuple):
    chunk_index: int
    nonce: bytes
    length: int


class Sealed(NamedTuple):
    size: int
    generation: int
    session: bytes
    dirty: bool
    unbound: bool
    chunk_set: int
    bindings: list[bytes]
    content_digest: bytes | None
    extents: bytes | None
    pages: list[Page]


def parse_sealed(plain: bytes) -> Sealed:
    flags, bindings, pages = plain[16], plain[17], plain[18]
    length = int.from_bytes(plain[20:22], "big")
    sparse, digested, paged = flags & 2, flags & 8, flags & 16
    area = plain[152:356]
    used = 36 * pages if paged else length
    ok = (
        flags < 32
        and bindings <= 4
        and pages <= 5
        and length <= 204
        and not any(plain[19:20] + plain[22:24])
        and (not paged or (sparse and pages and not length))
        and (paged or not pages)
        and (sparse or not length)
        and (digested or not any(plain[56:88]))
        and not any(plain[88 + 16 * bindings : 152])
        and not any(area[used:])
    )
    if not ok:
        refuse("HeaderInvalid", "a sealed part that no writer writes")
    return Sealed(
        size=int.from_bytes(plain[0:8], "big"),
        generation=int.from_bytes(plain[8:16], "big"),
        session=plain[40:56],
        dirty=bool(flags & 1),
        unbound=bool(flags & 4),
        chunk_set=int.from_bytes(plain[24:40], "big"),
        bindings=[plain[88 + 16 * i : 104 + 16 * i] for i in range(bindings)],
        content_digest=plain[56:88] if digested else None,
        extents=area[:length] if sparse and not paged else None,
        pages=[
            Page(
                int.from_bytes(area[36 * i : 36 * i + 8], "big"),
                area[36 * i + 8 : 36 * i + 32],
                int.from_bytes(area[36 * i + 32 : 36 * i + 36], "big"),
            )
            for i in range(pages)
        ],
    )


def open_header(raw: bytes, file_key: bytes) -> tuple[Clear, Sealed, FileKeys]:
    clear = parse_clear(raw)
    if len(raw) != 512:
        refuse("HeaderInvalid", f"{len(raw)} bytes")
    keys = file_keys(file_key, clear.file_id)
    if not hmac.compare_digest(keys.commitment, clear.commitment):
        refuse("HeaderInvalid", "does not commit to the key that it wraps")
    try:
        plain = AESGCM(keys.header_key).decrypt(raw[128:140], raw[140:], raw[:128])
    except InvalidTag:
        refuse("HeaderInvalid", "tag fails")
    return clear, parse_sealed(plain), keys


# FORMAT.md 4 to 6: chunks, their set, extents


def open_record(
    keys_of: bytes, file_id: bytes, chunk_index: int, record: bytes, kind: bytes
) -> bytes:
    gcm, nonce = xaes(keys_of, record[:24])
    try:
        return gcm.decrypt(nonce, record[24:], file_id + chunk_index.to_bytes(8, "big") + kind)
    except InvalidTag:
        refuse("ChunkInvalid", f"chunk {chunk_index}: tag fails")


def chunk_digest(chunk_key: bytes, chunk_index: int, nonce: bytes) -> int:
    mac = CMAC(algorithms.AES256(chunk_key))
    mac.update(chunk_index.to_bytes(8, "big") + nonce)
    return int.from_bytes(mac.finalize(), "big")


def parse_extents(packed: bytes, chunks: int) -> list[tuple[int, int]]:
    borders: list[int] = []
    border, shift = 0, 0
    for byte in packed:
        if not byte and (shift or borders):
            refuse("HeaderInvalid", "an extent map that is not in its shortest form")
        border += (byte & 127) << shift
        if border > chunks:
            refuse("HeaderInvalid", "an extent map beyond the end of the file")
        shift = shift + 7 if byte & 128 else 0
        if not shift:
            borders.append(border)
    if shift or len(borders) % 2:
        refuse("HeaderInvalid", "an extent map that ends inside a run")
    return list(zip(borders[::2], borders[1::2], strict=True))


def ciphertext_size(size: int, chunk_size: int) -> int:
    return 512 + size + 40 * -(-size // chunk_size)


def read_content(
    file: "BackingFile", clear: Clear, sealed: Sealed, keys: FileKeys
) -> Iterator[bytes]:
    """Chunk by chunk; the set is compared behind the last one."""
    size, chunk_size = sealed.size, clear.chunk_size
    stride, chunks = chunk_size + 40, -(-size // chunk_size)
    deltas = file.deltas(sealed)
    if deltas:
        whole = b"".join(read_content(file.without_deltas(), clear, sealed, keys))
        yield with_deltas(bytearray(whole), deltas, clear, keys)
        return
    if sealed.dirty:
        refuse("HeaderInvalid", "was left unsealed: mount the store where it was written")
    if file.length != ciphertext_size(size, chunk_size):
        refuse("SizeMismatch", "was cut or extended")
    packed = sealed.extents
    if sealed.pages:
        packed = b""
        for page in sealed.pages:
            record = file.read(stride, 512 + page.chunk_index * stride)
            if record[:24] != page.nonce or page.length > chunk_size or len(record) != stride:
                refuse("HeaderInvalid", "a page of the extent map is not the sealed one")
            plain = open_record(
                keys.chunk_key, clear.file_id, page.chunk_index, record, b"\x02\x01"
            )
            packed += plain[: page.length]
    runs = [(0, chunks)] if packed is None else parse_extents(packed, chunks)
    following, digest = 0, 0
    for first, end in [*runs, (chunks, chunks)]:
        for index in range(following, first):
            yield bytes(min(chunk_size, size - index * chunk_size))
        for index in range(first, end):
            length = min(chunk_size, size - index * chunk_size)
            record = file.read(length + 40, 512 + index * stride)
            if len(record) != length + 40:
                refuse("ChunkInvalid", f"chunk {index}: cut")
            yield open_record(keys.chunk_key, clear.file_id, index, record, b"\x01\x01")
            digest ^= chunk_digest(keys.chunk_key, index, record[:24])
        following = end
    if digest != sealed.chunk_set:
        refuse("ChunkSetMismatch", "a chunk was put back to an older version")


def with_deltas(content: bytearray, deltas: "list[Delta]", clear: Clear, keys: FileKeys) -> bytes:
    """What they were made on, and they over it."""
    for delta in deltas:
        bound = clear.file_id + delta.generation.to_bytes(8, "big") + b"\x03\x01"
        bound += delta.offset.to_bytes(8, "big") + delta.final_length.to_bytes(8, "big")
        gcm, nonce = xaes(keys.chunk_key, delta.record[:24])
        try:
            data = gcm.decrypt(nonce, delta.record[24:], bound)
        except InvalidTag:
            refuse("ChunkInvalid", f"a delta at {delta.offset}: tag fails")
        full, rest = divmod(delta.final_length - 512, clear.chunk_size + 40)
        size = full * clear.chunk_size + max(0, rest - 40)
        content.extend(bytes(max(0, size - len(content))))
        content[delta.offset : delta.offset + len(data)] = data
    return bytes(content)


# FORMAT.md 11: the journal


class Head(NamedTuple):
    epoch: int
    session: bytes
    salt: bytes
    gcm: AESGCM

    def holds(self, nonce: bytes, data: bytes, tag: bytes) -> bool:
        try:
            return not self.gcm.decrypt(nonce, tag, data)
        except InvalidTag:
            return False


def open_journal_head(raw: bytes, metadata_key: bytes) -> Head:
    if len(raw) != 80 or raw[:4] != b"CKFJ":
        refuse("JournalInvalid", "no head of a journal")
    gcm = AESGCM(expand(metadata_key, b"ckfs 1 journal" + raw[:64], 32))
    head = Head(int.from_bytes(raw[8:16], "big"), raw[16:32], raw[32:64], gcm)
    if not head.holds(bytes(12), raw[:64], raw[64:]):
        refuse("JournalInvalid", "a head that was changed, or another store's")
    if raw[5] > READER:
        refuse("FormatUnsupported", f"a journal for a reader of format {raw[5]}")
    return head


class Transaction(NamedTuple):
    file_id: bytes
    inode: int
    cut: int | None
    final_length: int
    header: bytes
    images: list[tuple[int, bytes]]


class Delta(NamedTuple):
    file_id: bytes
    inode: int
    generation: int
    offset: int
    final_length: int
    record: bytes


def open_delta(raw: bytes, number: int, head: Head) -> Delta:
    """One whole delta, from its magic to its tag; its content stays encrypted."""
    length, said, inode, generation, offset, final_length = (
        int.from_bytes(raw[at : at + 8], "big") for at in (8, 16, 40, 48, 56, 64)
    )
    if raw[:4] != b"CKJD" or any(raw[4:8]) or length != len(raw) or said != number:
        refuse("JournalInvalid", "no delta begins here")
    if len(raw) <= 140 or not head.holds(raw[72:84], raw[:-16], raw[-16:]):
        refuse("JournalInvalid", "a delta that is torn, or was changed")
    if max(offset + len(raw) - 140, final_length) >= 1 << 63:
        refuse("JournalInvalid", "a delta beyond the end of every file")
    return Delta(raw[24:40], inode, generation, offset, final_length, raw[84:-16])


def open_transaction(raw: bytes, number: int, head: Head) -> Transaction:
    """One whole transaction, from its magic to its tag."""
    body = raw[:-16]
    fields = [int.from_bytes(raw[at : at + 8], "big") for at in (8, 16, 40, 48, 56)]
    length, said, inode, cut, final_length = fields
    is_part = raw[:4] == b"CKJP"
    if raw[:4] not in (b"CKJT", b"CKJP") or length != len(raw) or said != number:
        refuse("JournalInvalid", "no transaction begins here")
    if len(raw) < 604 or not head.holds(raw[64:76], body, raw[-16:]):
        refuse("JournalInvalid", "a transaction that is torn, or was changed")
    count = int.from_bytes(raw[4:8], "big")
    at = 588 + 12 * count
    if at > len(body):
        refuse("JournalInvalid", "more images than there is room for")
    images = []
    for place in range(588, at, 12):
        offset = int.from_bytes(body[place : place + 8], "big")
        size = int.from_bytes(body[place + 8 : place + 12], "big")
        if offset + size >= 1 << 63:
            refuse("JournalInvalid", "an image beyond the end of every file")
        image = body[at : at + size]
        if size == 8 and offset + int.from_bytes(image, "big") >= 1 << 63:
            refuse("JournalInvalid", "a hole beyond the end of every file")
        images.append((offset, image))
        at += size
    if at != len(body) or final_length >= 1 << 63:
        refuse("JournalInvalid", "images that are not in their places")
    uncut = cut == (1 << 64) - 1
    header = raw[76:588]
    if is_part and (not uncut or final_length or any(header)):
        refuse("JournalInvalid", "a part with what only a whole transaction has")
    return Transaction(raw[24:40], inode, None if uncut else cut, final_length, header, images)


class Pending:
    """What the journal is to make of one backing file."""

    def __init__(self) -> None:
        self.inode = 0
        self.header = b""
        self.final_length = 0
        self.whole_below: int | None = None
        """What lies in place from here on was cut off."""
        self.images: dict[int, bytes] = {}
        self.parts: list[tuple[int, bytes]] = []
        self.deltas: list[Delta] = []

    def take(self, change: Transaction) -> None:
        self.images.update(self.parts)
        self.parts, self.deltas = [], []
        if change.cut is not None:
            before = change.cut if self.whole_below is None else self.whole_below
            self.whole_below = min(change.cut, before)
            for offset in [one for one in self.images if one >= change.cut]:
                del self.images[offset]
        for offset, image in change.images:
            if len(image) == 8:
                # Holes, as the map says, too: nothing is to be read there but what comes later.
                end = offset + int.from_bytes(image, "big")
                for one in [one for one in self.images if offset <= one < end]:
                    del self.images[one]
            else:
                self.images[offset] = image
        self.inode, self.header = change.inode, change.header
        self.final_length = change.final_length

    def take_delta(self, delta: Delta) -> None:
        """The second one of a generation is a copy."""
        if not self.deltas or self.deltas[-1].generation < delta.generation:
            self.deltas.append(delta)
        if not self.header:
            self.inode = delta.inode


def read_journal(folder: str, metadata_key: bytes) -> dict[bytes, Pending]:
    """By file id. Without a host's record every journal counts whose head authenticates.

    One for a newer reader refuses the store: nobody else may say what its files are.
    """
    journals = []
    for name in ("a", "b"):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                raw = file.read()
            journals.append((open_journal_head(raw[:80], metadata_key), raw))
        except FileNotFoundError:
            continue
        except Refused as error:
            if error.kind != "JournalInvalid":
                raise
    pending: dict[bytes, Pending] = {}
    for head, raw in sorted(journals, key=lambda one: one[0].epoch):
        at, number = 80, 1
        while at < len(raw):
            length = int.from_bytes(raw[at + 8 : at + 16], "big")
            frame = raw[at : at + length]
            try:
                if frame[:4] == b"CKJD":
                    delta = open_delta(frame, number, head)
                    pending.setdefault(delta.file_id, Pending()).take_delta(delta)
                else:
                    change = open_transaction(frame, number, head)
                    file = pending.setdefault(change.file_id, Pending())
                    if frame[:4] == b"CKJP":
                        file.parts += change.images
                    else:
                        file.take(change)
            except Refused:
                break
            at, number = at + length, number + 1
        for file in pending.values():
            file.parts = []  # of a transaction that this epoch never had
    return pending


class BackingFile:
    """A backing file as it is after a replay."""

    def __init__(self, descriptor: int, pending: dict[bytes, Pending]) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        header = os.pread(descriptor, 512, 0)
        self.length = status.st_size
        if any(header):
            self._pending = pending.get(header[16:32])
        else:
            found = [one for one in pending.values() if one.inode == status.st_ino]
            self._pending = found[0] if found else None
        self._deltas = self._pending.deltas if self._pending is not None else []
        if self._pending is not None and not self._pending.header:
            self._pending = None
        if self._pending is not None:
            self.length = self._pending.final_length

    def deltas(self, sealed: Sealed) -> list[Delta]:
        """Those that were made on this header, one after the other."""
        found: list[Delta] = []
        for delta in self._deltas if not sealed.dirty else []:
            if delta.generation == sealed.generation + len(found) + 1:
                found.append(delta)
            elif delta.generation > sealed.generation:
                break
        return found

    def without_deltas(self) -> "BackingFile":
        """As the newest header names it."""
        self._deltas = []
        return self

    def read(self, length: int, offset: int) -> bytes:
        """A record, or the header; shorter only at the end of the file."""
        pending = self._pending
        if pending is None:
            return os.pread(self._descriptor, length, offset)
        if not offset:
            return pending.header[:length]
        if offset in pending.images:
            return pending.images[offset][:length]
        data = os.pread(self._descriptor, length, offset)
        if pending.whole_below is not None:
            data = data[: max(0, pending.whole_below - offset)]
        length = max(0, min(length, self.length - offset))
        return data[:length].ljust(length, b"\0")


# FORMAT.md 7 to 10: what a site's metadata key opens


class Site:
    """One site's keys."""

    def __init__(
        self, site_id: bytes, root_id: bytes, site_keys: dict[int, bytes], metadata_key: bytes
    ) -> None:
        self.site_id = site_id
        self.root_id = root_id
        self._site_keys = site_keys
        self.metadata_key = metadata_key

    def subkey(self, label: bytes) -> bytes:
        return expand(self.metadata_key, b"ckfs 1 " + label, 64)

    def file_key(self, clear: Clear) -> bytes:
        label, site_key = b"ckfs/v1/file-key-wrap", self._site_keys.get(clear.generation)
        if clear.site_id != self.site_id or site_key is None:
            refuse("KeyRejected", "another site's file, or of an unknown site-key generation")
        associated = lp(label, clear.site_id, u32(clear.generation), clear.file_id)
        key = expand(site_key, lp(label), 64)
        return siv_open(
            key, clear.wrapped_file_key, [associated], "KeyRejected", "a file key does not open"
        )

    def open_name(self, directory_id: bytes, text: str) -> tuple[bytes, bytes]:
        sealed = base32hex_decode(text, "NameInvalid")
        name = siv_open(
            self.subkey(b"names"), sealed, [directory_id], "NameInvalid", f"{text!r} is foreign"
        )
        return name, sealed[:16]

    def binding(self, directory_id: bytes, name: bytes) -> bytes:
        return AESSIV(self.subkey(b"names")).encrypt(name, [directory_id])[:16]

    def open_target(self, text: str) -> tuple[bytes, list[bytes]]:
        """The target and the bindings of a symlink; without any it is valid under every name."""
        if not re.fullmatch("[A-Za-z0-9_-]+", text, re.ASCII) or len(text) % 4 == 1:
            refuse("NameInvalid", "a foreign symlink")
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") != text:
            refuse("NameInvalid", "a symlink with bits beyond its last byte")
        if raw[:1] != b"\x01":
            refuse("NameInvalid", "a symlink of an unknown version")
        key = self.subkey(b"symlinks")
        plain = siv_open(key, raw[1:], [raw[:1]], "NameInvalid", "a symlink of another site")
        if len(plain) < 33 or plain[0] > 2 or any(plain[1 + 16 * plain[0] : 33]):
            refuse("NameInvalid", "a symlink that no writer writes")
        return plain[33:], [plain[1 + 16 * i : 17 + 16 * i] for i in range(plain[0])]

    def open_xattr(self, owner_id: bytes, attribute: str, stored: bytes) -> tuple[bytes, bytes]:
        key = self.subkey(b"xattrs")
        sealed = base32hex_decode(attribute.removeprefix("user.ckfs."), "NameInvalid")
        name = siv_open(key, sealed, [b"name", owner_id], "NameInvalid", "foreign attribute")
        associated = [b"value", owner_id, name, stored[:16]]
        plain = siv_open(key, stored[16:], associated, "NameInvalid", "changed attribute")
        if plain[:1] != b"\0":
            refuse("NameInvalid", "an unknown form of attribute")
        return name, plain[1:]

    def open_directory(self, raw: bytes) -> tuple[bytes, list[bytes]]:
        """The directory's id and its bindings."""
        site_of(raw)
        key = self.subkey(b"directory records")
        plain = siv_open(
            key, raw[40:], [raw[:40]], "DirectoryRecordInvalid", "a record was changed"
        )
        count, first, second = plain[8], plain[16:32], plain[32:48]
        if count not in (1, 2) or any(plain[9:16]) or (count == 1 and any(second)):
            refuse("DirectoryRecordInvalid", "a record that no writer writes")
        return raw[8:24], [first, second][:count]


def site_of(raw: bytes) -> bytes:
    """The site id that a directory record claims."""
    if len(raw) != 104 or raw[:5] != b"CKFS\x02":
        refuse("DirectoryRecordInvalid", "no directory record")
    if raw[6] > READER:
        refuse("FormatUnsupported", f"wants a reader of format {raw[6]}")
    if raw[7]:
        refuse("DirectoryRecordInvalid", "a flag that no writer writes")
    return raw[24:40]


def store_mac(document: dict[str, Any], metadata_key: bytes) -> str:
    """The MAC of a store document."""
    order = ("format", "lowest_reader", "store_id", "site_id", "names", "chunk_size", "created")
    fields = {name: document[name] for name in order} | {"mac": ""}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    key = expand(metadata_key, b"ckfs 1 store document", 32)
    return hmac.digest(key, text, "sha256").hex()


# HIERARCHY.md: from the service-managed root to the sites


class Keys:
    """The sites of one keystore, opened with the master keys of a state folder."""

    def __init__(self, keystore: dict[str, Any], state: str) -> None:
        if keystore["lowest_reader"] > READER:
            refuse("FormatUnsupported", "keystore")
        self._masters = {}
        folder = os.path.join(state, "service-keys")
        for name in os.listdir(folder):
            if name.endswith(".key"):
                with open(os.path.join(folder, name), "rb") as file:
                    master = json.load(file)
                self._masters[bytes.fromhex(master["id"])] = base64.b64decode(master["key"])
        self.sites: dict[bytes, Site] = {}
        for section in keystore["sections"]:
            self._open_section(bytes.fromhex(keystore["store_id"]), section)

    def _open_section(self, store_id: bytes, section: dict[str, Any]) -> None:
        policy = section["policy"]
        policy_id = bytes.fromhex(policy["id"])
        tiks = {
            tik["generation"]: self._open_tik(policy_id, tik) for tik in policy["tik_generations"]
        }
        current = tiks[policy["tik_generations"][-1]["generation"]]
        canonical = json.dumps(section | {"seal": ""}, sort_keys=True, separators=(",", ":"))
        label = b"ckfs/v1/keystore-seal"
        message = lp(label, store_id, policy_id, canonical.encode())
        seal = hmac.digest(expand(current, lp(label), 32), message, "sha256")
        if not hmac.compare_digest(seal, base64.b64decode(section["seal"])):
            refuse("KeystoreInvalid", "a section's seal does not match")
        for site in section["sites"]:
            opened = self._open_site(policy_id, tiks, site)
            self.sites[opened.site_id] = opened

    def _open_tik(self, policy_id: bytes, tik: dict[str, Any]) -> bytes:
        label = b"ckfs/v1/service-managed-root"
        for wrap in tik["wraps"]:
            wrapped = base64.b64decode(wrap["wrapped"])
            master_id = wrapped[:16]
            master = self._masters.get(master_id)
            if wrap["slot"] != "service" or master is None:
                continue
            fixed = label + b"\0" + policy_id + master_id + u32(512)
            key = b"".join(hmac.digest(master, u32(i) + fixed, "sha256") for i in (1, 2))
            associated = [lp(label, policy_id, master_id)]
            opened = siv_open(key, wrapped[16:], associated, "WrappedKeyInvalid", "TIK")
            fields = (b"ckfs/v1/tik-fingerprint", policy_id, u32(tik["generation"]))
            if expand(opened, lp(*fields), 32) != base64.b64decode(tik["fingerprint"]):
                refuse("WrappedKeyInvalid", "a TIK without the fingerprint of its record")
            return opened
        refuse("RootKeyMissing", f"no master key opens TIK generation {tik['generation']}")

    def _open_site(self, policy_id: bytes, tiks: dict[int, bytes], site: dict[str, Any]) -> Site:
        site_id = bytes.fromhex(site["site_id"])
        site_keys: dict[int, bytes] = {}
        for record in site["site_keys"]:
            place = (site_id, u32(record["generation"]))
            label = b"ckfs/v1/site-key-wrap"
            associated = lp(label, policy_id, u32(record["tik_generation"]), *place)
            key = expand(tiks[record["tik_generation"]], lp(label), 64)
            wrapped = base64.b64decode(record["wrapped_site_key"])
            opened = siv_open(key, wrapped, [associated], "WrappedKeyInvalid", "site key")
            commitment = expand(opened, lp(b"ckfs/v1/site-key-commitment", *place), 32)
            if commitment != base64.b64decode(record["commitment"]):
                refuse("WrappedKeyInvalid", "a site key without the commitment of its record")
            site_keys[record["generation"]] = opened
        generation = site["site_keys"][-1]["generation"]
        label = b"ckfs/v1/metadata-key-wrap"
        metadata_key = siv_open(
            expand(site_keys[generation], lp(label), 64),
            base64.b64decode(site["wrapped_metadata_key"]),
            [lp(label, site_id, u32(generation))],
            "WrappedKeyInvalid",
            "metadata key",
        )
        root_id = bytes.fromhex(site["root_directory_id"])
        return Site(site_id, root_id, site_keys, metadata_key)


# The tree


class Reader:
    """Walks one store."""

    def __init__(self, store: str, state: str, to: str | None = None) -> None:
        with open(os.path.join(store, ".ckfs", "store.json"), "rb") as file:
            self.document = json.load(file)
        if self.document["lowest_reader"] > READER:
            refuse("StoreTooNew", "store document")
        with open(os.path.join(store, ".ckfs", "keystore.json"), "rb") as file:
            keystore = json.load(file)
        if keystore["store_id"] != self.document["store_id"]:
            refuse("KeystoreInvalid", "another store's")
        self.sites = Keys(keystore, state).sites
        root = self.sites[bytes.fromhex(self.document["site_id"])]
        if store_mac(self.document, root.metadata_key) != self.document["mac"]:
            refuse("StoreDamaged", "the store document's MAC fails")
        journal = os.path.join(store, ".ckfs", "journal")
        self.pending = read_journal(journal, root.metadata_key)
        self.chunk_size = self.document["chunk_size"]
        self.plaintext_names = self.document["names"] == "plaintext"
        self.found: dict[str, dict[str, Any]] = {}
        self._to = to
        self._walk(store, "", None, bytes(16))

    def _walk(self, folder: str, path: str, parent: Site | None, binding: bytes) -> None:
        try:
            with open(os.path.join(folder, ".ckfs-dir"), "rb") as file:
                raw = file.read()
        except OSError:
            refuse("DirectoryRecordInvalid", f"{path or '/'}: its record is gone")
        site_id = site_of(raw)
        site = self.sites[site_id]
        directory_id, bindings = site.open_directory(raw)
        if binding not in bindings:
            refuse("DirectoryRecordInvalid", f"{path}: moved or swapped")
        if parent is not site and directory_id != site.root_id:
            refuse("DirectoryRecordInvalid", f"{path}: not where its site begins")
        self.found[path or "/"] = {
            "kind": "directory",
            "xattrs": self._xattrs(folder, site, directory_id),
        }
        if self._to is not None:
            os.mkdir(self._to + path)
        for text in sorted(os.listdir(folder)):
            if text.startswith(".ckfs") and not text.startswith(".ckfs-long."):
                continue
            below = f"{path}/{text}"
            try:
                name, known = self._name(folder, site, directory_id, text)
                below = f"{path}/{os.fsdecode(name)}"
                self._entry(os.path.join(folder, text), below, site, known)
            except Refused as error:
                self.found[below] = {"kind": "refused", "error": error.kind}

    def _name(self, folder: str, site: Site, directory_id: bytes, text: str) -> tuple[bytes, bytes]:
        if self.plaintext_names:
            name = os.fsencode(text)
            return name, site.binding(directory_id, name)
        if text.startswith(".ckfs-long."):
            digest = text.removeprefix(".ckfs-long.")
            try:
                with open(os.path.join(folder, ".ckfs-name." + digest), "rb") as file:
                    sidecar = file.read()
            except OSError:
                refuse("NameInvalid", "a sidecar is gone")
            if base32hex(hashlib.sha256(sidecar).digest()) != digest or len(sidecar) <= 255:
                refuse("NameInvalid", "a sidecar was changed")
            text = sidecar.decode("ascii", "replace")
        name, binding = site.open_name(directory_id, text)
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            refuse("NameInvalid", "no name of a file")
        return name, binding

    def _entry(self, place: str, path: str, site: Site, binding: bytes) -> None:
        status = os.lstat(place)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            self._walk(place, path, site, binding)
        elif kind == stat.S_IFREG:
            self._file(place, path, site, binding)
        elif kind == stat.S_IFLNK:
            target, bindings = site.open_target(os.readlink(place))
            if bindings and binding not in bindings:
                refuse("NameBindingMismatch", "a symlink that was moved or swapped")
            self.found[path] = {"kind": "symlink", "target": os.fsdecode(target)}
            if self._to is not None:
                os.symlink(target, os.fsencode(self._to + path))
        else:
            self.found[path] = {"kind": "node"}

    def _file(self, place: str, path: str, site: Site, binding: bytes) -> None:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
        copy = None
        try:
            file = BackingFile(descriptor, self.pending)
            raw = file.read(512, 0)
            clear, sealed, keys = open_header(raw, site.file_key(parse_clear(raw)))
            if clear.chunk_size != self.chunk_size:
                refuse("HeaderInvalid", "another store's chunk size")
            if binding not in sealed.bindings and not sealed.unbound:
                refuse("NameBindingMismatch", "moved, swapped or copied")
            if self._to is not None:
                copy = open(self._to + path, "xb")  # noqa: SIM115 closed below
            digest, size = hashlib.sha256(), 0
            for plain in read_content(file, clear, sealed, keys):
                digest.update(plain)
                size += len(plain)
                if copy is not None:
                    copy.write(plain)
            self.found[path] = {
                "kind": "file",
                "size": size,
                "sha256": digest.hexdigest(),
                "sparse": sealed.extents is not None or bool(sealed.pages),
                "xattrs": self._xattrs(place, site, clear.file_id),
            }
        finally:
            os.close(descriptor)
            if copy is not None:
                copy.close()

    def _xattrs(self, place: str, site: Site, owner_id: bytes) -> dict[str, str]:
        try:
            names = os.listxattr(place, follow_symlinks=False)
        except OSError:
            return {}
        found = {}
        for attribute in sorted(names):
            if attribute.startswith("user.ckfs."):
                stored = os.getxattr(place, attribute, follow_symlinks=False)
                name, value = site.open_xattr(owner_id, attribute, stored)
                found[os.fsdecode(name)] = value.hex()
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Read a ckfs store by its specification alone.")
    parser.add_argument("store")
    parser.add_argument("state", help="the state folder with the service-managed keys")
    parser.add_argument("--to", help="a folder to make and to write the plaintext into")
    arguments = parser.parse_args()
    try:
        found = Reader(arguments.store, arguments.state, arguments.to).found
    except (Refused, OSError, KeyError, ValueError) as error:
        print(f"refused: {error}", file=sys.stderr)  # noqa: T201 a program of its own
        return 1
    json.dump(found, sys.stdout, indent=1, sort_keys=True)
    print()  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
