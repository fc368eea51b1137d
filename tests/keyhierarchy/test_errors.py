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
    drawn = []
    for line in errors.__doc__.splitlines():
        if found := re.match(r"    ((?:[│ ]  )*)(├─ |└─ )?(\w+)", line):
            drawn.append((len(found[1]) // 3 + bool(found[2]), found[3]))
    assert sorted(drawn) == sorted(tree(KeyHierarchyError))
    assert len(drawn) >= 15


def test_again_keeps_the_facts_and_drops_what_holds_frames():
    def fails():
        try:
            raise OSError("below")
        except OSError as error:
            raise RootKeyRefused(
                "no", key_id="k", policy_id="p", site_id="s", generation=3, place="/x"
            ) from error

    with pytest.raises(RootKeyRefused) as caught:
        fails()
    again = caught.value.again()
    assert type(again) is RootKeyRefused
    facts = (again.key_id, again.policy_id, again.site_id, again.generation, again.place)
    assert facts == ("k", "p", "s", 3, "/x")
    assert str(again) == again.message == "no"
    assert again.__traceback__ is again.__cause__ is again.__context__ is None
