"""The format's vectors: what the code makes, and what the independent reader says of each."""

import json
import pathlib

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver import errors
from fsdriver.format import delta, directory, filekeys, header, journal
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.extents import ExtentMap
from fsdriver.format.header import ClearHeader
from fsdriver.format.names import NameCipher
from fsdriver.format.xaes import Xaes256Gcm
from tests.vectors import generate_format, reader

VECTORS = json.loads(
    (pathlib.Path(__file__).parents[1] / "vectors" / "format.json").read_text() or "{}"
)


def cases(kind: str):
    """Parameters of one kind; a kind without cases is an error, not a test less."""
    assert VECTORS[kind], f"no vectors of {kind}"
    names = [case.get("comment", str(number)) for number, case in enumerate(VECTORS[kind])]
    return pytest.mark.parametrize("case", VECTORS[kind], ids=names)


def unhex(case: dict, *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def site(case: dict) -> reader.Site:
    return reader.Site(b"", b"", {}, bytes.fromhex(case["metadata_key"]))


def test_the_vectors_are_what_the_code_makes():
    assert json.loads(json.dumps(generate_format.build())) == VECTORS
    assert all(VECTORS.values())
    assert sum(len(kind) for kind in VECTORS.values()) >= 150


@cases("file_keys")
def test_file_keys(case):
    file_key, file_id = unhex(case, "file_key", "file_id")
    made = reader.file_keys(file_key, file_id)
    assert list(made) == unhex(case, *made._fields)


@cases("xaes")
def test_xaes(case):
    names = ("key", "nonce", "plaintext", "associated_data", "sealed")
    key, nonce, plaintext, associated, sealed = unhex(case, *names)
    cipher, short_nonce = reader.xaes(key, nonce)
    assert cipher.encrypt(short_nonce, plaintext, associated) == sealed
    with pytest.raises(InvalidTag):
        Xaes256Gcm(key).decrypt(nonce, sealed, associated + b"\0")


@cases("chunk_records")
def test_chunk_records(case):
    names = ("chunk_key", "file_id", "kind", "plaintext", "record")
    chunk_key, file_id, kind, plaintext, record = unhex(case, *names)
    at = case["chunk_index"]
    assert reader.open_record(chunk_key, file_id, at, record, kind) == plaintext
    with pytest.raises(reader.Refused, match="ChunkInvalid"):
        reader.open_record(chunk_key, file_id, at + 1, record, kind)


@cases("chunk_sets")
def test_chunk_sets(case):
    chunk_key, digest = unhex(case, "chunk_key", "digest")
    found = 0
    for number, nonce in enumerate(case["nonces"]):
        found ^= reader.chunk_digest(chunk_key, case["first_chunk"] + number, bytes.fromhex(nonce))
    assert found.to_bytes(16, "big") == digest


@cases("headers")
def test_headers(case):
    file_key, raw = unhex(case, "file_key", "header")
    clear, sealed, _keys = reader.open_header(raw, file_key)
    expected = case["clear"]
    assert clear.chunk_size == expected["chunk_size"]
    assert clear.generation == expected["site_key_generation"]
    assert [clear.file_id, clear.site_id, clear.wrapped_file_key, clear.commitment] == unhex(
        expected, "file_id", "site_id", "wrapped_file_key", "key_commitment"
    )
    found = sealed._asdict() | {
        "chunk_set": sealed.chunk_set.to_bytes(16, "big").hex(),
        "session": sealed.session.hex(),
        "bindings": [binding.hex() for binding in sealed.bindings],
        "content_digest": sealed.content_digest and sealed.content_digest.hex(),
        "extents": None if sealed.extents is None else sealed.extents.hex(),
        "pages": [[page.chunk_index, page.nonce.hex(), page.length] for page in sealed.pages],
    }
    assert found == case["sealed"]


def open_header(raw: bytes, file_key: bytes) -> header.SealedState:
    clear = ClearHeader.parse(raw)
    keys = filekeys.derive(file_key, clear.file_id)
    return header.unseal(raw, AESGCM(keys.header_key))


@cases("invalid_headers")
def test_invalid_headers(case):
    file_key, raw = unhex(case, "file_key", "header")
    with pytest.raises(getattr(errors, case["error"])):
        open_header(raw, file_key)
    with pytest.raises(reader.Refused, match=case["error"]):
        reader.open_header(raw, file_key)


@cases("extent_maps")
def test_extent_maps(case):
    packed = bytes.fromhex(case["packed"])
    runs = [tuple(run) for run in case["runs"]]
    assert reader.parse_extents(packed, case["chunk_count"]) == runs
    assert list(ExtentMap.parse(packed, case["chunk_count"]).runs()) == runs


@cases("invalid_extent_maps")
def test_invalid_extent_maps(case):
    packed = bytes.fromhex(case["packed"])
    with pytest.raises(getattr(errors, case["error"])):
        ExtentMap.parse(packed, case["chunk_count"])
    with pytest.raises(reader.Refused, match=case["error"]):
        reader.parse_extents(packed, case["chunk_count"])


@cases("names")
def test_names(case):
    directory_id, name, binding = unhex(case, "directory_id", "name", "binding")
    text = case.get("sidecar", case["backing_name"])
    assert site(case).open_name(directory_id, text) == (name, binding)
    assert site(case).binding(directory_id, name) == binding
    assert ("sidecar" in case) == (len(name) > 143)
    if "sidecar" in case:
        digest = reader.base32hex(reader.hashlib.sha256(text.encode()).digest())
        assert case["backing_name"] == ".ckfs-long." + digest
        assert case["sidecar_name"] == ".ckfs-name." + digest


@cases("invalid_names")
def test_invalid_names(case):
    metadata_key, directory_id = unhex(case, "metadata_key", "directory_id")
    with pytest.raises(getattr(errors, case["error"])):
        NameCipher(metadata_key).decrypt_name(directory_id, case["text"])
    with pytest.raises(reader.Refused, match=case["error"]):
        site(case).open_name(directory_id, case["text"])


@cases("directory_records")
def test_directory_records(case):
    directory_id, site_id, record = unhex(case, "directory_id", "site_id", "record")
    bindings = [bytes.fromhex(binding) for binding in case["bindings"]]
    assert reader.site_of(record) == site_id
    assert site(case).open_directory(record) == (directory_id, bindings)


@cases("invalid_directory_records")
def test_invalid_directory_records(case):
    metadata_key, record = unhex(case, "metadata_key", "record")
    with pytest.raises(getattr(errors, case["error"])):
        directory.unseal(record, NameCipher(metadata_key).directory_records)
    with pytest.raises(reader.Refused, match=case["error"]):
        site(case).open_directory(record)


@cases("symlinks")
def test_symlinks(case):
    (target,) = unhex(case, "target")
    bindings = [bytes.fromhex(binding) for binding in case["bindings"]]
    assert site(case).open_target(case["text"]) == (target, bindings)


@cases("invalid_symlinks")
def test_invalid_symlinks(case):
    (metadata_key,) = unhex(case, "metadata_key")
    with pytest.raises(getattr(errors, case["error"])):
        NameCipher(metadata_key).decrypt_target(case["text"])
    with pytest.raises(reader.Refused, match=case["error"]):
        site(case).open_target(case["text"])


@cases("xattrs")
def test_xattrs(case):
    owner_id, name, value, stored = unhex(case, "owner_id", "name", "value", "stored")
    assert site(case).open_xattr(owner_id, case["attribute"], stored) == (name, value)
    with pytest.raises(reader.Refused, match="NameInvalid"):
        site(case).open_xattr(bytes(16), case["attribute"], stored)


@cases("journal_heads")
def test_journal_heads(case):
    metadata_key, session, salt, raw = unhex(case, "metadata_key", "session", "salt", "head")
    head = reader.open_journal_head(raw, metadata_key)
    assert head[:3] == (case["epoch"], session, salt)
    assert journal.open_head(raw + b"more", metadata_key).head == head[:3]


@cases("invalid_journal_heads")
def test_invalid_journal_heads(case):
    metadata_key, raw = unhex(case, "metadata_key", "head")
    with pytest.raises(getattr(errors, case["error"])):
        journal.open_head(raw, metadata_key)
    with pytest.raises(reader.Refused, match=case["error"]):
        reader.open_journal_head(raw, metadata_key)


@cases("journal_transactions")
def test_journal_transactions(case):
    metadata_key, head, raw = unhex(case, "metadata_key", "journal_head", "transaction")
    found = reader.open_transaction(
        raw, case["number"], reader.open_journal_head(head, metadata_key)
    )
    assert found._asdict() == {
        "file_id": bytes.fromhex(case["file_id"]),
        "inode": case["inode"],
        "cut": case["cut"],
        "final_length": case["final_length"],
        "header": bytes.fromhex(case["header"]),
        "images": [(offset, bytes.fromhex(image)) for offset, image in case["images"]],
    }
    cipher = journal.open_head(head, metadata_key)
    change, images = journal.parse(memoryview(raw), 80, case["number"], cipher)
    cut = journal.NO_CUT if case["cut"] is None else case["cut"]
    assert change[:5] == (found.file_id, found.inode, cut, found.final_length, found.header)
    assert [
        (image.offset, raw[image.position - 80 :][: image.length]) for image in images
    ] == found.images


@cases("invalid_journal_transactions")
def test_invalid_journal_transactions(case):
    metadata_key, head, raw = unhex(case, "metadata_key", "journal_head", "transaction")
    with pytest.raises(getattr(errors, case["error"])):
        journal.parse(memoryview(raw), 80, case["number"], journal.open_head(head, metadata_key))
    with pytest.raises(reader.Refused, match=case["error"]):
        reader.open_transaction(raw, case["number"], reader.open_journal_head(head, metadata_key))


@cases("journal_deltas")
def test_journal_deltas(case):
    metadata_key, head, raw = unhex(case, "metadata_key", "journal_head", "delta")
    file_id, chunk_key, content = unhex(case, "file_id", "chunk_key", "content")
    found = reader.open_delta(raw, case["number"], reader.open_journal_head(head, metadata_key))
    fields = (file_id, case["inode"], case["generation"], case["offset"], case["final_length"])
    assert found[:5] == fields
    gcm, nonce = reader.xaes(chunk_key, found.record[:24])
    bound = bytes.fromhex(case["associated_data"])
    assert gcm.decrypt(nonce, found.record[24:], bound) == content
    cipher = journal.open_head(head, metadata_key)
    change, (position, length) = delta.parse(memoryview(raw), 80, case["number"], cipher)
    assert change == fields
    assert delta.bound_data(change) == bound
    assert raw[position - 80 :][: length + 40] == found.record
    plaintext = memoryview(bytearray(length))
    chunks = ChunkCipher(chunk_key, file_id)
    assert chunks.decrypt_message(memoryview(found.record), bound, plaintext)
    assert bytes(plaintext) == content
    assert not chunks.decrypt_message(memoryview(found.record), bound[:-1] + b"x", plaintext)


@cases("invalid_journal_deltas")
def test_invalid_journal_deltas(case):
    metadata_key, head, raw = unhex(case, "metadata_key", "journal_head", "delta")
    with pytest.raises(getattr(errors, case["error"])):
        delta.parse(memoryview(raw), 80, case["number"], journal.open_head(head, metadata_key))
    with pytest.raises(reader.Refused, match=case["error"]):
        reader.open_delta(raw, case["number"], reader.open_journal_head(head, metadata_key))


@cases("store_documents")
def test_store_documents(case):
    document, metadata_key = case["document"], bytes.fromhex(case["metadata_key"])
    assert reader.store_mac(document, metadata_key) == document["mac"]
    assert json.loads(case["authenticated"]) == document | {"mac": ""}
    for name in ("format", "lowest_reader", "chunk_size", "names", "site_id", "created"):
        assert reader.store_mac(document | {name: 2}, metadata_key) != document["mac"]
