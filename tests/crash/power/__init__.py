"""Real power cuts under a mounted store: disks, programs that work on it, and what they may find.

`python -m tests.crash.power --help` runs as many cuts as wanted.
"""
