"""What every root key must do, wherever it lives. Run for each kind of root and for the fake.

A test module makes a subclass whose name begins with Test and gives it the fixtures `root` (a root
key of some policy), `other_policy_root` (the same key for another policy, or None where a kind does
not bind wraps to policies) and `secret_bytes` (what must never be shown, or None).
"""

from __future__ import annotations

import os
import re

import pytest

from keyhierarchy.errors import KeyHierarchyError, WrappedKeyInvalid


class RootKeyContract:
    """The suite."""

    @pytest.fixture
    def other_policy_root(self):
        return None

    @pytest.fixture
    def secret_bytes(self):
        return None

    def test_unwrap_returns_what_was_wrapped(self, root):
        for _ in range(3):
            key = os.urandom(32)
            assert root.unwrap(root.wrap(key)) == key

    def test_the_key_is_not_in_its_wrap(self, root):
        key = os.urandom(32)
        wrapped = root.wrap(key)
        assert len(wrapped) >= 48
        assert key not in wrapped
        assert key[:8] not in wrapped

    def test_any_changed_bit_is_refused_with_an_error_of_the_tree(self, root):
        wrapped = root.wrap(os.urandom(32))
        for position in range(0, len(wrapped) * 8, 7):
            changed = bytearray(wrapped)
            changed[position // 8] ^= 1 << position % 8
            with pytest.raises(KeyHierarchyError):
                root.unwrap(bytes(changed))

    @pytest.mark.parametrize("length", [0, 1, 15, 16, 17])
    def test_a_cut_wrap_is_invalid(self, root, length):
        wrapped = root.wrap(os.urandom(32))
        with pytest.raises(WrappedKeyInvalid):
            root.unwrap(wrapped[:length])
        with pytest.raises(WrappedKeyInvalid):
            root.unwrap(wrapped + b"\0")

    @pytest.mark.parametrize("length", [0, 31, 33])
    def test_only_keys_of_the_chain_are_wrapped(self, root, length):
        with pytest.raises(ValueError, match="32"):
            root.wrap(b"k" * length)

    def test_a_wrap_of_another_policy_is_invalid(self, root, other_policy_root):
        if other_policy_root is None:
            pytest.skip("this kind of root does not bind wraps to policies")
        with pytest.raises(WrappedKeyInvalid):
            other_policy_root.unwrap(root.wrap(os.urandom(32)))

    def test_the_key_id_is_printable_and_stays(self, root):
        first = root.key_id
        root.wrap(os.urandom(32))
        assert root.key_id == first
        assert re.fullmatch(r"[!#-\[\]-~]{1,512}", first)

    def test_the_probe_of_a_good_key_returns(self, root):
        assert root.probe() is None

    def test_it_does_not_show_its_key(self, root, secret_bytes):
        if secret_bytes is None:
            pytest.skip("the key of this kind of root is elsewhere")
        shown = repr(root) + str(root)
        assert secret_bytes.hex() not in shown
        assert repr(secret_bytes) not in shown
