"""The error tree: drawn as it is, and safe to keep."""

from __future__ import annotations

import re

import pytest

from keyhierarchy import errors
from keyhierarchy.errors import KeyHierarchyError, RootKeyRefused


def tree(kind: type[KeyHierarchyError], depth: int = 0) -> list[tuple[int, str]]:
    below = [line for child in kind.__subclasses__() for line in tree(child, depth + 1)]
    return [(depth, kind.__name__), *below]


def test_the_tree_at_the_top_of_the_module_is_the_tree():
    lines = re.findall(r"^    ((?:[│ ]  )*)(├─ |└─ )?(\w+)", errors.__doc__, re.MULTILINE)
    drawn = [(len(indent) // 3 + bool(branch), name) for indent, branch, name in lines]
    assert sorted(drawn) == sorted(tree(KeyHierarchyError))
    assert len(drawn) >= 15


def test_again_keeps_the_facts_and_drops_what_holds_frames():
    facts = {"key_id": "k", "policy_id": "p", "site_id": "s", "generation": 3, "place": "/x"}
    with pytest.raises(RootKeyRefused) as caught:
        raise RootKeyRefused("no", **facts) from OSError("below")
    again = caught.value.again()
    assert type(again) is RootKeyRefused
    assert {name: getattr(again, name) for name in facts} == facts
    assert str(again) == again.message == "no"
    assert again.__traceback__ is again.__cause__ is again.__context__ is None
