"""The keystore: strict, whole, sealed."""

from __future__ import annotations

import copy
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhierarchy import keystore as keystores
from keyhierarchy.errors import (
    KeystoreBusy,
    KeystoreInvalid,
    KeystoreMissing,
    KeystoreNewer,
    SiteUnknown,
)
from keyhierarchy.keystore import Section, SiteKeyGeneration, SiteRecord
from keyhierarchy.policy import TikWrap, default_policy
from keyhierarchy.servicekeys import service_root

hexes = st.binary(min_size=16, max_size=16).map(bytes.hex)
CREATED = "2026-11-21T21:28:00.123Z"


@st.composite
def sections(draw) -> Section:
    policy_id = draw(hexes)
    wrap = TikWrap(
        slot="service",
        key_id=draw(st.from_regex(r"[!#-\[\]-~]{1,40}", fullmatch=True)),
        algorithm="KBKDF-SHA256+AES-256-SIV",
        wrapped=draw(st.binary(min_size=48, max_size=70)),
        created=CREATED,
    )
    fingerprint = draw(st.binary(min_size=32, max_size=32))
    policy = default_policy(policy_id, created=CREATED, fingerprint=fingerprint, wrap=wrap)
    key = SiteKeyGeneration(
        generation=draw(st.integers(1, 2**32 - 1)),
        tik_generation=1,
        wrapped_site_key=draw(st.binary(min_size=48, max_size=48)),
        commitment=bytes(32),
    )
    sites = tuple(
        SiteRecord(
            site_id=site_id,
            workload=draw(st.sampled_from(["onedrive", "sharepoint", "teams"])),
            policy_id=policy_id,
            root_directory_id=draw(hexes),
            created=CREATED,
            site_keys=(key,),
            wrapped_metadata_key=bytes(48),
        )
        for site_id in draw(st.lists(hexes, max_size=3, unique=True))
    )
    return Section(sealed_generation=1, policy=policy, sites=sites)


@given(sections())
def test_parse_then_pack_gives_the_same_bytes(section):
    made = keystores.Keystore(store_id="0" * 32, generation=1, sections=(section,))
    document = keystores.pack(made)
    assert keystores.parse(document, "/there") == made
    assert keystores.pack(keystores.parse(document, "/there")) == document


@given(sections(), st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_a_seal_holds_for_its_key_its_store_and_its_content(section, tik, store_id):
    sealed = keystores.sealed(section, tik, store_id=store_id)
    keystores.check_seal(sealed, tik, store_id=store_id, place="/there")
    other = bytes(byte ^ 1 for byte in tik)
    changed = msgspec.structs.replace(sealed, sealed_generation=2)
    cases = [(sealed, other, store_id), (sealed, tik, bytes(15) + b"?"), (changed, tik, store_id)]
    for wrong, key, store in cases:
        if (key, store) != (tik, store_id) or wrong is changed:
            with pytest.raises(KeystoreInvalid, match=r"seal.*backup"):
                keystores.check_seal(wrong, key, store_id=store, place="/there")


def test_it_loads_what_was_stored(made):
    loaded = keystores.load(made.control, made.store_id)
    with keystores.exclusive(made.control):
        keystores.store(made.control, loaded)
    assert keystores.load(made.control, made.store_id) == loaded
    section, site = loaded.find_site(made.site_id)
    assert site.workload == "onedrive"
    assert site.root_directory_id == made.root_directory_id.hex()
    assert loaded.section(section.policy.id) is section
    assert loaded.section("f" * 32) is None


def test_every_cut_of_the_document_is_refused(made):
    whole = made.keystore.read_bytes()
    for length in range(0, len(whole) - 2, 37):
        with pytest.raises(KeystoreInvalid, match=r"keystore\.json"):
            keystores.parse(whole[:length], str(made.keystore))


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing_that_is_sealed(made):
    whole = made.keystore.read_bytes()
    right = keystores.load(made.control, made.store_id)
    policy = right.sections[0].policy
    root = service_root(made.state, policy.id)
    tik = root.unwrap(policy.current_tik.wraps[0].wrapped)
    refused = 0
    for bit in range(0, len(whole) * 8, 3):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            parsed = keystores.parse(bytes(changed), "/there")
            for section in parsed.sections:
                keystores.check_seal(section, tik, store_id=made.store_id, place="/there")
        except KeystoreInvalid:
            refused += 1
        else:
            # White space, and the document's own id and generation, which anchor and caller check.
            assert parsed.sections == right.sections
    assert refused > len(whole)


def paths(value, path=()):
    """Yield the path of every value in a document."""
    yield path
    if isinstance(value, dict):
        inner = value.items()
    else:
        inner = enumerate(value if isinstance(value, list) else ())
    for key, below in inner:
        yield from paths(below, (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


@pytest.mark.parametrize("wrong", [None, -1, 2**40, "x y", [], {}, True, 1.5], ids=repr)
def test_a_wrong_value_anywhere_is_refused(made, wrong):
    document = made.document()
    tried = 0
    for path in paths(document):
        if not path or at(document, path) == wrong:
            continue
        changed = copy.deepcopy(document)
        at(changed, path[:-1])[path[-1]] = wrong
        if path[-1] == "sites" and wrong == []:
            continue  # a policy without sites is one that can be
        if path[-1] == "wraps" and wrong == []:
            continue  # and so is a generation whose wraps were destroyed
        if path == ("format",) and wrong == 2**40:
            continue  # lowest_reader decides
        tried += 1
        with pytest.raises(KeystoreInvalid):
            keystores.parse(msgspec.json.encode(changed), "/there")
    assert tried > 30


def test_an_unknown_or_missing_field_anywhere_is_refused(made):
    document = made.document()
    tried = 0
    for path in paths(document):
        if not isinstance(at(document, path), dict):
            continue
        changed = copy.deepcopy(document)
        at(changed, path)["surprise"] = 1
        with pytest.raises(KeystoreInvalid, match="surprise"):
            keystores.parse(msgspec.json.encode(changed), "/there")
        for field in at(document, path):
            if field in {"endorsement", "seal"}:
                continue
            changed = copy.deepcopy(document)
            del at(changed, path)[field]
            tried += 1
            with pytest.raises(KeystoreInvalid, match=field):
                keystores.parse(msgspec.json.encode(changed), "/there")
    assert tried > 20


def test_two_records_for_one_id_are_refused(made):
    document = made.document()
    site = document["sections"][0]["sites"][0]
    document["sections"][0]["sites"].append(site)
    with pytest.raises(KeystoreInvalid, match="same id"):
        keystores.parse(msgspec.json.encode(document), "/there")
    document = made.document()
    document["sections"].append({**document["sections"][0], "sites": []})
    with pytest.raises(KeystoreInvalid, match="same id"):
        keystores.parse(msgspec.json.encode(document), "/there")


def test_a_site_under_a_policy_it_does_not_name_is_refused(made):
    document = made.document()
    document["sections"][0]["sites"][0]["policy_id"] = "f" * 32
    with pytest.raises(KeystoreInvalid, match="does not name"):
        keystores.parse(msgspec.json.encode(document), "/there")


def test_site_keys_out_of_order_are_refused(made):
    document = made.document()
    keys = document["sections"][0]["sites"][0]["site_keys"]
    keys.append(keys[0])
    with pytest.raises(KeystoreInvalid, match="rising order"):
        keystores.parse(msgspec.json.encode(document), "/there")


def test_a_newer_keystore_is_refused_as_newer(made):
    made.write({"format": 7, "lowest_reader": 7, "all": "different"})
    with pytest.raises(KeystoreNewer, match="newer version"):
        keystores.load(made.control, made.store_id)


def test_a_missing_keystore_says_what_to_do(place):
    with pytest.raises(KeystoreMissing, match=r"backup.*ckfs init"):
        keystores.load(place.control, place.store_id)


def test_a_keystore_of_another_store_is_refused(made):
    with pytest.raises(KeystoreInvalid, match="belongs to store"):
        keystores.load(made.control, os.urandom(16))


def test_an_unknown_site_is_told(made):
    with pytest.raises(SiteUnknown, match="00000000"):
        keystores.load(made.control, made.store_id).find_site(bytes(16))


def test_one_writer_at_a_time(made):
    with (
        keystores.exclusive(made.control),
        pytest.raises(KeystoreBusy),
        keystores.exclusive(made.control),
    ):
        pass
