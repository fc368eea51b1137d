"""Every state that a killed driver or a power cut can leave the store in, and whether it is kept.

In process and in memory: a workload runs on the real driver over a model of the store's
filesystem, which records every backing call with its effects (`memory`, `image`). From the
recording come the crash states (`cuts`): the model of what a disk keeps. Each is mounted by the
real driver again (`mounting`), and what it shows (`looking`) is held against what POSIX
and the design promise (`oracle`). The idea is that of ALICE (which reorderings are legal) and of
CrashMonkey's ACE (bounded, but exhaustive workloads).

    python -m tests.crash.states              every state of every workload of two operations
    python -m tests.crash.states --help       three operations, one workload, one state again
"""
