"""ckfs: a mounted plaintext view of a store of encrypted backing files."""

__version__ = "0.1.0"
