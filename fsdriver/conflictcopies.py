"""Names that sync clients give to the second version of a file: of which client, of which name.

A conflict copy is not an attack, but nobody wrote its name under the folder's key. Pure: what is
a candidate here is one only if the store knows the original name.
"""

import re
from collections.abc import Iterator
from typing import Final

_EXTENSION: Final = r"(?P<end>\.[^.]*)?"

_PATTERNS: Final = tuple(
    (client, re.compile(f"(?P<start>.*){marker}{_EXTENSION}", re.DOTALL))
    for client, marker in (
        # Each as its client writes it, before the last extension.
        ("Syncthing", r"\.sync-conflict-\d{8}-\d{6}(-[A-Z0-9]{7})?"),
        ("Nextcloud", r" \(conflicted copy \d{4}-\d{2}-\d{2} \d{6}\)"),
        ("ownCloud", r"_conflict-\d{8}-\d{6}"),
        ("Dropbox", r" \([^()]*conflicted copy[^()]*\)( \(\d+\))?"),
        ("Dropbox", r" \((Case|Selective Sync|Unicode Encoding|White Space) Conflict( \d+)?\)"),
        ("rclone", r"\.(conflict|path)\d+"),
        ("a sync client", r" \(\d+\)"),
        ("OneDrive", r"-[A-Za-z0-9][A-Za-z0-9-]{0,62}"),
    )
)
_ENCRYPTED: Final = re.compile(r"([0-9a-v]{26,255})[^0-9a-v].*", re.DOTALL)
_SAFE_COPY: Final = re.compile(r"(?P<start>.*)-[^-/.]+-[^/]*-safeBackup-\d{4}" + _EXTENSION)


def candidates(text: str) -> Iterator[tuple[str, str]]:
    """(client, original backing name) for each way in which a backing name can be a copy's."""
    safe = _SAFE_COPY.fullmatch(text)
    if safe:
        yield "OneDrive", safe["start"] + (safe["end"] or "")
    for client, pattern in _PATTERNS:
        found = pattern.fullmatch(text)
        if found:
            yield client, found["start"] + (found["end"] or "")
    rest = _ENCRYPTED.fullmatch(text)
    if rest:
        # No marker that is known, but an encrypted name and something behind it.
        yield "a sync client", rest[1]
