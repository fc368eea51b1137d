"""What a program can ask and tell a mount about itself: extended attributes that are never listed.

No socket and no second way in: who may read or write here is what the kernel says of the file.
Knows the filesystem's operations and two functions of the mount; decides nothing about keys.
"""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fsdriver.inodes import ROOT

if TYPE_CHECKING:
    from fsdriver.filesystem import Filesystem
    from fsdriver.namespace import Caller

PREFIX: Final = b"user.ckfs."
STATUS: Final = PREFIX + b"status"
"""On the root: the mount's state as JSON, for `ckfs status`."""
BACKING: Final = PREFIX + b"backing"
"""On anything: where its ciphertext lies, for `ckfs info`."""
SITE: Final = PREFIX + b"site"
"""On anything: the site that it belongs to, as JSON, for `ckfs site show`."""
MAKE_SITE: Final = PREFIX + b"make-site"
"""Written on a folder: the next mkdir of a name in it begins a site, for `ckfs site create`."""


class NewSite(msgspec.Struct, forbid_unknown_fields=True):
    """What MAKE_SITE takes."""

    name: str
    site_id: str  # 32 hex digits


class Control:
    """The attributes of one mount."""

    def __init__(
        self,
        filesystem: "Filesystem",
        store: str,
        status: Callable[[], dict[str, Any]],
        site_status: Callable[[bytes], dict[str, Any]],
    ) -> None:
        self._filesystem = filesystem
        self._store = store
        self._status = status
        self._site_status = site_status

    def get(self, number: int, name: bytes) -> bytes | None:
        """None for a name that is not one of these."""
        if name == STATUS and number == ROOT:
            return msgspec.json.encode(self._status())
        if name == BACKING:
            return os.fsencode(os.path.join(self._store, self._filesystem.backing_path(number)))
        if name == SITE:
            return msgspec.json.encode(self._site_status(self._filesystem.site_of(number)))
        return None

    def set(self, number: int, name: bytes, value: bytes, caller: "Caller") -> bool:
        """False for a name that is not one of these; raises OSError EINVAL for a bad value."""
        if name != MAKE_SITE:
            return False
        try:
            new = msgspec.json.decode(value, type=NewSite)
            site_id = bytes.fromhex(new.site_id)
        except (msgspec.MsgspecError, ValueError) as error:
            raise OSError(errno.EINVAL, f"no site to make: {error}") from None
        self._filesystem.announce_site(number, os.fsencode(new.name), site_id, caller)
        return True
