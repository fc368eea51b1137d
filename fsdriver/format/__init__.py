"""The bytes on disk, specified in FORMAT.md: pure functions of bytes, no I/O."""
