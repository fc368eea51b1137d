"""Measurements: ratios of one run, alternated, medians.

`make bench-peers` installs what is compared with; as root:

    python -m bench mounted --quick                 a look, on a tmpfs
    python -m bench mounted --where both --json F   all rows, all systems, tmpfs and disk
    python -m bench mounted --rows small,rsync --systems ckfs,gocryptfs
    python -m bench scale                           a file's cost among 1,000 to 100,000 files
    python -m bench report F --to DIR --append      tables, plots, RESULTS.md

`mounted.py` takes the turns, `mounted_turn.py` times one, `mounted_place.py` is where it happens;
`workloads/` is what a client does, `peers/` whom it does it to, `figures.py` what is kept.
"""
