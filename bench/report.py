"""`python -m bench report`: tables, plots, a page, and RESULTS.md, from the files of measurements.

A measurement that has just ended calls `present` itself.
"""

import sys
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from bench import report_html, report_text
from bench.figures import Run
from bench.report_files import Document, Unreadable, load
from bench.report_grid import table
from bench.report_sections import Section, sections

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
_THEMES: Final = ("light", "dark")


def run(
    files: list[Path], *, to: Path | None = None, append: bool = False, as_json: bool = False
) -> None:
    """Read the files, say what they say. Ends the program with a sentence if it cannot."""
    try:
        documents = [one for file in files for one in load(file)]
    except Unreadable as error:
        raise SystemExit(f"report: {error}") from None
    present(documents, to=to, append=append, as_json=as_json)


def present(
    documents: list[Document],
    *,
    to: Path | None = None,
    append: bool = False,
    as_json: bool = False,
) -> None:
    """Tables on standard output: drawn on a terminal, Markdown elsewhere, or JSON.

    `to`: a folder for report.html, report.md, report.json and the plots. `append`: to RESULTS.md.
    """
    try:
        found = sections(documents)
    except ValueError as error:
        raise SystemExit(f"report: {error}") from None
    if to is not None:
        _write(found, to)
        print(f"written: {to / 'report.html'}", file=sys.stderr)
    if as_json:
        sys.stdout.buffer.write(_for_machines(found))
    elif sys.stdout.isatty():
        _draw(found)
    else:
        print("\n".join(report_text.text(one) for one in found))
    if append:
        _append(documents, found)


def _for_machines(found: list[Section]) -> bytes:
    raw = msgspec.json.encode([one.machine_readable for one in found])
    return msgspec.json.format(raw, indent=1) + b"\n"


def _draw(found: list[Section]) -> None:
    console = Console(highlight=False)
    for section in found:
        console.rule(Text(section.title), align="left")
        for fact in section.facts:
            console.print(fact, markup=False)
        for one in section.tables:
            console.print(table(one))


def _write(found: list[Section], to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    drawn = _plots(found)
    for (name, theme), image in drawn.items():
        if theme == "light":
            (to / f"{name}.png").write_bytes(image)
    (to / "report.html").write_text(report_html.page(found, drawn=drawn), encoding="utf-8")
    texts = "\n".join(report_text.text(one, details=True) for one in found)
    (to / "report.md").write_text(texts, encoding="utf-8")
    (to / "report.json").write_bytes(_for_machines(found))


def _plots(found: list[Section]) -> dict[tuple[str, str], bytes]:
    try:
        return {
            (plot.name, theme): plot.draw(theme)
            for section in found
            for plot in section.plots
            for theme in _THEMES
        }
    except ModuleNotFoundError as error:
        print(
            f"report: no plots, since {error.name} is not installed: pip install 'ckfs[bench]'",
            file=sys.stderr,
        )
        return {}


def _append(documents: list[Document], found: list[Section]) -> None:
    if any(isinstance(one, Run) and one.quick for one in documents):
        raise SystemExit(
            "report: a quick run is no claim, so it is not appended to RESULTS.md; measure without "
            "--quick"
        )
    try:
        text = report_text.appended(RESULTS.read_text(encoding="utf-8"), found)
    except report_text.AlreadyThere as error:
        raise SystemExit(f"report: RESULTS.md has it already: {error}") from None
    RESULTS.write_text(text, encoding="utf-8")
    print(f"appended to {RESULTS}", file=sys.stderr)
