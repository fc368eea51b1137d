"""base32hex in lower case: what it encodes it decodes, and nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.format import base32hex

ALPHABET = "0123456789abcdefghijklmnopqrstuv"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"f", "co"),
        (b"fo", "cpng"),
        (b"foo", "cpnmu"),
        (b"foob", "cpnmuog"),
        (b"fooba", "cpnmuoj1"),
        (b"foobar", "cpnmuoj1e8"),
    ],
)
def test_the_vectors_of_rfc_4648(data, text):
    assert base32hex.encode(data) == text
    assert base32hex.decode(text) == data


@given(st.binary(min_size=1, max_size=300))
def test_decoding_is_the_inverse(data):
    text = base32hex.encode(data)
    assert len(text) == -(-8 * len(data) // 5)
    assert base32hex.decode(text) == data


@given(st.text(ALPHABET, max_size=40))
def test_one_text_for_one_value(text):
    try:
        data = base32hex.decode(text)
    except ValueError:
        padded = text.upper() + "=" * (-len(text) % 8)
        try:
            lenient = base64.b32hexdecode(padded)
        except ValueError:
            return
        assert base32hex.encode(lenient) != text or not text
    else:
        assert base32hex.encode(data) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c",
        "co=",
        "CO",
        "cw",
        "c o",
        "c_o0",
        "+co0",
        "-co0",
        "co\n",
        "cp",
        "cpn",
        "cpnmu0",
        "cpnmv1",
        "c\N{LATIN SMALL LETTER O WITH DIAERESIS}",
        "c\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_texts_that_no_writer_writes(text):
    with pytest.raises(ValueError, match=r".+"):
        base32hex.decode(text)


@given(st.binary(max_size=700))
def test_the_librarys_encoder_gives_the_same(data):
    assert base32hex.encode(data) == base64.b32hexencode(data).rstrip(b"=").lower().decode()
