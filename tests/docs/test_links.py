"""Links between the pages, on GitHub and on the website."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST build them."""
    text = re.sub(r'^```.*?^```$', '', text, flags=re.M | re.S)
    headings = re.findall(r'^#+ (.*)$', text, flags=re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES)
def test_relative_links_have_a_target(page: str) -> None:
    for link in re.findall(r'\]\(([^)\s]+)\)', PAGES[page]):
        if link.startswith(('https://', 'http://')):
            continue
        path, _, anchor = link.partition('#')
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file.read_text()), link


def test_readme_links_every_page_of_the_guide() -> None:
    index = re.findall(r'^(\w+)$', PAGES['docs/index.md'], flags=re.M)
    assert len(index) > 15
    linked = re.findall(r'\]\(docs/(\w+)\.md', PAGES['README.md'])
    assert set(index) - set(linked) == {'contributing', 'changelog'}
