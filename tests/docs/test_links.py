"""Links lead somewhere, and every page can be reached from the README."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, Page, every_page, page


@pytest.mark.parametrize("one", every_page(), ids=lambda one: str(one.path.relative_to(ROOT)))
def test_links_resolve(one: Page) -> None:
    for link in one.links():
        if "://" in link:
            continue
        place, _, name = link.partition("#")
        target = (one.path.parent / place).resolve() if place else one.path
        assert target.exists(), f"{one.path.name} links to {link}"
        assert target.is_relative_to(ROOT)
        if name:
            assert name in Page(target).anchors(), f"{one.path.name} links to {link}"


def test_every_page_is_linked() -> None:
    linked = set()
    for one in every_page():
        for link in one.links():
            if "://" not in link:
                linked.add((one.path.parent / link.partition("#")[0]).resolve())
    for one in every_page():
        # a linked folder stands for the pages in it
        assert {one.path, one.path.parent} & linked or one.path == page("README.md").path, one.path.name
