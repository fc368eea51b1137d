"""Which transport serves a mount: each is loaded only when it is wanted."""

from contextlib import AbstractContextManager
from typing import Protocol

from fsdriver.filesystem import Filesystem
from fsdriver.mountoptions import MountOptions


class Transport(Protocol):
    """Between the kernel and one Filesystem."""

    def open(self, mountpoint: str, options: set[str], source: str) -> None:
        """Mount; raises OSError, RuntimeError or MountRefused when the system refuses."""
        ...

    async def serve(self) -> None:
        """Answer until the mount is gone or `stop` is called."""
        ...

    def stop(self) -> None:
        """End `serve`."""
        ...

    def close(self) -> None:
        """Unmount if that has not happened yet."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """The filesystem to oneself, between two requests."""
        ...

    def drop_caches(self, known: list[tuple[int, int, bytes]]) -> None:
        """Make the kernel forget (inode number, parent or 0, name); on a worker thread only."""
        ...


def make_transport(name: str, filesystem: Filesystem, options: MountOptions) -> Transport:
    """`name` is one of mountoptions.TRANSPORTS."""
    if name == "pyfuse3":
        from fsdriver.transport.pyfuse3 import Pyfuse3Transport  # noqa: PLC0415

        return Pyfuse3Transport(
            filesystem,
            entry_timeout=options.entry_timeout,
            attr_timeout=options.attr_timeout,
        )
    from fsdriver.transport.wire import WireTransport  # noqa: PLC0415

    return WireTransport(
        filesystem,
        entry_timeout=options.entry_timeout,
        attr_timeout=options.attr_timeout,
        writeback=options.writeback,
        awake=options.awake,
    )
