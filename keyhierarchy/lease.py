"""A lease on the keys of one site: what the data path holds, and all of the chain that it sees.

Plain attributes and no locks, because every open and create comes by here. Renewing it is
hierarchy.py's work, which may happen on another thread; what that thread changes, it changes by
one assignment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from keyhierarchy.errors import KeyHierarchyError, RootKeyUnavailable, WrappedKeyInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyhierarchy.wrapping import FileKeyWrapper


class SiteLease:
    """The keys of one site until `deadline`, as long as `valid` is true.

    `generation` is the site-key generation for new files. When the lease ends, by expiry, denial or
    close, `valid` turns false and the keys are dropped; every use then raises why it ended. A
    renewal that succeeds later makes the same object valid again.
    """

    __slots__ = (
        "_metadata_key",
        "_reason",
        "_wrappers",
        "deadline",
        "generation",
        "policy_id",
        "root_directory_id",
        "site_id",
        "valid",
    )

    def __init__(self, site_id: bytes, *, policy_id: str, root_directory_id: bytes) -> None:
        self.site_id = site_id
        self.policy_id = policy_id
        self.root_directory_id = root_directory_id
        self.generation = 0
        self.valid = False
        self.deadline = 0.0
        self._metadata_key = b""
        self._wrappers: Mapping[int, FileKeyWrapper] = {}
        self._reason: KeyHierarchyError | None = None

    @property
    def metadata_key(self) -> bytes:
        """The site's metadata key, 32 bytes; raises like the wraps once the lease has ended."""
        key = self._metadata_key
        if not key:
            self._raise_ended()
        return key

    def wrap_file_key(
        self, file_id: bytes, file_key: bytes, generation: int | None = None
    ) -> bytes:
        """Wrap a file key: 48 bytes, under `generation`, or the current one.

        Where a renewal may run on another thread: read `generation` once, pass it here, and write
        that same number beside the wrapped key.
        """
        wrapper = self._wrappers.get(self.generation if generation is None else generation)
        if wrapper is None:
            self._raise_unknown(generation)
        return wrapper.wrap(file_id, file_key)

    def unwrap_file_key(self, file_id: bytes, generation: int, wrapped: bytes) -> bytes:
        """Open a file key; WrappedKeyInvalid where it does not authenticate."""
        wrapper = self._wrappers.get(generation)
        if wrapper is None:
            self._raise_unknown(generation)
        return wrapper.unwrap(file_id, wrapped)

    def fill(
        self,
        wrappers: Mapping[int, FileKeyWrapper],
        metadata_key: bytes,
        *,
        generation: int,
        deadline: float,
    ) -> None:
        """Put keys in and make the lease valid. Only hierarchy.py calls this."""
        self._wrappers = wrappers
        self._metadata_key = metadata_key
        self.generation = generation
        self.deadline = deadline
        self._reason = None
        self.valid = True

    def end(self, reason: KeyHierarchyError) -> None:
        """Turn invalid, drop the keys; later uses raise `reason`. Only hierarchy.py calls this."""
        self.valid = False
        self._reason = reason.again()
        self._wrappers = {}
        self._metadata_key = b""

    def require_valid(self) -> None:
        """Raise why the lease ended, if it has."""
        if not self.valid:
            self._raise_ended()

    def _raise_unknown(self, generation: int | None) -> NoReturn:
        if not self._wrappers:
            self._raise_ended()
        raise WrappedKeyInvalid(
            f"site {self.site_id.hex()} has no site key of generation {generation}: the header was "
            "altered, or the keystore is older than the file; put the newest keystore back",
            site_id=self.site_id.hex(),
            generation=generation,
        )

    def _raise_ended(self) -> NoReturn:
        reason = self._reason
        if reason is not None:
            raise reason.again()
        raise RootKeyUnavailable(
            f"the lease on site {self.site_id.hex()} holds no keys", site_id=self.site_id.hex()
        )

    def __repr__(self) -> str:
        state = "valid" if self.valid else "ended"
        return f"<SiteLease of site {self.site_id.hex()} generation {self.generation} {state}>"

    def __reduce__(self) -> str:
        raise TypeError("a SiteLease holds keys and is not pickled")
