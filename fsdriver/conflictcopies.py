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
    )
)
_HOST: Final = re.compile(r"-[A-Za-z0-9][A-Za-z0-9-]{0,80}" + _EXTENSION)
"""OneDrive puts the computer's name behind the file's; both may have hyphens of their own."""
_ENCRYPTED: Final = re.compile(r"([0-9a-v]{26,255})[^0-9a-v].*", re.DOTALL)


def candidates(text: str) -> Iterator[tuple[str, str]]:
    """(client, original backing name) for each way in which a backing name can be a copy's."""
    for client, pattern in _PATTERNS:
        found = pattern.fullmatch(text)
        if found:
            yield client, found["start"] + (found["end"] or "")
    for hyphen, character in enumerate(text):
        found = _HOST.fullmatch(text, hyphen) if character == "-" else None
        if found:
            yield "OneDrive", text[:hyphen] + (found["end"] or "")
    rest = _ENCRYPTED.fullmatch(text)
    if rest:
        # No marker that is known, but an encrypted name and something behind it.
        yield "a sync client", rest[1]
