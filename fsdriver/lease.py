"""What the data path needs of a site's keys; the key hierarchy gives it."""

from typing import Protocol


class Lease(Protocol):
    """What the data path needs of a site's key: a flag, and the wraps of file keys."""

    site_id: bytes
    root_directory_id: bytes

    @property
    def metadata_key(self) -> bytes:
        """The key of names and records; raises why the lease ended, once it has."""
        ...

    generation: int
    valid: bool
    deadline: float

    def wrap_file_key(
        self, file_id: bytes, file_key: bytes, generation: int | None = None
    ) -> bytes:
        """48 opaque bytes under the site key of `generation`."""
        ...

    def unwrap_file_key(self, file_id: bytes, generation: int, wrapped: bytes) -> bytes:
        """The file key; raises an error of the key hierarchy."""
        ...

    def require_valid(self) -> None:
        """Raises why the lease ended, once `valid` is false."""
        ...
