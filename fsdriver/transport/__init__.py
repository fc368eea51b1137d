"""Adapters from a FUSE transport to filesystem.py; they translate and decide nothing."""
