"""Names, symlink targets and extended attributes: what comes back, and what is refused."""

import base64

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.errors import NameInvalid
from fsdriver.format import base32hex
from fsdriver.format.names import NAME_MAX, SYMLINK_OVERHEAD, NameCipher, target_id
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


FIRST, SECOND = b"b" * 16, b"c" * 16


@given(st.binary(max_size=3021), st.sampled_from([(), (FIRST,), (FIRST, SECOND)]))
def test_a_target_comes_back(target, bindings):
    text = CIPHER.encrypt_target(target, bindings)
    assert CIPHER.decrypt_target(text) == (target, bindings)
    plaintext = bytes([len(bindings)]) + b"".join(bindings).ljust(32, b"\0") + target
    raw = b"\x01" + siv("symlinks").encrypt(plaintext, [b"\x01"])
    assert text == base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert len(text) == -(-4 * (50 + len(target)) // 3)
    assert len(text) * 3 // 4 - SYMLINK_OVERHEAD == len(target)


def test_the_longest_target():
    assert len(CIPHER.encrypt_target(bytes(3021), ())) == 4095
    assert len(CIPHER.encrypt_target(bytes(3022), ())) == 4096


def test_a_symlink_has_room_for_two_names():
    with pytest.raises(ValueError, match="more bindings"):
        CIPHER.encrypt_target(b"target", (FIRST, SECOND, bytes(16)))


def test_a_target_belongs_to_its_site():
    text = CIPHER.encrypt_target(b"/etc/passwd", (FIRST,))
    with pytest.raises(NameInvalid, match="not written by this site"):
        NameCipher(bytes(32)).decrypt_target(text)


@pytest.mark.parametrize("bindings", [(FIRST, SECOND), ()])
def test_every_changed_bit_of_a_symlink_is_refused(bindings):
    text = CIPHER.encrypt_target(b"target", bindings)
    for changed in flips(text.encode()):
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_target(changed.decode("latin-1"))


def test_no_second_text_for_one_symlink():
    text = CIPHER.encrypt_target(b"t", (FIRST,))  # 51 bytes: a whole number of base64 groups
    odd = CIPHER.encrypt_target(b"ta", (FIRST,))  # 52 bytes: four bits are left over
    following = chr(ord(odd[-1]) + 1)
    assert len(text) % 4 == 0
    assert len(odd) % 4 == 2
    for other in (text + "=", text + "\n", " " + text, text + "====", odd[:-1] + following):
        with pytest.raises(NameInvalid):
            CIPHER.decrypt_target(other)


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\0",
        b"\0" + bytes(31),
        b"\1" + FIRST,
        b"\2" + FIRST,
        b"\3" + FIRST + SECOND + FIRST + b"target",
        b"\xff" + FIRST + SECOND + b"target",
        b"\0" + FIRST + bytes(16) + b"target",
        b"\1" + FIRST + SECOND + b"target",
    ],
)
def test_a_sealed_symlink_that_no_writer_writes(plaintext):
    """Such a one could only come from somebody who has the site's metadata key."""
    raw = b"\x01" + siv("symlinks").encrypt(plaintext, [b"\x01"])
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_target(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\x02\x00", b"\x00\x00", b"\x01" + bytes(15)])
def test_a_symlink_that_no_writer_writes(raw):
    text = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_target(text)
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_target("/usr/bin/\N{SNOWMAN}")


def test_a_symlink_of_another_version():
    sealed = siv("symlinks").encrypt(bytes(33) + b"target", [b"\x02"])
    with pytest.raises(NameInvalid):
        CIPHER.decrypt_target(base64.urlsafe_b64encode(b"\x02" + sealed).rstrip(b"=").decode())


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


@pytest.mark.parametrize("text", ["", "plain", "\u00e4", "AAAA="])
def test_a_symlink_that_ckfs_did_not_write_stands_for_nothing(text):
    with pytest.raises(NameInvalid, match="foreign"):
        target_id(text)
