"""The versions in docs/getting_started.md and README.md against pyproject.toml."""

import re
import sys

from tests.docs.pages import PAGES, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
PACKAGES = {'PyAV': 'av', 'OpenCV': 'opencv-python'}


def oldest_versions() -> dict[str, str]:
    """Return the smallest version that pyproject.toml allows, by the name of the package."""
    found = [re.match(r'([\w-]+)>=([\d.]+)', requirement) for requirement in PROJECT['dependencies']]
    return {match[1]: match[2] for match in found if match} | {'Python': PROJECT['requires-python'].removeprefix('>=')}


def test_oldest_versions_are_those_of_pyproject() -> None:
    section = PAGES['docs/getting_started.md'].split('\n### Versions\n')[1].split('\n## ')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in section.splitlines() if '|' in line]
    table = {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows if row[0]}
    versions = oldest_versions()
    names = ('Python', 'torch', 'torchvision', 'numpy', 'PyAV', 'OpenCV')
    assert {name: table['oldest'][name] for name in names} == {
        name: versions[PACKAGES.get(name, name)] for name in names
    }


def test_pages_name_the_required_pytorch() -> None:
    text = f'Python {oldest_versions()["Python"]} or newer and PyTorch {oldest_versions()["torch"]} or newer'
    assert all(text in ' '.join(PAGES[page].split()) for page in ('README.md', 'docs/getting_started.md'))
