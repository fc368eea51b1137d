"""Names, symlink targets and extended attributes: what comes back, and what is refused."""

import base64

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.errors import NameInvalid
from fsdriver.format import base32hex
from fsdriver.format.names import NAME_MAX, NameCipher
from tests.fsdriver.test_filekeys import expand
from tests.fsdriver.wycheproof import groups

KEY = bytes(range(32))
CIPHER = NameCipher(KEY)
HERE, THERE = b"h" * 16, b"t" * 16

names = st.binary(min_size=1, max_size=255)


def siv(label: str) -> AESSIV:
    return AESSIV(expand(KEY, b"ckfs 1 " + label.encode(), 64))


def flips(data: bytes):
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


@given(names)
def test_a_name_comes_back(name):
    encrypted = CIPHER.encrypt_name(HERE, name)
    assert CIPHER.decrypt_name(HERE, encrypted.text) == (name, encrypted.binding)
    sealed = siv("names").encrypt(name, [HERE])
    assert encrypted == (base32hex.encode(sealed), sealed[:16])


@given(names)
def test_a_name_belongs_to_its_folder(name):
    encrypted = CIPHER.encrypt_name(HERE, name)
    assert encrypted.text != CIPHER.encrypt_name(THERE, name).text
    with pytest.raises(NameInvalid, match="not written by this folder"):
        CIPHER.decrypt_name(THERE, encrypted.text)
    with pytest.raises(NameInvalid):
        NameCipher(bytes(32)).decrypt_name(HERE, encrypted.text)


def test_the_longest_name_that_needs_no_sidecar():
    assert len(CIPHER.encrypt_name(HERE, b"n" * 143).text) == NAME_MAX
    assert len(CIPHER.encrypt_name(HERE, b"n" * 144).text) == 256
    assert len(CIPHER.encrypt_name(HERE, b"n" * 255).text) == 434


def test_every_changed_character_of_a_name_is_refused():
    text = CIPHER.encrypt_name(HERE, b"report.txt").text
    for at in range(len(text)):
        for character in "0v.A":
            if text[at] != character:
                with pytest.raises(NameInvalid):
                    CIPHER.decrypt_name(HERE, text[:at] + character + text[at + 1 :])
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_name(HERE, text[:at])


@pytest.mark.parametrize("text", ["", "README.md", ".ckfs-dir", "co", "\udcff", "ä" * 30])
def test_a_foreign_name(text):
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_name(HERE, text)


@given(st.binary(max_size=3053), st.booleans())
def test_a_target_comes_back(target, bound):
    binding = b"b" * 16
    text = CIPHER.encrypt_target(target, binding if bound else None)
    assert CIPHER.decrypt_target(text, binding) == (target, bound)
    flag = b"\0" if bound else b"\1"
    associated = b"\x01" + flag + (binding if bound else bytes(16))
    raw = b"\x01" + flag + siv("symlinks").encrypt(target, [associated])
    assert text == base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert len(text) == -(-4 * (18 + len(target)) // 3)


def test_the_longest_target():
    assert len(CIPHER.encrypt_target(bytes(3053), None)) == 4095
    assert len(CIPHER.encrypt_target(bytes(3054), None)) == 4096


def test_a_bound_target_belongs_to_its_name():
    text = CIPHER.encrypt_target(b"/etc/passwd", b"b" * 16)
    with pytest.raises(NameInvalid, match="not written under this name"):
        CIPHER.decrypt_target(text, b"c" * 16)
    unbound = CIPHER.encrypt_target(b"/etc/passwd", None)
    assert CIPHER.decrypt_target(unbound, b"c" * 16) == (b"/etc/passwd", False)


@pytest.mark.parametrize("binding", [b"b" * 16, None])
def test_every_changed_bit_of_a_symlink_is_refused(binding):
    text = CIPHER.encrypt_target(b"target", binding)
    for changed in flips(text.encode()):
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_target(changed.decode("latin-1"), b"b" * 16)


def test_no_second_text_for_one_symlink():
    text = CIPHER.encrypt_target(b"tar", b"b" * 16)  # 21 bytes: a whole number of base64 groups
    odd = CIPHER.encrypt_target(b"targ", b"b" * 16)  # 22 bytes: four bits are left over
    following = chr(ord(odd[-1]) + 1)
    for other in (text + "=", text + "\n", " " + text, text + "====", odd[:-1] + following):
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_target(other, b"b" * 16)


@pytest.mark.parametrize(
    "raw", [b"", b"\x01", b"\x02\x00", b"\x01\x02", b"\x00\x00", b"\x01\x00" + bytes(15)]
)
def test_a_symlink_that_no_writer_writes(raw):
    text = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_target(text, b"b" * 16)
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_target("/usr/bin/\N{SNOWMAN}", b"b" * 16)


@given(st.binary(min_size=1, max_size=137), st.binary(max_size=5000))
def test_an_attribute_comes_back(name, value):
    attribute = CIPHER.encrypt_xattr_name(HERE, name)
    assert len(attribute) <= NAME_MAX
    assert CIPHER.decrypt_xattr_name(HERE, attribute) == name
    sealed = siv("xattrs").encrypt(name, [b"name", HERE])
    assert attribute == "user.ckfs." + base32hex.encode(sealed)
    stored = CIPHER.encrypt_xattr_value(HERE, name, value)
    assert len(stored) == len(value) + 33
    assert CIPHER.decrypt_xattr_value(HERE, name, stored) == value
    opened = siv("xattrs").decrypt(stored[16:], [b"value", HERE, name, stored[:16]])
    assert opened == b"\0" + value


def test_the_longest_name_of_an_attribute():
    assert len(CIPHER.encrypt_xattr_name(HERE, bytes(137))) == NAME_MAX
    assert len(CIPHER.encrypt_xattr_name(HERE, bytes(138))) > NAME_MAX


def test_an_attribute_belongs_to_its_owner_and_its_name():
    attribute = CIPHER.encrypt_xattr_name(HERE, b"user.tag")
    stored = CIPHER.encrypt_xattr_value(HERE, b"user.tag", b"blue")
    with pytest.raises(NameInvalid, match="foreign to this file"):
        CIPHER.decrypt_xattr_name(THERE, attribute)
    for owner, name in ((THERE, b"user.tag"), (HERE, b"user.tig")):
        with pytest.raises(NameInvalid, match="was changed"):
            CIPHER.decrypt_xattr_value(owner, name, stored)
    assert stored != CIPHER.encrypt_xattr_value(HERE, b"user.tag", b"blue")


def test_every_changed_bit_of_an_attribute_is_refused():
    stored = CIPHER.encrypt_xattr_value(HERE, b"user.tag", b"blue")
    for changed in flips(stored):
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_xattr_value(HERE, b"user.tag", changed)
    for length in range(len(stored)):
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_xattr_value(HERE, b"user.tag", stored[:length])


def test_a_form_of_value_that_no_writer_writes():
    salt = bytes(16)
    associated = [b"value", HERE, b"user.tag", salt]
    stored = salt + siv("xattrs").encrypt(b"\x01blue", associated)
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_xattr_value(HERE, b"user.tag", stored)


def test_a_foreign_attribute():
    for attribute in ("user.ckfs.README", "user.ckfs.", "user.mime_type"):
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_xattr_name(HERE, attribute)


def test_wycheproofs_aes_siv_as_names_use_it():
    tested = 0
    for group in groups("aes_siv_cmac_test.json"):
        if group["keySize"] != 512:
            continue  # only AES-256-SIV is used here
        for case in group["tests"]:
            tested += 1
            names = ("key", "aad", "msg", "ct")
            key, associated, message, sealed = (bytes.fromhex(case[name]) for name in names)
            cipher = AESSIV(key)
            if case["result"] == "valid":
                assert cipher.encrypt(message, [associated]) == sealed
                assert cipher.decrypt(sealed, [associated]) == message
            else:
                with pytest.raises(InvalidTag):
                    cipher.decrypt(sealed, [associated])
    assert tested >= 100
