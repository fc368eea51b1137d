"""The header: pack and parse, seal and unseal, and everything that is refused."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.errors import FormatUnsupported, HeaderInvalid
from fsdriver.format import header
from fsdriver.format.geometry import CHUNK_SIZES
from fsdriver.format.header import ClearHeader, ExtentPage, SealedState

CIPHER = AESGCM(bytes(range(32)))
CLEAR = ClearHeader(65536, 1, b"f" * 16, b"s" * 16, b"w" * 48, b"c" * 32)
NONCE = bytes(range(12))
STATE = SealedState(size=5000, generation=3, chunk_set=7, bindings=(b"b" * 16,))

ids = st.binary(min_size=16, max_size=16)
clear_headers = st.builds(
    ClearHeader,
    st.sampled_from(CHUNK_SIZES),
    st.integers(0, (1 << 32) - 1),
    ids,
    ids,
    st.binary(min_size=48, max_size=48),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 255),
    st.integers(0, 1),
)
pages = st.builds(
    ExtentPage,
    st.integers(0, (1 << 64) - 1),
    st.binary(min_size=24, max_size=24),
    st.integers(0, (1 << 32) - 1),
)
maps = st.one_of(
    st.fixed_dictionaries({}),
    st.fixed_dictionaries({"extents": st.binary(max_size=204)}),
    st.fixed_dictionaries({"extent_pages": st.lists(pages, min_size=1, max_size=5).map(tuple)}),
)
states = st.builds(
    lambda kept, **rest: SealedState(**kept, **rest),
    maps,
    size=st.integers(0, (1 << 64) - 1),
    generation=st.integers(0, (1 << 64) - 1),
    session=ids,
    dirty=st.booleans(),
    unbound=st.booleans(),
    chunk_set=st.integers(0, (1 << 128) - 1),
    bindings=st.lists(ids, max_size=4).map(tuple),
    content_digest=st.none() | st.binary(min_size=32, max_size=32),
)


@given(clear_headers)
def test_the_clear_part_comes_back(clear):
    packed = clear.pack()
    assert len(packed) == 128
    assert ClearHeader.parse(packed) == clear
    assert ClearHeader.parse(packed + bytes(384)) == clear


@given(states)
def test_the_sealed_part_comes_back(state):
    packed = state.pack()
    assert len(packed) == 356
    assert SealedState.parse(packed) == state
    assert SealedState.parse(packed).pack() == packed


@given(clear_headers, states)
def test_a_seal_comes_back(clear, state):
    sealed = header.seal(clear.pack(), state, CIPHER)
    assert len(sealed) == 512
    assert sealed[:128] == clear.pack()
    assert header.unseal(sealed, CIPHER) == state


@given(st.binary(min_size=356, max_size=356))
def test_no_two_sealed_parts_mean_the_same(plaintext):
    try:
        state = SealedState.parse(plaintext)
    except HeaderInvalid:
        return
    assert state.pack() == plaintext


def test_every_field_lies_where_the_specification_says():
    packed = ClearHeader(
        4096, 0x01020304, b"f" * 16, b"s" * 16, b"w" * 48, b"c" * 32, format_version=9
    ).pack()
    assert packed == (
        b"CKFS\x01\x09\x01\x00\x0c\x00\x00\x00\x01\x02\x03\x04"
        + b"f" * 16
        + b"s" * 16
        + b"w" * 48
        + b"c" * 32
    )
    state = SealedState(
        size=0x0102030405060708,
        generation=0x1112131415161718,
        session=b"e" * 16,
        dirty=True,
        unbound=True,
        chunk_set=int.from_bytes(b"d" * 16, "big"),
        bindings=(b"1" * 16, b"2" * 16),
        content_digest=b"p" * 32,
        extents=b"\x01\x02",
    )
    assert state.pack() == (
        bytes.fromhex("010203040506070811121314151617180f02000000020000")
        + b"d" * 16
        + b"e" * 16
        + b"p" * 32
        + b"1" * 16
        + b"2" * 16
        + bytes(32)
        + b"\x01\x02"
        + bytes(202)
    )
    paged = SealedState(extent_pages=(ExtentPage(5, b"n" * 24, 77),))
    assert paged.pack()[16:24] == bytes.fromhex("1200010000000000")
    assert paged.pack()[152:] == (5).to_bytes(8) + b"n" * 24 + (77).to_bytes(4) + bytes(168)


def test_every_flipped_bit_is_refused():
    sealed = header.seal(CLEAR.pack(), STATE, CIPHER)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((HeaderInvalid, FormatUnsupported)):
            parse_and_unseal(bytes(changed))


def parse_and_unseal(raw: bytes) -> SealedState:
    clear = ClearHeader.parse(raw)
    assert clear.pack() == raw[:128]
    return header.unseal(raw, CIPHER)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 511, 513])
def test_a_header_of_another_length(length):
    sealed = (header.seal(CLEAR.pack(), STATE, CIPHER) + b"\0")[:length]
    with pytest.raises(HeaderInvalid, match="cut" if length < 512 else "bytes"):
        parse_and_unseal(sealed)


def test_another_clear_part_or_key_does_not_open_it():
    sealed = header.seal(CLEAR.pack(), STATE, CIPHER)
    other = CLEAR._replace(file_id=b"g" * 16).pack() + sealed[128:]
    with pytest.raises(HeaderInvalid, match="tag"):
        header.unseal(other, CIPHER)
    with pytest.raises(HeaderInvalid, match="tag"):
        header.unseal(sealed, AESGCM(bytes(32)))


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (0, b"ckfs", HeaderInvalid),
        (4, b"\x02", HeaderInvalid),
        (6, b"\x02", FormatUnsupported),
        (6, b"\xff", FormatUnsupported),
        (7, b"\x01", HeaderInvalid),
        (7, b"\x80", HeaderInvalid),
        (8, b"\x0b", HeaderInvalid),
        (8, b"\x15", HeaderInvalid),
        (8, b"\x00", HeaderInvalid),
        (8, b"\xff", HeaderInvalid),
        (9, b"\x01", HeaderInvalid),
        (10, b"\x01", HeaderInvalid),
        (11, b"\x01", HeaderInvalid),
    ],
)
def test_clear_parts_that_no_writer_writes(offset, value, error):
    packed = bytearray(CLEAR.pack())
    packed[offset : offset + len(value)] = value
    with pytest.raises(error):
        ClearHeader.parse(bytes(packed))


def test_a_newer_version_that_admits_this_reader():
    newer = CLEAR._replace(format_version=7)
    assert ClearHeader.parse(newer.pack()) == newer


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (16, b"\x20"),  # a flag that this version does not know
        (16, b"\x80"),
        (16, b"\x10"),  # a map in pages of a file that is not sparse
        (16, b"\x12"),  # a map in pages, and no page
        (17, b"\x05"),  # more bindings than there is room for
        (17, b"\x00"),  # a binding that is not counted
        (18, b"\x01"),  # a page without the flag
        (18, b"\x06"),  # more pages than there is room for
        (19, b"\x01"),  # filler
        (20, b"\x00\x01"),  # the length of a map that a dense file does not have
        (20, b"\x00\xcd"),  # a map that is longer than its room
        (20, b"\xff\xff"),
        (22, b"\x01"),  # filler
        (23, b"\x01"),
        (56, b"\x01"),  # a content digest without the flag
        (104, b"\x01"),  # the room of a second binding
        (151, b"\x01"),
        (152, b"\x01"),  # the room of a map
        (355, b"\x01"),
    ],
)
def test_sealed_parts_that_no_writer_writes(offset, value):
    packed = bytearray(STATE.pack())
    packed[offset : offset + len(value)] = value
    with pytest.raises(HeaderInvalid):
        SealedState.parse(bytes(packed))
    resealed = CLEAR.pack() + NONCE + CIPHER.encrypt(NONCE, bytes(packed), CLEAR.pack())
    with pytest.raises(HeaderInvalid):
        header.unseal(resealed, CIPHER)


@pytest.mark.parametrize(
    "state",
    [
        SealedState(bindings=(bytes(16),) * 5),
        SealedState(extents=bytes(205)),
        SealedState(extent_pages=(ExtentPage(0, bytes(24), 0),) * 6),
    ],
)
def test_a_state_that_the_format_cannot_hold(state):
    with pytest.raises(ValueError, match="more bindings or extents"):
        state.pack()


def test_two_seals_of_one_state_share_nothing():
    """The nonce is drawn for each, so whoever puts a header back learns nothing of the next one."""
    first, second = (header.seal(CLEAR.pack(), STATE, CIPHER) for _ in range(2))
    assert first[:128] == second[:128]
    assert first[128:140] != second[128:140]
    differing = sum(one != other for one, other in zip(first[140:], second[140:], strict=True))
    assert differing > 350
    fixed = [header.seal(CLEAR.pack(), STATE, CIPHER, nonce=NONCE) for _ in range(2)]
    assert fixed[0] == fixed[1]
    assert fixed[0][128:140] == NONCE
