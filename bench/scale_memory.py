"""What a driver holds once so many files were touched: the third question of `bench scale`."""

from bench.figures import Run
from bench.report_grid import Cell, Grid
from bench.report_units import NONE, memory


def touched(run: Run) -> Grid | None:
    """Most memory up to the end of the reads, by shape and number of files; None without any."""
    rows = [row for row in run.rows if row.scale and (row.curve or "").startswith("read, ")]
    if not rows:
        return None
    names = [system.name for system in run.systems]
    lines = []
    for row in rows:
        peaks = {one.system: one.peak_memory for one in row.samples if one.seconds}
        cells = [Cell(memory(peaks[name]) if peaks.get(name) else NONE) for name in names]
        shape = (row.curve or "").removeprefix("read, ")
        lines.append([Cell(shape), Cell(f"{row.scale:,}"), *cells])
    return Grid(
        title="Memory",
        note="Most that the driver held (VmHWM) from a mount on, after every file was stated, "
        "opened and read.",
        header=["shape", "files", *names],
        rows=lines,
        words=2,
    )
