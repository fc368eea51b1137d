"""Key ids: what is one, and what every other text is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhierarchy import vaultkeyid
from keyhierarchy.errors import RootKeyRefused

VERSION = "0123456789abcdef" * 2


def test_a_key_id_in_its_parts():
    found = vaultkeyid.parse(f"https://KV1.vault.azure.net:443/keys/My-Key/{VERSION.upper()}")
    assert found.text == f"https://kv1.vault.azure.net/keys/My-Key/{VERSION}"
    assert (found.host, found.name, found.version) == ("kv1.vault.azure.net", "My-Key", VERSION)
    assert found.vault_url == "https://kv1.vault.azure.net"
    assert not found.managed_hsm
    assert vaultkeyid.parse(f"https://h1.managedhsm.azure.net/keys/k/{VERSION}").managed_hsm
    assert not vaultkeyid.parse(f"https://managedhsm.vault.azure.net/keys/k/{VERSION}").managed_hsm
    assert vaultkeyid.parse(f"https://kv1.vault.test:8443/keys/k/{VERSION}").host.endswith(":8443")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "https://"),
        ("service:1", "https://"),
        (f"http://kv.vault.azure.net/keys/k/{VERSION}", "https://"),
        (f"https://kv.vault.azure.net@evil.example/keys/k/{VERSION}", "host name"),
        (f"https://evil.example\\kv.vault.azure.net/keys/k/{VERSION}", "host name"),
        (f"https://localhost/keys/k/{VERSION}", "host name"),
        (f"https:///keys/k/{VERSION}", "host name"),
        ("https://kv.vault.azure.net", "/keys/"),
        (f"https://kv.vault.azure.net/secrets/k/{VERSION}", "/keys/"),
        ("https://kv.vault.azure.net/keys/", "name"),
        (f"https://kv.vault.azure.net/keys/a_b/{VERSION}", "name"),
        ("https://kv.vault.azure.net/keys/k", "no version"),
        ("https://kv.vault.azure.net/keys/k/", "no version"),
        ("https://kv.vault.azure.net/keys/k/1", "32 hex"),
        (f"https://kv.vault.azure.net/keys/k/{VERSION}/wrapkey", "32 hex"),
        (f"https://kv.vault.azure.net/keys/k/{VERSION}?api-version=7.6", "32 hex"),
        (f"https://kv.vault.azure.net/keys/k/{VERSION}#x", "32 hex"),
    ],
)
def test_what_is_none_is_told_why(text, what):
    with pytest.raises(RootKeyRefused, match=what) as caught:
        vaultkeyid.parse(text)
    assert caught.value.cause == "malformed-key-id"
    assert "https://VAULT-HOST/keys/NAME/VERSION" in str(caught.value)


@given(st.text(max_size=400))
def test_no_text_does_anything_else(text):
    for whole in (text, "https://" + text, f"https://kv.vault.azure.net/keys/{text}"):
        told = ""
        try:
            told = vaultkeyid.parse(whole).text
        except RootKeyRefused as error:
            told = str(error)
        assert told
        assert told.isascii()
