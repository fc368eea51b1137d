"""A folder's record: what comes back, and that nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.errors import DirectoryRecordInvalid, FormatUnsupported
from fsdriver.format import directory
from fsdriver.format.directory import DirectoryRecord
from fsdriver.format.names import NameCipher
from tests.fsdriver.test_filekeys import expand
from tests.fsdriver.test_names import siv

CIPHER = NameCipher(bytes(range(32))).directory_records
RECORD = DirectoryRecord(b"d" * 16, b"s" * 16, 1, (b"b" * 16,))

ids = st.binary(min_size=16, max_size=16)
records = st.builds(
    DirectoryRecord,
    ids,
    ids,
    st.integers(0, (1 << 64) - 1),
    st.lists(ids, min_size=1, max_size=2).map(tuple),
)


@given(records)
def test_a_record_comes_back(record):
    sealed = record.seal(CIPHER)
    assert len(sealed) == directory.RECORD_SIZE == 104
    assert directory.site_of(sealed) == record.site_id
    assert directory.unseal(sealed, CIPHER) == record


def test_every_field_lies_where_the_specification_says():
    record = DirectoryRecord(b"d" * 16, b"s" * 16, 0x0102030405060708, (b"1" * 16, b"2" * 16))
    clear = b"CKFS\x02\x01\x01\x00" + b"d" * 16 + b"s" * 16
    plaintext = bytes.fromhex("01020304050607080200000000000000") + b"1" * 16 + b"2" * 16
    assert record.seal(CIPHER) == clear + siv("directory records").encrypt(plaintext, [clear])


def test_every_flipped_bit_is_refused():
    sealed = RECORD.seal(CIPHER)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DirectoryRecordInvalid, FormatUnsupported)):
            directory.unseal(bytes(changed), CIPHER)


@pytest.mark.parametrize("length", [0, 7, 39, 40, 55, 103, 105])
def test_a_record_of_another_length(length):
    with pytest.raises(DirectoryRecordInvalid, match="bytes"):
        directory.unseal((RECORD.seal(CIPHER) + b"\0")[:length], CIPHER)


def test_another_sites_key_does_not_open_it():
    other = NameCipher(bytes(32)).directory_records
    with pytest.raises(DirectoryRecordInvalid, match="another site"):
        directory.unseal(RECORD.seal(CIPHER), other)


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (0, b"X", DirectoryRecordInvalid),
        (4, b"\x01", DirectoryRecordInvalid),
        (6, b"\x02", FormatUnsupported),
        (7, b"\x01", DirectoryRecordInvalid),
    ],
)
def test_clear_parts_that_no_writer_writes(offset, value, error):
    sealed = bytearray(RECORD.seal(CIPHER))
    sealed[offset : offset + 1] = value
    with pytest.raises(error):
        directory.site_of(bytes(sealed))


@pytest.mark.parametrize(
    "plaintext",
    [
        (1).to_bytes(8) + b"\x00" + bytes(7 + 32),
        (1).to_bytes(8) + b"\x00" + bytes(7) + b"1" * 16 + bytes(16),
        (1).to_bytes(8) + b"\x01" + bytes(7) + b"1" * 16 + b"2" * 16,
        (1).to_bytes(8) + b"\x03" + bytes(7) + b"1" * 16 + b"2" * 16,
        (1).to_bytes(8) + b"\x01\x01" + bytes(6) + b"1" * 16 + bytes(16),
    ],
    ids=["no binding", "an uncounted one", "an uncounted second", "three", "filler"],
)
def test_sealed_parts_that_no_writer_writes(plaintext):
    clear = RECORD.seal(CIPHER)[:40]
    with pytest.raises(DirectoryRecordInvalid, match="form"):
        directory.unseal(clear + CIPHER.encrypt(plaintext, [clear]), CIPHER)


def test_a_newer_version_that_admits_this_reader():
    clear = b"CKFS\x02\x09\x01\x00" + b"d" * 16 + b"s" * 16
    plaintext = (1).to_bytes(8) + b"\x01" + bytes(7) + b"b" * 16 + bytes(16)
    newer = clear + CIPHER.encrypt(plaintext, [clear])
    assert directory.unseal(newer, CIPHER) == RECORD


@pytest.mark.parametrize("count", [0, 3])
def test_a_record_that_the_format_cannot_hold(count):
    with pytest.raises(ValueError, match="one binding"):
        RECORD._replace(bindings=(bytes(16),) * count).seal(CIPHER)


def test_the_key_of_records_is_no_other_key():
    labels = (b"names", b"symlinks", b"xattrs", b"directory records")
    keys = {expand(bytes(32), b"ckfs 1 " + label, 64) for label in labels}
    assert len(keys) == 4
