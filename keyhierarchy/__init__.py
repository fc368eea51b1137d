"""From a root key down to a file key: synchronous, and ignorant of FUSE and of event loops."""
