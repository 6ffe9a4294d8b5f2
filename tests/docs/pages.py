"""The project's pages, taken apart: headings, fenced blocks, tables, links."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """Without fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    def headings(self) -> list[str]:
        return re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)

    def anchors(self) -> set[str]:
        """What `#…` may name, by the rule of the usual Markdown viewers."""
        return {anchor(heading) for heading in self.headings()}

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    def section(self, heading: str) -> str:
        """The text below a heading, up to the next one of any level."""
        found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", self.text, re.MULTILINE | re.DOTALL)
        assert found, f"{self.path.name} has no heading {heading!r}"
        return found[1]

    def first_cells(self, heading: str) -> list[str]:
        """What is in `backquotes` in the first column of the tables below a heading."""
        rows = re.findall(r"^\| (`.*?)\|", self.section(heading), re.MULTILINE)
        return [cell for row in rows for cell in re.findall(r"`([^`]+)`", row)]


def anchor(heading: str) -> str:
    words = "".join(c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return words.replace(" ", "-")


def page(name: str) -> Page:
    return Page(ROOT / name)


def every_page() -> list[Page]:
    paths = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path) for path in paths]
