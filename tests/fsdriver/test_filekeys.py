"""The expansion of a file key, by other means."""

import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.format import filekeys

keys = st.binary(min_size=32, max_size=32)
ids = st.binary(min_size=16, max_size=16)


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand of RFC 5869 in the standard library's terms."""
    block, made = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        made += block
    return made[:length]


@given(keys, ids)
def test_by_the_letter_of_the_specification(file_key, file_id):
    made = filekeys.derive(file_key, file_id)
    output = expand(file_key, b"ckfs 1 file keys" + file_id, 96)
    assert output == made.header_key + made.chunk_key + made.commitment
    assert [len(part) for part in made] == [32, 32, 32]


@given(keys, ids, keys, ids)
def test_another_key_or_file_has_other_keys(first_key, first_id, second_key, second_id):
    first, second = (
        filekeys.derive(first_key, first_id),
        filekeys.derive(second_key, second_id),
    )
    same = (first_key, first_id) == (second_key, second_id)
    assert all((one == other) == same for one, other in zip(first, second, strict=True))


def test_keys_are_neither_printed_nor_pickled():
    keys = filekeys.derive(bytes(32), b"f" * 16)
    shown = repr(keys) + str(keys)
    for key in (keys.header_key, keys.chunk_key):
        assert repr(key) not in shown
        assert key.hex() not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(keys)
