"""Write format.json: fixed keys, ids and nonces, and the bytes of the store that they make.

Run from the project's root: python -m tests.vectors.generate_format
Change the vectors only together with FORMAT.md: they fix the bytes that stores already have.
"""

import base64
import hashlib
import json
import pathlib
import types
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fsdriver.folder import LONG_NAME, Folder, Site
from fsdriver.format import delta, filekeys, header
from fsdriver.format.chunk import KIND_CHUNK, KIND_EXTENT_MAP, ChunkCipher, ChunkSet
from fsdriver.format.delta import Delta
from fsdriver.format.directory import DirectoryRecord
from fsdriver.format.extents import ExtentMap
from fsdriver.format.header import ClearHeader, ExtentPage, SealedState
from fsdriver.format.journal import NO_CUT, Draft, JournalCipher, JournalHead, Transaction, size_of
from fsdriver.format.names import NameCipher
from fsdriver.format.xaes import Xaes256Gcm
from fsdriver.store import StoreDocument

PLACE = pathlib.Path(__file__).with_name("format.json")
Case = dict[str, Any]


def fixed(name: str, length: int) -> bytes:
    """Bytes that anybody can make again: SHAKE-256 of a name."""
    return hashlib.shake_256(b"ckfs format vector: " + name.encode()).digest(length)


FILE_KEY, FILE_ID = fixed("file key", 32), fixed("file", 16)
SITE_ID, DIRECTORY_ID = fixed("site", 16), fixed("directory", 16)
METADATA_KEY = fixed("metadata key", 32)
SESSION = fixed("session", 16)
BINDING, OTHER_BINDING = fixed("binding", 16), fixed("other binding", 16)
KEYS = filekeys.derive(FILE_KEY, FILE_ID)
CLEAR = ClearHeader(65536, 1, FILE_ID, SITE_ID, fixed("wrapped file key", 48), KEYS.commitment)
NAMES = NameCipher(METADATA_KEY)


def build() -> dict[str, list[Case]]:
    """Every vector, by the code as it is."""
    return {
        "file_keys": [_file_keys("a"), _file_keys("b")],
        "xaes": _xaes(),
        "chunk_records": _chunk_records(),
        "chunk_sets": [_chunk_set(count) for count in (0, 1, 2, 3, 17)],
        "headers": _headers(),
        "invalid_headers": _invalid_headers(),
        "extent_maps": _extent_maps(),
        "invalid_extent_maps": _invalid_extent_maps(),
        "names": [_name(name) for name in _NAMES],
        "invalid_names": _invalid_names(),
        "directory_records": _directory_records(),
        "invalid_directory_records": _invalid_directory_records(),
        "symlinks": _symlinks(),
        "invalid_symlinks": _invalid_symlinks(),
        "xattrs": [_xattr(b"user.tag", b"blue"), _xattr(b"user.\xc3\xbc", b"")],
        "journal_heads": _journal_heads(),
        "invalid_journal_heads": _invalid_journal_heads(),
        "journal_transactions": _journal_transactions(),
        "invalid_journal_transactions": _invalid_journal_transactions(),
        "journal_deltas": _journal_deltas(),
        "invalid_journal_deltas": _invalid_journal_deltas(),
        "store_documents": [_store_document("encrypted"), _store_document("plaintext")],
    }


def _file_keys(name: str) -> Case:
    file_key, file_id = fixed(f"file key {name}", 32), fixed(f"file {name}", 16)
    made = filekeys.derive(file_key, file_id)
    return hexed({"file_key": file_key, "file_id": file_id} | made._asdict())


def _xaes() -> list[Case]:
    nonce, plaintext = b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM"
    cases = [
        ("C2SP, first", b"\x01" * 32, nonce, plaintext, b""),
        ("C2SP, second", b"\x03" * 32, nonce, plaintext, b"c2sp.org/XAES-256-GCM"),
        ("empty", fixed("xaes key", 32), fixed("xaes nonce", 24), b"", b""),
    ]
    return [
        {"comment": comment}
        | hexed({"key": key, "nonce": nonce, "plaintext": plain, "associated_data": associated})
        | hexed({"sealed": Xaes256Gcm(key).encrypt(nonce, plain, associated)})
        for comment, key, nonce, plain, associated in cases
    ]


def _chunk_records() -> list[Case]:
    cases = []
    for index, plaintext, kind in (
        (0, b"\n", KIND_CHUNK),
        (1, b"the second chunk", KIND_CHUNK),
        ((1 << 40) + 5, bytes(64), KIND_CHUNK),
        (7, b"\x00\x01".ljust(64, b"\0"), KIND_EXTENT_MAP),
    ):
        nonce = fixed(f"nonce {index}", 24)
        record = bytearray(len(plaintext) + 40)
        ChunkCipher(KEYS.chunk_key, FILE_ID).encrypt_run(
            index, [memoryview(plaintext)], memoryview(record), nonces=nonce, kind=kind
        )
        values = {"chunk_key": KEYS.chunk_key, "file_id": FILE_ID, "kind": kind}
        values |= {"plaintext": plaintext, "record": bytes(record)}
        cases.append({"chunk_index": index} | hexed(values))
    return cases


def _chunk_set(count: int) -> Case:
    first = count * 1000
    nonces = [fixed(f"set {number}", 24) for number in range(count)]
    digest = ChunkSet(Xaes256Gcm(KEYS.chunk_key)).digest(first, b"".join(nonces))
    return {
        "chunk_key": KEYS.chunk_key.hex(),
        "first_chunk": first,
        "nonces": [nonce.hex() for nonce in nonces],
        "digest": digest.to_bytes(16).hex(),
    }


def _states() -> dict[str, SealedState]:
    pages = tuple(
        ExtentPage(10 + number, fixed(f"page {number}", 24), 65536 - number) for number in range(5)
    )
    return {
        "empty": SealedState(generation=1, session=SESSION, bindings=(BINDING,)),
        "dense, 5000 bytes": SealedState(
            size=5000,
            generation=2,
            session=SESSION,
            chunk_set=int.from_bytes(fixed("set", 16)),
            bindings=(BINDING,),
        ),
        "dirty, during a rename": SealedState(
            size=5000,
            generation=3,
            session=SESSION,
            dirty=True,
            bindings=(BINDING, OTHER_BINDING),
        ),
        "four links": SealedState(
            generation=4, bindings=tuple(fixed(f"binding {number}", 16) for number in range(4))
        ),
        "unbound": SealedState(size=1, generation=5, unbound=True),
        "sparse, nothing present": SealedState(
            size=1 << 40, generation=6, bindings=(BINDING,), extents=b""
        ),
        "sparse, map in the header": SealedState(
            size=1 << 40, generation=7, bindings=(BINDING,), extents=bytes.fromhex("00010501")
        ),
        "sparse, map in pages": SealedState(
            size=1 << 40, generation=8, bindings=(BINDING,), extent_pages=pages
        ),
        "with a content digest": SealedState(
            size=5000, generation=9, bindings=(BINDING,), content_digest=fixed("content", 32)
        ),
    }


def _headers() -> list[Case]:
    return [_header(comment, CLEAR, state) for comment, state in _states().items()] + [
        _header("smallest chunks", CLEAR._replace(chunk_size=4096), SealedState(generation=1)),
        _header("a newer writer", CLEAR._replace(format_version=2), SealedState(generation=1)),
    ]


def _header(comment: str, clear: ClearHeader, state: SealedState) -> Case:
    sealed = _seal(clear, state, comment)
    fields = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in clear._asdict().items()
    }
    return {
        "comment": comment,
        "file_key": FILE_KEY.hex(),
        "clear": fields,
        "sealed": {
            "size": state.size,
            "generation": state.generation,
            "session": state.session.hex(),
            "dirty": state.dirty,
            "unbound": state.unbound,
            "chunk_set": state.chunk_set.to_bytes(16).hex(),
            "bindings": [binding.hex() for binding in state.bindings],
            "content_digest": state.content_digest and state.content_digest.hex(),
            "extents": None if state.extents is None else state.extents.hex(),
            "pages": [
                [page.chunk_index, page.nonce.hex(), page.length] for page in state.extent_pages
            ],
        },
        "header": sealed.hex(),
    }


def _seal(clear: ClearHeader, state: SealedState, name: str) -> bytes:
    nonce = fixed(f"nonce of a header: {name}", 12)
    return header.seal(clear.pack(), state, AESGCM(KEYS.header_key), nonce=nonce)


def _invalid_headers() -> list[Case]:
    state = _states()["dense, 5000 bytes"]
    clear, nonce = CLEAR.pack(), fixed("nonce of an invalid header", 12)
    cipher = AESGCM(KEYS.header_key)
    good = header.seal(clear, state, cipher, nonce=nonce)

    def changed(data: bytes, offset: int, value: bytes) -> bytes:
        return data[:offset] + value + data[offset + len(value) :]

    def resealed(offset: int, value: bytes) -> bytes:
        return clear + nonce + cipher.encrypt(nonce, changed(state.pack(), offset, value), clear)

    cases = {
        "nothing": (b"", "HeaderInvalid"),
        "only the clear part": (good[:128], "HeaderInvalid"),
        "one byte short": (good[:511], "HeaderInvalid"),
        "zeros": (bytes(512), "HeaderInvalid"),
        "another magic": (changed(good, 0, b"X"), "HeaderInvalid"),
        "a directory's record type": (changed(good, 4, b"\2"), "HeaderInvalid"),
        "another version, not resealed": (changed(good, 5, b"\2"), "HeaderInvalid"),
        "for a newer reader": (changed(good, 6, b"\2"), "FormatUnsupported"),
        "a clear flag": (changed(good, 7, b"\1"), "HeaderInvalid"),
        "chunks of 2 KiB": (changed(good, 8, b"\x0b"), "HeaderInvalid"),
        "chunks of 2 MiB": (changed(good, 8, b"\x15"), "HeaderInvalid"),
        "filler in the clear part": (changed(good, 11, b"\1"), "HeaderInvalid"),
        "another site-key generation": (changed(good, 15, b"\2"), "HeaderInvalid"),
        "another file id": (changed(good, 16, bytes(16)), "HeaderInvalid"),
        "another commitment": (changed(good, 96, bytes(32)), "HeaderInvalid"),
        "another nonce": (changed(good, 128, bytes(12)), "HeaderInvalid"),
        "a changed last byte": (changed(good, 511, bytes([good[511] ^ 1])), "HeaderInvalid"),
        "resealed: an unknown flag": (resealed(16, b"\x20"), "HeaderInvalid"),
        "resealed: pages without sparse": (resealed(16, b"\x10"), "HeaderInvalid"),
        "resealed: pages and none": (resealed(16, b"\x12"), "HeaderInvalid"),
        "resealed: five bindings": (resealed(17, b"\5"), "HeaderInvalid"),
        "resealed: an uncounted binding": (resealed(17, b"\0"), "HeaderInvalid"),
        "resealed: six pages": (resealed(16, b"\x12\1\6"), "HeaderInvalid"),
        "resealed: filler": (resealed(19, b"\1"), "HeaderInvalid"),
        "resealed: a map of a dense file": (resealed(20, b"\0\1"), "HeaderInvalid"),
        "resealed: a map of 205 bytes": (resealed(16, b"\x02\1\0\0\0\xcd"), "HeaderInvalid"),
        "resealed: a digest without its flag": (resealed(56, b"\1"), "HeaderInvalid"),
        "resealed: something behind the map": (resealed(355, b"\1"), "HeaderInvalid"),
    }
    return [
        {"comment": comment, "file_key": FILE_KEY.hex(), "header": raw.hex(), "error": error}
        for comment, (raw, error) in cases.items()
    ]


def _extent_maps() -> list[Case]:
    lists: list[list[tuple[int, int]]] = [
        [],
        [(0, 1)],
        [(1, 2)],
        [(0, 128)],
        [(5, 6), (300, 1 << 20)],
        [((1 << 51) - 1, 1 << 51)],
        [(number, number + 1) for number in range(0, 20, 2)],
    ]
    cases = []
    for runs in lists:
        extents = ExtentMap()
        for first, end in runs:
            extents.add(first, end)
        chunk_count = runs[-1][1] if runs else 9
        cases.append({"runs": runs, "chunk_count": chunk_count, "packed": extents.pack().hex()})
    return cases


def _invalid_extent_maps() -> list[Case]:
    cases = {
        "ends inside a run": ("00", 9),
        "ends inside a number": ("000180", 9),
        "an empty run": ("0000", 9),
        "two runs that touch": ("01010001", 9),
        "a number in more bytes than it needs": ("00818000", 9),
        "a zero in two bytes": ("800001", 9),
        "beyond the end": ("000a", 9),
        "beyond every file": ("ff" * 30, 1 << 51),
    }
    return [
        {"comment": comment, "packed": packed, "chunk_count": count, "error": "HeaderInvalid"}
        for comment, (packed, count) in cases.items()
    ]


_NAMES = (
    b"a",
    b"report.txt",
    "\N{LATIN SMALL LETTER U WITH DIAERESIS}bersicht.md".encode(),
    b"\xff\xfe not UTF-8",
    b"n" * 143,
    b"n" * 144,
    b"n" * 255,
)


def _name(name: bytes) -> Case:
    record = DirectoryRecord(DIRECTORY_ID, SITE_ID, 1, (BINDING,))
    lease: Any = types.SimpleNamespace(valid=True, metadata_key=METADATA_KEY)
    folder = Folder(-1, Site(lease), record, plaintext_names=False)
    known = folder.backing_name(name)
    values = {"metadata_key": METADATA_KEY, "directory_id": DIRECTORY_ID, "name": name}
    case = hexed(values | {"binding": known.binding}) | {"backing_name": known.text}
    if known.sidecar:
        case["sidecar_name"] = LONG_NAME + known.text.rpartition(".")[2]
        case["sidecar"] = known.sidecar.decode()
    return case


def _invalid_names() -> list[Case]:
    text = NAMES.encrypt_name(DIRECTORY_ID, b"report.txt").text
    other = fixed("other directory", 16)
    cases = {
        "another directory's": (other, text),
        "upper case": (DIRECTORY_ID, text.upper()),
        "padded": (DIRECTORY_ID, text + "="),
        "a changed character": (DIRECTORY_ID, ("1" if text[0] != "1" else "2") + text[1:]),
        "cut": (DIRECTORY_ID, text[:-1]),
        "bits beyond the last byte": (DIRECTORY_ID, text[:-1] + "v"),
        "too short": (DIRECTORY_ID, "co"),
        "foreign": (DIRECTORY_ID, "README.md"),
    }
    return [
        hexed({"metadata_key": METADATA_KEY, "directory_id": directory_id})
        | {"comment": comment, "text": text, "error": "NameInvalid"}
        for comment, (directory_id, text) in cases.items()
    ]


def _directory_records() -> list[Case]:
    cases = []
    for generation, bindings in ((1, (BINDING,)), (2, (BINDING, OTHER_BINDING)), (3, (bytes(16),))):
        record = DirectoryRecord(DIRECTORY_ID, SITE_ID, generation, bindings)
        values = {"metadata_key": METADATA_KEY, "directory_id": DIRECTORY_ID, "site_id": SITE_ID}
        cases.append(
            hexed(values)
            | {"generation": generation, "bindings": [one.hex() for one in bindings]}
            | hexed({"record": record.seal(NAMES.directory_records)})
        )
    return cases


def _invalid_directory_records() -> list[Case]:
    cipher = NAMES.directory_records
    good = DirectoryRecord(DIRECTORY_ID, SITE_ID, 1, (BINDING,)).seal(cipher)
    clear = good[:40]

    def resealed(count: int, filler: bytes, second: bytes) -> bytes:
        plain = (1).to_bytes(8) + bytes([count]) + filler + BINDING + second
        return clear + cipher.encrypt(plain, [clear])

    cases = {
        "cut": (good[:103], "DirectoryRecordInvalid"),
        "extended": (good + b"\0", "DirectoryRecordInvalid"),
        "a file's record type": (good[:4] + b"\1" + good[5:], "DirectoryRecordInvalid"),
        "for a newer reader": (good[:6] + b"\2" + good[7:], "FormatUnsupported"),
        "a flag": (good[:7] + b"\1" + good[8:], "DirectoryRecordInvalid"),
        "another directory id": (good[:8] + bytes(16) + good[24:], "DirectoryRecordInvalid"),
        "a changed last byte": (good[:-1] + bytes([good[-1] ^ 1]), "DirectoryRecordInvalid"),
        "no binding": (resealed(0, bytes(7), bytes(16)), "DirectoryRecordInvalid"),
        "three bindings": (resealed(3, bytes(7), BINDING), "DirectoryRecordInvalid"),
        "an uncounted binding": (resealed(1, bytes(7), BINDING), "DirectoryRecordInvalid"),
        "filler": (resealed(1, b"\1" + bytes(6), bytes(16)), "DirectoryRecordInvalid"),
    }
    return [
        {"comment": comment, "error": error}
        | hexed({"metadata_key": METADATA_KEY, "record": record})
        for comment, (record, error) in cases.items()
    ]


def _symlinks() -> list[Case]:
    return [
        {
            "text": NAMES.encrypt_target(target, bindings),
            "bindings": [binding.hex() for binding in bindings],
        }
        | hexed({"metadata_key": METADATA_KEY, "target": target})
        for target in (b"", b"../shared/plan.md", b"\xff", b"t" * 300)
        for bindings in ((BINDING,), (BINDING, OTHER_BINDING), ())
    ]


def _invalid_symlinks() -> list[Case]:
    text = NAMES.encrypt_target(b"../shared/pl", (BINDING,))
    key = HKDFExpand(hashes.SHA256(), 64, b"ckfs 1 symlinks").derive(METADATA_KEY)

    def sealed(plaintext: bytes, version: bytes = b"\1") -> str:
        raw = version + AESSIV(key).encrypt(plaintext, [version])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    one, target = BINDING + bytes(16), b"../shared/plan"
    good = sealed(b"\1" + one + target)
    assert good == NAMES.encrypt_target(target, (BINDING,))
    cases = {
        "another site's": NameCipher(bytes(32)).encrypt_target(target, (BINDING,)),
        "foreign": "/etc/passwd",
        "padded": text + "=" * (-len(text) % 4 or 4),
        "cut": text[:-1],
        "bits beyond the last byte": good[:-1] + chr(ord(good[-1]) + 1),
        "another version": "Ag" + text[2:],
        "sealed in another version": sealed(b"\1" + one + target, b"\2"),
        "too short": "AQA",
        "sealed: nothing": sealed(b""),
        "sealed: only a count": sealed(b"\0"),
        "sealed: no room for names": sealed(b"\1" + BINDING),
        "sealed: three bindings": sealed(b"\3" + BINDING + OTHER_BINDING + BINDING + target),
        "sealed: an uncounted binding": sealed(b"\0" + one + target),
        "sealed: an uncounted second binding": sealed(b"\1" + BINDING + OTHER_BINDING + target),
    }
    return [
        {
            "comment": comment,
            "metadata_key": METADATA_KEY.hex(),
            "text": text,
            "error": "NameInvalid",
        }
        for comment, text in cases.items()
    ]


def _xattr(name: bytes, value: bytes) -> Case:
    salt = fixed("salt", 16)
    stored = NAMES.encrypt_xattr_value(FILE_ID, name, value, salt=salt)
    values = {"metadata_key": METADATA_KEY, "owner_id": FILE_ID, "name": name, "value": value}
    return hexed(values | {"salt": salt, "stored": stored}) | {
        "attribute": NAMES.encrypt_xattr_name(FILE_ID, name)
    }


_JOURNALS = {
    "first": JournalHead(1, SESSION, fixed("journal", 32)),
    "last": JournalHead((1 << 63) - 1, bytes(16), fixed("another journal", 32)),
}


def _journal_heads() -> list[Case]:
    first, last = _JOURNALS["first"], _JOURNALS["last"]
    packed = first.pack()
    shapes = {
        "the first epoch": (first, packed),
        "the last epoch": (last, last.pack()),
        "a newer writer's": (first, _changed(packed, 4, b"\2")),
        "a newer writer's, with the filler in use": (first, _changed(packed, 4, b"\2\1\3\4")),
    }
    return [
        {"comment": comment, "epoch": head.epoch}
        | hexed({"metadata_key": METADATA_KEY, "session": head.session, "salt": head.salt})
        | hexed({"head": _tagged(head, raw)})
        for comment, (head, raw) in shapes.items()
    ]


def _tagged(head: JournalHead, packed: bytes) -> bytes:
    return packed + JournalCipher(METADATA_KEY, head, packed).tag(bytes(12), packed)


def _changed(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


def _invalid_journal_heads() -> list[Case]:
    cipher = JournalCipher(METADATA_KEY, _JOURNALS["first"])
    good = cipher.sealed_head()
    other = JournalCipher(fixed("other metadata key", 32), _JOURNALS["first"])
    cases = {
        "nothing": b"",
        "zeros": bytes(80),
        "one byte short": good[:79],
        "another magic": _changed(good, 0, b"CKFS"),
        "changed to another version": _changed(good, 4, b"\2"),
        "changed filler": _changed(good, 7, b"\1"),
        "another epoch": _changed(good, 8, (2).to_bytes(8)),
        "another session": _changed(good, 16, bytes(16)),
        "another salt": _changed(good, 32, bytes(32)),
        "a changed last byte": good[:-1] + bytes([good[-1] ^ 1]),
        "another store's": other.sealed_head(),
        "a tag of another nonce": good[:64] + cipher.tag(fixed("nonce", 12), good[:64]),
        "changed to be for a newer reader": _changed(good, 5, b"\2"),
    }
    newer = _changed(_JOURNALS["first"].pack(), 5, b"\2")
    too_new = {"for a newer reader": _tagged(_JOURNALS["first"], newer)}
    return [
        {"comment": comment, "error": error} | hexed({"metadata_key": METADATA_KEY, "head": raw})
        for error, raws in (("JournalInvalid", cases), ("FormatUnsupported", too_new))
        for comment, raw in raws.items()
    ]


def _sealed_header(state: SealedState) -> bytes:
    return _seal(CLEAR, state, f"in a transaction, generation {state.generation}")


def _transaction(
    cipher: JournalCipher, sequence: int, change: Transaction, images: list[tuple[int, bytes]]
) -> bytes:
    lengths = [(offset, len(image)) for offset, image in images]
    frame = bytearray(size_of(lengths))
    draft = Draft(memoryview(frame), lengths)
    for number, (_offset, image) in enumerate(images):
        draft.image(number)[:] = image
    draft.finish(cipher, sequence, change, nonce=fixed(f"transaction {sequence}", 12))
    return bytes(frame)


def _journal_transactions() -> list[Case]:
    states = _states()
    dense, sparse = states["dense, 5000 bytes"], states["sparse, map in the header"]
    shapes: list[tuple[str, int, int, int, SealedState, list[tuple[int, bytes]]]] = [
        ("a header alone", 1, NO_CUT, 512, states["empty"], []),
        ("one chunk", 2, NO_CUT, 5552, dense, [(512, fixed("image", 64))]),
        ("cut to nothing", 3, 512, 512, states["empty"], []),
        ("cut and shortened", 4, 512, 5552, dense, [(512, fixed("shortened", 48))]),
        (
            "two chunks apart",
            (1 << 64) - 1,
            NO_CUT,
            (1 << 40) + 512 + 40 * (1 << 24),
            sparse,
            [(512, fixed("first", 100)), (512 + 5 * 65576, fixed("second", 64))],
        ),
        (
            "a hole of four chunks, and the chunk before it",
            5,
            NO_CUT,
            (1 << 40) + 512 + 40 * (1 << 24),
            sparse,
            [(512 + 65576, (4 * 65576).to_bytes(8)), (512, fixed("before", 64))],
        ),
    ]
    cases = []
    for comment, sequence, cut, length, state, images in shapes:
        cipher = JournalCipher(METADATA_KEY, _JOURNALS["first"])
        change = Transaction(FILE_ID, 4711, cut, length, _sealed_header(state))
        cases.append(
            {
                "comment": comment,
                "number": sequence,
                "inode": change.inode,
                "cut": None if cut == NO_CUT else cut,
                "final_length": length,
                "images": [[offset, image.hex()] for offset, image in images],
            }
            | hexed({"metadata_key": METADATA_KEY, "journal_head": cipher.sealed_head()})
            | hexed({"file_id": FILE_ID, "header": change.header})
            | hexed({"transaction": _transaction(cipher, sequence, change, images)})
        )
    return cases


def _invalid_journal_transactions() -> list[Case]:
    cipher = JournalCipher(METADATA_KEY, _JOURNALS["first"])
    other = JournalCipher(METADATA_KEY, _JOURNALS["last"])
    change = Transaction(
        FILE_ID, 4711, NO_CUT, 5552, _sealed_header(_states()["dense, 5000 bytes"])
    )
    image = (512, fixed("image", 64))
    good = _transaction(cipher, 7, change, [image])

    def retagged(offset: int, value: bytes) -> bytes:
        body = _changed(good[:-16], offset, value)
        return body + cipher.tag(body[64:76], body)

    cases = {
        "nothing": b"",
        "zeros": bytes(len(good)),
        "torn": good[:-1],
        "torn, and zeros": good[:-40] + bytes(40),
        "a byte too many": good + b"\0",
        "another magic": _changed(good, 0, b"CKFJ"),
        "another epoch's": _transaction(other, 7, change, [image]),
        "the one before": _transaction(cipher, 6, change, [image]),
        "the one after": _transaction(cipher, 8, change, [image]),
        "another file id": _changed(good, 24, bytes(16)),
        "another inode": _changed(good, 40, bytes(8)),
        "another nonce": _changed(good, 64, fixed("nonce", 12)),
        "another header": _changed(good, 76, bytes(512)),
        "an image elsewhere": _changed(good, 588, (1024).to_bytes(8)),
        "a changed image": _changed(good, 600, b"\0"),
        "a changed last byte": good[:-1] + bytes([good[-1] ^ 1]),
        "tagged: another number": retagged(16, (8).to_bytes(8)),
        "tagged: another magic": retagged(0, b"CKFJ"),
        "tagged: too many images": retagged(4, b"\xff\xff\xff\xff"),
        "tagged: two images in the room of one": retagged(4, (2).to_bytes(4)),
        "tagged: no image in the room of one": retagged(4, bytes(4)),
        "tagged: an image beyond the end": retagged(596, (65).to_bytes(4)),
        "tagged: an image too short": retagged(596, (63).to_bytes(4)),
        "tagged: an offset beyond every file": retagged(588, b"\xff" * 8),
        "tagged: a length beyond every file": retagged(56, b"\xff" * 8),
        "tagged: a hole beyond every file": _transaction(
            cipher, 7, change, [(512, b"\x7f" + b"\xff" * 7)]
        ),
        "tagged: another length": retagged(8, (len(good) + 1).to_bytes(8)),
    }
    return [
        {"comment": comment, "number": 7, "error": "JournalInvalid"}
        | hexed({"metadata_key": METADATA_KEY, "journal_head": cipher.sealed_head()})
        | hexed({"transaction": raw})
        for comment, raw in cases.items()
    ]


def _delta(cipher: JournalCipher, sequence: int, change: Delta, data: bytes) -> bytes:
    frame = memoryview(bytearray(len(data) + delta.OVERHEAD))
    chunks = ChunkCipher(KEYS.chunk_key, FILE_ID)
    random = fixed(f"delta {sequence}", 36)
    delta.pack(frame, change, memoryview(data), chunks, cipher, sequence, random=random)
    return bytes(frame)


def _journal_deltas() -> list[Case]:
    cipher = JournalCipher(METADATA_KEY, _JOURNALS["first"])
    cases = []
    for comment, sequence, generation, offset, final, data in (
        ("one byte", 2, 8, 0, 5552, b"x"),
        ("an append", 3, 9, 5000, 6552, fixed("appended", 64)),
        ("far in", (1 << 64) - 1, (1 << 63) - 1, 1 << 40, (1 << 63) - 1, fixed("far", 32)),
    ):
        change = Delta(FILE_ID, 4711, generation, offset, final)
        cases.append(
            {
                "comment": comment,
                "number": sequence,
                "inode": change.inode,
                "generation": generation,
                "offset": offset,
                "final_length": final,
            }
            | hexed({"metadata_key": METADATA_KEY, "journal_head": cipher.sealed_head()})
            | hexed({"file_id": FILE_ID, "chunk_key": KEYS.chunk_key, "content": data})
            | hexed({"associated_data": delta.bound_data(change)})
            | hexed({"delta": _delta(cipher, sequence, change, data)})
        )
    return cases


def _invalid_journal_deltas() -> list[Case]:
    cipher = JournalCipher(METADATA_KEY, _JOURNALS["first"])
    other = JournalCipher(METADATA_KEY, _JOURNALS["last"])
    change = Delta(FILE_ID, 4711, 8, 100, 5552)
    good = _delta(cipher, 7, change, b"written")

    def retagged(offset: int, value: bytes) -> bytes:
        body = _changed(good[:-16], offset, value)
        return body + cipher.tag(body[72:84], body)

    nothing = bytearray(good[:108] + good[-32:])
    nothing[8:16] = len(nothing).to_bytes(8)
    cases = {
        "nothing": b"",
        "zeros": bytes(len(good)),
        "torn": good[:-1],
        "a byte too many": good + b"\0",
        "another epoch's": _delta(other, 7, change, b"written"),
        "the one after": _delta(cipher, 8, change, b"written"),
        "another generation": _changed(good, 48, (9).to_bytes(8)),
        "a changed content": _changed(good, 110, bytes([good[110] ^ 1])),
        "a changed last byte": good[:-1] + bytes([good[-1] ^ 1]),
        "tagged: another number": retagged(16, (8).to_bytes(8)),
        "tagged: a transaction's magic": retagged(0, b"CKJT"),
        "tagged: filler": retagged(7, b"\1"),
        "tagged: another length": retagged(8, (len(good) + 1).to_bytes(8)),
        "tagged: an offset beyond every file": retagged(56, b"\x7f" + b"\xff" * 7),
        "tagged: a length beyond every file": retagged(64, b"\xff" * 8),
        "tagged: without content": bytes(nothing[:-16])
        + cipher.tag(bytes(nothing[72:84]), bytes(nothing[:-16])),
    }
    return [
        {"comment": comment, "number": 7, "error": "JournalInvalid"}
        | hexed({"metadata_key": METADATA_KEY, "journal_head": cipher.sealed_head()})
        | hexed({"delta": raw})
        for comment, raw in cases.items()
    ]


def _store_document(names: Any) -> Case:
    document = StoreDocument(
        format=1,
        lowest_reader=1,
        store_id=fixed("store", 16).hex(),
        site_id=SITE_ID.hex(),
        names=names,
        chunk_size=65536,
        created="2026-11-21T00:00:00+00:00",
        mac="",
    )
    mac = document.expected_mac(METADATA_KEY)
    return {
        "metadata_key": METADATA_KEY.hex(),
        "authenticated": msgspec.json.encode(document).decode(),
        "document": msgspec.to_builtins(msgspec.structs.replace(document, mac=mac)),
    }


def hexed(values: dict[str, bytes]) -> Case:
    """Bytes as JSON has them."""
    return {name: value.hex() for name, value in values.items()}


if __name__ == "__main__":
    PLACE.write_text(json.dumps(build(), indent=1) + "\n")
