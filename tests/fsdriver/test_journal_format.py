"""The bytes of a journal: what was written comes back, and nothing else is taken for it."""

import os

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fsdriver.errors import FormatUnsupported, JournalInvalid
from fsdriver.format.journal import (
    HEAD_SIZE,
    HOLE_SIZE,
    NO_CUT,
    Draft,
    Image,
    JournalCipher,
    JournalHead,
    Transaction,
    is_delta,
    open_head,
    parse,
    size_of,
)

KEY = bytes(range(32))
HEAD = JournalHead(7, b"s" * 16, b"r" * 32)
CIPHER = JournalCipher(KEY, HEAD)
CHANGE = Transaction(b"f" * 16, 4711, 512, 4648, b"h" * 512)
IMAGES = [(512, b"first record"), (4648, b"another")]


def frame_of(change=CHANGE, images=IMAGES, *, cipher=CIPHER, sequence=3) -> bytes:
    lengths = [(offset, len(data)) for offset, data in images]
    draft = Draft(memoryview(bytearray(size_of(lengths))), lengths)
    for number, (_offset, data) in enumerate(images):
        draft.image(number)[:] = data
    draft.finish(cipher, sequence, change)
    return bytes(draft.frame)


def parsed(frame: bytes, *, cipher=CIPHER, sequence=3, position=100):
    change, images = parse(memoryview(frame), position, sequence, cipher)
    return change, [(one.offset, frame[one.position - position :][: one.length]) for one in images]


@given(
    file_id=st.binary(min_size=16, max_size=16),
    numbers=st.tuples(*[st.integers(0, (1 << 62) - 1)] * 2),
    length=st.integers(0, 1 << 40),
    header=st.binary(min_size=512, max_size=512),
    images=st.lists(
        st.tuples(
            st.integers(0, 1 << 40),
            st.binary(max_size=50).filter(lambda data: len(data) != HOLE_SIZE),
        ),
        max_size=5,
    ),
    sequence=st.integers(1, 1 << 60),
)
@settings(max_examples=60, deadline=None)
def test_a_transaction_comes_back(file_id, numbers, length, header, images, sequence):
    change = Transaction(file_id, *numbers, length, header)
    frame = frame_of(change, images, sequence=sequence)
    assert parsed(frame, sequence=sequence) == (change, images)


def test_an_image_of_eight_bytes_is_a_hole():
    images = [(4648, (1 << 40).to_bytes(8)), (512, b"first record")]
    frame = frame_of(images=images)
    _change, found = parse(memoryview(frame), 0, 3, CIPHER)
    assert [(one.offset, one.hole) for one in found] == [(4648, 1 << 40), (512, 0)]
    beyond = frame_of(images=[(4648, (1 << 63).to_bytes(8))])
    with pytest.raises(JournalInvalid, match="hole"):
        parse(memoryview(beyond), 0, 3, CIPHER)


def test_a_part_of_a_transaction_has_no_header_no_length_and_cuts_nothing():
    part = CHANGE._replace(cut=NO_CUT, length=0, header=bytes(512), is_part=True)
    assert parsed(frame_of(part)) == (part, IMAGES)
    for wrong in ({"cut": 512}, {"length": 1}, {"header": CHANGE.header}):
        with pytest.raises(JournalInvalid, match="only a whole one"):
            parsed(frame_of(part._replace(**wrong)))


def test_what_says_that_it_is_a_delta_is_no_transaction():
    """Even with a tag where a transaction has it."""
    frame = bytearray(frame_of())
    assert not is_delta(memoryview(frame))
    frame[:4] = b"CKJD"
    frame[-16:] = CIPHER.tag(bytes(frame[64:76]), bytes(frame[:-16]))
    assert is_delta(memoryview(frame))
    with pytest.raises(JournalInvalid, match="delta"):
        parsed(bytes(frame))


def test_neighbouring_images_lie_one_behind_the_other():
    lengths = [(512, 5), (517, 7), (524, 2)]
    draft = Draft(memoryview(bytearray(size_of(lengths))), lengths)
    draft.run(0, 3)[:] = b"0123456789abcd"
    assert [bytes(draft.image(number)) for number in range(3)] == [b"01234", b"56789ab", b"cd"]
    assert draft.placed(1000)[1] == Image(517, draft.placed(1000)[0].position + 5, 7)


def test_every_bit_of_a_transaction_counts():
    frame = frame_of()
    for at in range(len(frame) * 8):
        changed = bytearray(frame)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(JournalInvalid):
            parsed(bytes(changed))


def test_a_transaction_torn_anywhere_is_none():
    frame = frame_of()
    for length in range(len(frame)):
        for torn in (frame[:length], frame[:length].ljust(len(frame), b"\0")):
            if torn == frame:  # which ends in zeros, one time in 256
                continue
            with pytest.raises(JournalInvalid):
                parsed(torn)
    with pytest.raises(JournalInvalid):
        parsed(frame + b"\0")


@pytest.mark.parametrize(
    "cipher",
    [
        JournalCipher(bytes(32), HEAD),
        JournalCipher(KEY, HEAD._replace(epoch=8)),
        JournalCipher(KEY, HEAD._replace(session=b"t" * 16)),
        JournalCipher(KEY, HEAD._replace(salt=b"q" * 32)),
    ],
    ids=["key", "epoch", "session", "salt"],
)
def test_a_transaction_of_another_journal_is_none_here(cipher):
    assert parsed(frame_of(cipher=cipher), cipher=cipher) == (CHANGE, IMAGES)
    with pytest.raises(JournalInvalid):
        parsed(frame_of(cipher=cipher))


def test_a_transaction_out_of_its_turn_is_none():
    for sequence in (2, 4):
        with pytest.raises(JournalInvalid):
            parsed(frame_of(), sequence=sequence)


def test_no_two_frames_share_a_nonce():
    """A write that failed is made again under its number, with other bytes."""
    nonces = {frame_of()[64:76] for _ in range(50)}
    assert len(nonces) == 50


def test_a_head_comes_back_and_every_bit_of_it_counts():
    sealed = CIPHER.sealed_head()
    assert len(sealed) == HEAD_SIZE
    assert open_head(sealed + b"behind it", KEY).head == HEAD
    for at in range(HEAD_SIZE * 8):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises((JournalInvalid, FormatUnsupported)):
            open_head(bytes(changed), KEY)


def test_a_head_that_is_cut_or_another_stores_is_none():
    sealed = CIPHER.sealed_head()
    for length in range(HEAD_SIZE):
        with pytest.raises(JournalInvalid):
            open_head(sealed[:length], KEY)
    with pytest.raises(JournalInvalid):
        open_head(sealed, os.urandom(32))
