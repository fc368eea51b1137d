"""Chunk records and the digest of their set."""

import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.errors import ChunkInvalid
from fsdriver.format.chunk import KIND_CHUNK, KIND_EXTENT_MAP, ChunkCipher, ChunkSet
from fsdriver.format.xaes import Xaes256Gcm

KEY, FILE_ID = bytes(range(32)), bytes(range(16))
SIZE = 4096
STRIDE = SIZE + 40


def encrypt(first, plaintexts, kind=KIND_CHUNK, cipher=None):
    records = bytearray(sum(len(one) + 40 for one in plaintexts))
    cipher = cipher or ChunkCipher(KEY, FILE_ID)
    views = [memoryview(one) for one in plaintexts]
    nonces = cipher.encrypt_run(first, views, memoryview(records), kind=kind)
    return records, nonces


def decrypt(first, records, kind=KIND_CHUNK, cipher=None, stride=STRIDE):
    plaintext = bytearray(len(records))
    cipher = cipher or ChunkCipher(KEY, FILE_ID)
    nonces = cipher.decrypt_run(
        first, memoryview(records), stride, memoryview(plaintext), kind=kind
    )
    chunks = -(-len(records) // stride)
    return bytes(plaintext[: len(records) - 40 * chunks]), nonces


@given(st.integers(0, 1 << 50), st.integers(0, 5), st.integers(1, SIZE), st.data())
def test_a_run_comes_back(first, whole, last, data):
    pattern = data.draw(st.binary(min_size=1, max_size=64))
    plaintexts = [(pattern * SIZE)[:SIZE]] * whole + [(pattern * SIZE)[:last]]
    records, nonces = encrypt(first, plaintexts)
    assert decrypt(first, records) == (b"".join(plaintexts), nonces)
    assert len(nonces) == 24 * (whole + 1)
    assert [records[at : at + 24] for at in range(0, len(records), STRIDE)] == [
        nonces[at : at + 24] for at in range(0, len(nonces), 24)
    ]


def test_a_record_is_nonce_and_xaes_over_file_index_kind_and_version():
    nonces = bytes(range(100, 148))
    records = bytearray(2 * STRIDE)
    plaintexts = [bytes(SIZE), b"\x07" * SIZE]
    ChunkCipher(KEY, FILE_ID).encrypt_run(
        9, [memoryview(one) for one in plaintexts], memoryview(records), nonces=nonces
    )
    for number, plaintext in enumerate(plaintexts):
        record = bytes(records[number * STRIDE : (number + 1) * STRIDE])
        nonce = nonces[24 * number : 24 * number + 24]
        associated = FILE_ID + (9 + number).to_bytes(8, "big") + b"\x01\x01"
        assert record == nonce + Xaes256Gcm(KEY).encrypt(nonce, plaintext, associated)


def test_two_writes_of_one_chunk_have_nothing_equal():
    first, second = (bytes(encrypt(0, [bytes(SIZE)])[0]) for _ in range(2))
    assert first[:24] != second[:24]
    pieces = {first[at : at + 16] for at in range(len(first) - 16)}
    assert not any(second[at : at + 16] in pieces for at in range(len(second) - 16))


def test_every_flipped_bit_of_a_record_is_refused():
    records, _nonces = encrypt(3, [b"plain text"])
    for bit in range(8 * len(records)):
        changed = bytearray(records)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChunkInvalid, match="chunk 3") as caught:
            decrypt(3, changed)
        assert caught.value.chunk_index == 3


def test_the_first_bad_chunk_is_named():
    records, _nonces = encrypt(10, [bytes(SIZE)] * 3)
    records[STRIDE + 100] ^= 1
    with pytest.raises(ChunkInvalid, match="chunk 11"):
        decrypt(10, records)


@pytest.mark.parametrize(
    "attack",
    [
        {"first": 1},
        {"kind": KIND_EXTENT_MAP},
        {"cipher": ChunkCipher(KEY, bytes(16))},
        {"cipher": ChunkCipher(bytes(32), FILE_ID)},
    ],
    ids=["another place", "another kind", "another file", "another key"],
)
def test_a_record_is_bound_to_its_place(attack):
    records, _nonces = encrypt(0, [bytes(SIZE)])
    with pytest.raises(ChunkInvalid):
        decrypt(**({"first": 0, "records": records} | attack))


def test_a_record_that_was_cut_is_refused():
    records, _nonces = encrypt(0, [bytes(SIZE)])
    for length in (41, 100, STRIDE - 1):
        with pytest.raises(ChunkInvalid):
            decrypt(0, records[:length])


def test_swapped_chunks_are_refused():
    records, _nonces = encrypt(0, [b"a" * SIZE, b"b" * SIZE])
    with pytest.raises(ChunkInvalid, match="chunk 0"):
        decrypt(0, records[STRIDE:] + records[:STRIDE])


def prf(key: bytes, chunk_index: int, nonce: bytes) -> int:
    """By the library's CMAC."""
    mac = CMAC(algorithms.AES256(key))
    mac.update(chunk_index.to_bytes(8, "big") + nonce)
    return int.from_bytes(mac.finalize(), "big")


@given(st.integers(0, 1 << 50), st.lists(st.binary(min_size=24, max_size=24), max_size=40))
def test_the_digest_is_the_xor_of_a_cmac(first, nonces):
    expected = 0
    for number, nonce in enumerate(nonces):
        expected ^= prf(KEY, first + number, nonce)
    assert ChunkSet(Xaes256Gcm(KEY)).digest(first, b"".join(nonces)) == expected


@given(st.lists(st.binary(min_size=24, max_size=24), min_size=1, max_size=20), st.data())
def test_the_digest_does_not_depend_on_the_way_a_set_was_made(nonces, data):
    chunk_set = ChunkSet(Xaes256Gcm(KEY))
    order = data.draw(st.permutations(range(len(nonces))))
    one_by_one = 0
    for index in order:
        one_by_one ^= chunk_set.digest(index, nonces[index])
    assert one_by_one == chunk_set.digest(0, b"".join(nonces))
    replaced = data.draw(st.sampled_from(range(len(nonces))))
    fresh = data.draw(st.binary(min_size=24, max_size=24))
    updated = one_by_one ^ chunk_set.digest(replaced, nonces[replaced])
    updated ^= chunk_set.digest(replaced, fresh)
    nonces[replaced] = fresh
    assert updated == chunk_set.digest(0, b"".join(nonces))


@given(st.binary(min_size=24, max_size=24), st.binary(min_size=24, max_size=24))
def test_a_set_with_an_older_chunk_has_another_digest(old, new):
    chunk_set = ChunkSet(Xaes256Gcm(KEY))
    assert (chunk_set.digest(0, old) == chunk_set.digest(0, new)) == (old == new)
    assert chunk_set.digest(0, old) != chunk_set.digest(1, old)
    assert chunk_set.digest(0, b"") == 0
