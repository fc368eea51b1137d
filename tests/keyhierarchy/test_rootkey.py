"""The protocol, and the fake that stands in for it in other tests."""

from __future__ import annotations

import pytest

from keyhierarchy.errors import RootKeyRefused, RootKeyUnavailable
from tests.keyhierarchy.fakes import FakeRootKey
from tests.root_contract import RootKeyContract


class TestFakeRootKey(RootKeyContract):
    @pytest.fixture
    def root(self):
        return FakeRootKey()


@pytest.mark.parametrize("kind", [RootKeyUnavailable, RootKeyRefused])
def test_the_fake_raises_what_it_is_told(kind):
    root = FakeRootKey()
    wrapped = root.wrap(bytes(32))
    root.trouble = kind("told to")
    for ask in (lambda: root.unwrap(wrapped), lambda: root.wrap(bytes(32)), root.probe):
        with pytest.raises(kind, match="told to"):
            ask()
