"""The attack matrix: every attack on ckfs is found where the table says, or said not to be."""

from __future__ import annotations

from pathlib import Path

import pytest

import fsdriver
from tests.attacks.run import ours
from tests.attacks.specification import disagreements
from tests.attacks.storetable import STORE_ATTACKS
from tests.attacks.table import ATTACKS, LIVE

EVERY = (*ATTACKS, *LIVE, *STORE_ATTACKS)


@pytest.fixture(scope="module")
def matrix():
    return {row.name: row for row in ours()}


@pytest.mark.mounted
@pytest.mark.crash
@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack(matrix, attack):
    row = matrix[attack.name]
    assert not row.wrong


def test_names_are_each_used_once():
    names = [attack.name for attack in EVERY]
    assert sorted(set(names)) == sorted(names)


def test_what_is_not_found_has_a_reason():
    assert [one.name for one in EVERY if one.found == "not found" and not one.why] == []


def test_the_page_says_the_same():
    page = Path(fsdriver.__file__).with_name("FORMAT.md").read_text()
    assert disagreements(page) == []
