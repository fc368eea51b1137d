"""The count itself: a disagreement, a surprise and an empty set are failures."""

from __future__ import annotations

import pytest

from tests.vectors_public.sources import records
from tests.vectors_public.tally import Count, lines


def test_a_disagreement_fails():
    counted = Count("it", "by", "them")
    counted.note(1, lambda: True)
    counted.note(2, lambda: False)
    with pytest.raises(AssertionError, match="'2'"):
        counted.settle(1)


def test_an_unexpected_refusal_fails():
    counted = Count("it", "by", "them")
    counted.note("case", lambda: bool(1 // 0))
    with pytest.raises(AssertionError, match="case: ZeroDivisionError"):
        counted.settle(0)


def test_an_empty_set_fails():
    with pytest.raises(AssertionError, match="only 0 cases"):
        Count("it", "by", "them", inapplicable=1000).settle(1)


def test_the_table_has_every_number():
    counted = Count("it", "by", "them", agree=12, inapplicable=34)
    assert lines([counted])[1].split() == ["it", "by", "them", "12", "0", "34"]


def test_the_reader_keeps_sections_and_flags():
    cases = list(records("ciphers/AES/GCM/gcmDecrypt256.rsp"))
    assert len(cases) == 7875
    assert {case["keylen"] for case in cases} == {"256"}
    assert {case["taglen"] for case in cases} == {"128", "120", "112", "104", "96", "64", "32"}
    assert all(len(case["tag"]) * 4 == int(case["taglen"]) for case in cases)
    assert all(("pt" in case) != ("fail" in case) for case in cases)
