"""From the clear part of a header to the keys of its file."""

from hmac import compare_digest

from fsdriver.errors import HeaderInvalid
from fsdriver.format import filekeys
from fsdriver.format.filekeys import FileKeys
from fsdriver.format.header import ClearHeader
from fsdriver.lease import Lease


def open_keys(clear: ClearHeader, lease: Lease) -> FileKeys:
    """The keys that a header wraps; raises HeaderInvalid when it does not commit to them."""
    file_key = lease.unwrap_file_key(
        clear.file_id, clear.site_key_generation, clear.wrapped_file_key
    )
    keys = filekeys.derive(file_key, clear.file_id)
    if not compare_digest(keys.commitment, clear.key_commitment):
        raise HeaderInvalid(
            "the header does not commit to the key that it wraps: it was forged or mixed up"
        )
    return keys
