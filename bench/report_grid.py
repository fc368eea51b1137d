"""A table as it is, and as rich, Markdown and HTML show it. Pure, but for what rich draws."""

import html
from typing import Literal

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

Tone = Literal["", "good", "bad", "muted"]

_STYLES: dict[Tone, str] = {"": "", "good": "green", "bad": "red", "muted": "dim"}


class Cell(msgspec.Struct, frozen=True):
    """One field."""

    text: str
    strong: bool = False
    tone: Tone = ""


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Named columns; the first one names the row and stands left, figures stand right."""

    title: str
    note: str = ""
    """How to read it."""
    header: list[str]
    rows: list[list[Cell]]
    words: int = 1
    """So many columns at the left hold words, not figures."""


def markdown(grid: Grid, *, level: int = 3) -> str:
    """A heading, the note, a table; ends with a line break."""
    lines = [f"{'#' * level} {grid.title}", ""]
    if grid.note:
        lines += [grid.note, ""]
    lines.append(_line(grid.header))
    lines.append(_line([_rule(at < grid.words) for at in range(len(grid.header))]))
    lines += [_line([_marked(cell) for cell in row]) for row in grid.rows]
    return "\n".join(lines) + "\n"


def _rule(is_word: bool) -> str:
    return "---" if is_word else "---:"


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _marked(cell: Cell) -> str:
    text = cell.text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return f"**{text}**" if cell.strong and text else text


def table(grid: Grid) -> Table:
    """For a terminal."""
    drawn = Table(
        title=grid.title,
        caption=grid.note or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
    )
    for at, name in enumerate(grid.header):
        side: Literal["left", "right"] = "left" if at < grid.words else "right"
        drawn.add_column(name, justify=side, no_wrap=not at)
    for row in grid.rows:
        drawn.add_row(*(_styled(cell) for cell in row))
    return drawn


def _styled(cell: Cell) -> Text:
    return Text(cell.text, style=f"{'bold ' if cell.strong else ''}{_STYLES[cell.tone]}".strip())


def as_html(grid: Grid) -> str:
    """A section with a heading and a table."""
    parts = [f"<section><h3>{html.escape(grid.title)}</h3>"]
    if grid.note:
        parts.append(f"<p>{html.escape(grid.note)}</p>")
    parts.append('<div class="wide"><table><thead><tr>')
    parts += [
        f'<th scope="col"{_side(at, grid)}>{html.escape(name)}</th>'
        for at, name in enumerate(grid.header)
    ]
    parts.append("</tr></thead><tbody>")
    for row in grid.rows:
        parts.append("<tr>")
        parts += [_field(at, cell, grid) for at, cell in enumerate(row)]
        parts.append("</tr>")
    parts.append("</tbody></table></div></section>\n")
    return "".join(parts)


def _side(at: int, grid: Grid) -> str:
    return ' class="word"' if at < grid.words else ""


def _field(at: int, cell: Cell, grid: Grid) -> str:
    text = html.escape(cell.text)
    if cell.strong:
        text = f"<strong>{text}</strong>"
    if not at:
        return f'<th scope="row" class="word">{text}</th>'
    classes = " ".join(one for one in ("word" if at < grid.words else "", cell.tone) if one)
    return f'<td class="{classes}">{text}</td>' if classes else f"<td>{text}</td>"
