"""The anchor: never goes back, and tells a store that lies."""

from __future__ import annotations

import json
import os
import stat

import pytest
from msgspec.structs import replace

from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy.errors import AnchorMismatch, KeystoreInvalid, KeystoreNewer, UnsafePermissions


@pytest.fixture
def keystore(made):
    return keystores.load(made.control, made.store_id)


@pytest.fixture
def anchor_file(made):
    return anchors.AnchorFile(str(made.host))


def newer(keystore, *, by=1):
    section = keystore.sections[0]
    section = replace(section, sealed_generation=section.sealed_generation + by)
    return replace(keystore, generation=keystore.generation + by, sections=(section,))


def test_init_pins_what_it_made(anchor_file, keystore):
    known = anchor_file.load()
    tik = keystore.sections[0].policy.current_tik
    assert known.store_id == keystore.store_id
    assert known.keystore_generation == 1
    assert [(pin.tik_generation, pin.fingerprint) for pin in known.policies] == [
        (1, tik.fingerprint)
    ]


def test_it_is_private(anchor_file, made):
    assert stat.S_IMODE(os.stat(anchor_file.path).st_mode) == 0o600
    assert stat.S_IMODE(made.host.stat().st_mode) == 0o700
    os.chmod(anchor_file.path, 0o640)
    with pytest.raises(UnsafePermissions, match="chmod 0600"):
        anchor_file.load()


def test_a_host_without_the_store_knows_nothing(tmp_path):
    assert anchors.AnchorFile(str(tmp_path / "none")).load() is None
    (tmp_path / "empty").mkdir(mode=0o700)
    assert anchors.AnchorFile(str(tmp_path / "empty")).load() is None


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format": 1, "lowest_reader": 1}', b"\0" * 99])
def test_a_damaged_anchor_is_not_taken_for_a_first_sight(anchor_file, damage):
    with open(anchor_file.path, "wb") as document:
        document.write(damage)
    with pytest.raises(KeystoreInvalid, match=r"anchor\.json"):
        anchor_file.load()


def test_a_newer_anchor_is_told(anchor_file):
    with open(anchor_file.path) as document:
        changed = json.load(document) | {"format": 2, "lowest_reader": 2}
    with open(anchor_file.path, "w") as document:
        json.dump(changed, document)
    with pytest.raises(KeystoreNewer):
        anchor_file.load()


def test_it_advances_and_never_goes_back(anchor_file, keystore):
    later = newer(keystore, by=5)
    for seen in (later, keystore, newer(keystore), later):
        pin = anchors.pin_of(seen.sections[0])
        anchor_file.change(lambda known, p=pin: anchors.advance(known, p))
        known = anchor_file.load()
        assert known.keystore_generation == 6
        assert known.pin(pin.policy_id).sealed_generation == 6


def test_no_news_writes_nothing(anchor_file, keystore):
    before = os.stat(anchor_file.path)
    pin = anchors.pin_of(keystore.sections[0])
    anchor_file.change(lambda known: anchors.advance(known, pin))
    after = os.stat(anchor_file.path)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_equal_or_newer_keystore_passes(anchor_file, keystore):
    known = anchor_file.load()
    for seen in (keystore, newer(keystore)):
        anchors.check_document(known, seen, "/there")
        anchors.check_section(known.policies[0], seen.sections[0], "/there")


def test_an_older_keystore_is_refused(anchor_file, keystore):
    known = replace(anchor_file.load(), keystore_generation=2)
    with pytest.raises(AnchorMismatch, match=r"rolled back.*generation 1.*seen 2"):
        anchors.check_document(known, keystore, "/there")


def test_an_older_section_in_a_new_document_is_refused(anchor_file, keystore):
    pin = replace(anchor_file.load().policies[0], sealed_generation=2)
    with pytest.raises(AnchorMismatch, match="rolled back"):
        anchors.check_section(pin, keystore.sections[0], "/there")


def test_another_stores_keystore_is_refused(anchor_file, keystore):
    with pytest.raises(AnchorMismatch, match="belongs to store"):
        anchors.check_document(anchor_file.load(), replace(keystore, store_id="f" * 32), "/there")


def test_a_policy_that_vanished_is_refused(anchor_file, keystore):
    known = anchor_file.load()
    more = replace(known.policies[0], policy_id="f" * 32)
    with pytest.raises(AnchorMismatch, match="no longer has policy ffff"):
        anchors.check_document(replace(known, policies=(*known.policies, more)), keystore, "/x")


def test_a_policy_that_was_planted_is_refused(keystore):
    with pytest.raises(AnchorMismatch, match="planted"):
        anchors.check_section(None, keystore.sections[0], "/there")


def test_a_substituted_key_is_refused(anchor_file, keystore):
    pin = replace(anchor_file.load().policies[0], fingerprint=bytes(32))
    with pytest.raises(AnchorMismatch, match="substituted"):
        anchors.check_section(pin, keystore.sections[0], "/there")


def test_an_older_generation_of_the_key_is_refused(anchor_file, keystore):
    pin = replace(anchor_file.load().policies[0], tik_generation=2)
    with pytest.raises(AnchorMismatch, match="generation 2"):
        anchors.check_section(pin, keystore.sections[0], "/there")
