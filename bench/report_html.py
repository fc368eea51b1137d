"""One page that needs nothing else: no network, no scripts, plots inside, light and dark. Pure."""

import base64
import html
import re
from typing import Final

from bench.report_grid import as_html
from bench.report_sections import Plot, Section

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --soft: #59636e;
  --line: #d1d9e0; --band: #f6f8fa; --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181c; --soft: #9aa4af;
  --line: #3d444d; --band: #1e2126; --good: #4ac26b; --bad: #ff7b72; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
.facts { color: var(--soft); } .facts li:first-child { color: var(--ink); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.875rem; }
th, td { padding: 0.3rem 0.7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tbody tr:hover { background: var(--band); }
.word { text-align: left; white-space: normal; min-width: 8rem; } tbody th { font-weight: 400; }
.good { color: var(--good); } .bad { color: var(--bad); } .muted { color: var(--soft); }
img { max-width: 100%; height: auto; } figure { margin: 1.5rem 0; }
summary { cursor: pointer; margin: 1rem 0; }
"""
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(sections: list[Section], *, drawn: dict[tuple[str, str], bytes]) -> str:
    """`drawn`: (name of the plot, theme) -> PNG; a plot that is not there is left out."""
    body = "".join(_section(one, drawn) for one in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>ckfs: measurements</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>ckfs: measurements</h1>\n{body}</body></html>\n"
    )


def _section(section: Section, drawn: dict[tuple[str, str], bytes]) -> str:
    facts = "".join(f"<li>{_coded(fact)}</li>" for fact in section.facts)
    parts = [f'<h2>{_coded(section.title)}</h2>\n<ul class="facts">{facts}</ul>\n']
    parts += [_plot(plot, drawn) for plot in section.plots]
    parts += [as_html(one) for one in section.tables]
    if section.details:
        inner = "".join(as_html(one) for one in section.details)
        parts.append(f"<details><summary>Details</summary>{inner}</details>\n")
    return "".join(parts)


def _coded(text: str) -> str:
    """Words between backticks are commands."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _plot(plot: Plot, drawn: dict[tuple[str, str], bytes]) -> str:
    light, dark = drawn.get((plot.name, "light")), drawn.get((plot.name, "dark"))
    if light is None or dark is None:
        return ""
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_inline(dark)}">'
        f'<img src="{_inline(light)}" alt="{html.escape(plot.text, quote=True)}">'
        "</picture></figure>\n"
    )


def _inline(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
