"""A report as Markdown, and its place in RESULTS.md. Pure."""

from bench.report_grid import markdown
from bench.report_sections import Section


class AlreadyThere(Exception):
    """The section is in the file."""


def text(section: Section, *, details: bool = False) -> str:
    """A heading of the second level, the facts, the tables; ends with a line break."""
    parts = [f"## {section.title}\n", "".join(f"- {fact}\n" for fact in section.facts)]
    parts += [markdown(one) for one in section.tables]
    if details:
        parts += [markdown(one) for one in section.details]
    return "\n".join(parts)


def appended(results: str, sections: list[Section]) -> str:
    """RESULTS.md with new sections at its end. Raises AlreadyThere."""
    lines = set(results.splitlines())
    for section in sections:
        if f"## {section.title}" in lines:
            raise AlreadyThere(section.title)
    return results.rstrip("\n") + "\n\n" + "\n".join(text(one) for one in sections)
