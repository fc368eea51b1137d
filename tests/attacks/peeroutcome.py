"""In one word what a peer made of an attack."""

from __future__ import annotations

import errno

from tests.attacks.looking import ACCEPTED, HIDDEN, Seen

IGNORED = "ignored"
"""Not shown, not refused, and nothing else is wrong."""
OLDER_STORE = "older store put back"


def outcome(seen: list[Seen]) -> str:
    """Of all that was not in order, the worst first: wrong data, a smaller folder, an error."""
    if not seen:
        return IGNORED
    if any(one.step == ACCEPTED for one in seen):
        return ACCEPTED
    if any(one.step == HIDDEN for one in seen):
        return HIDDEN
    # What has unmounted itself is not connected any more.
    codes = {errno.errorcode.get(one.code, str(one.code)) for one in seen}
    told = " ".join(sorted(codes - {"ENOTCONN"})) or "ENOTCONN"
    return f"{told} after wrong data" if any(one.wrong for one in seen) else told
