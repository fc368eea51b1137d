"""Finding a store by its folder."""

from __future__ import annotations

import json
import os

import pytest

from keyhierarchy.errors import KeystoreInvalid, KeystoreNewer, NotAStore
from keyhierarchy.storeid import find_store


def write(place, document: object) -> None:
    with open(os.path.join(place.control, "store.json"), "w") as target:
        target.write(document if isinstance(document, str) else json.dumps(document))


def test_it_finds_the_control_folder_and_the_id(place, monkeypatch):
    assert find_store(place.store) == (place.control, place.store_id)
    monkeypatch.chdir(place.folder)
    assert find_store("store") == (place.control, place.store_id)


def test_a_folder_that_is_no_store_is_told(place, tmp_path):
    for folder in (str(tmp_path), str(tmp_path / "none"), place.control):
        with pytest.raises(NotAStore, match="ckfs init"):
            find_store(folder)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "[]",
        "null",
        {"lowest_reader": 1},
        {"store_id": "ab" * 16},
        {"lowest_reader": "1", "store_id": "ab" * 16},
        {"lowest_reader": 1, "store_id": "ab" * 15},
        {"lowest_reader": 1, "store_id": "../" * 10 + "ab"},
        {"lowest_reader": 1, "store_id": 7},
    ],
    ids=repr,
)
def test_a_damaged_store_document_is_told(place, document):
    write(place, document)
    with pytest.raises(KeystoreInvalid, match=r"store\.json.*backup"):
        find_store(place.store)


def test_a_newer_store_is_told(place):
    write(place, {"format": 2, "lowest_reader": 2, "store_id": "ab" * 16})
    with pytest.raises(KeystoreNewer, match="newer version"):
        find_store(place.store)
