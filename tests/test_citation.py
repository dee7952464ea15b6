"""CITATION.cff agrees with the package and with README.md; make lint checks its format."""

import re
import sys
from pathlib import Path

import dsanet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SOFTWARE, PAPER = (ROOT / 'CITATION.cff').read_text().split('preferred-citation:\n')


def fields(text: str, indent: str = '') -> dict[str, str]:
    """Return the plain values at one level of a YAML file."""
    return {key: value.strip('"') for key, value in re.findall(rf'^{indent}([\w-]+): *(\S.*)$', text, flags=re.M)}


def test_software_agrees_with_the_package() -> None:
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    found = fields(SOFTWARE)
    assert found['version'] == dsanet.__version__
    assert found['title'].lower() == project['name']
    assert found['license'] == project['license']
    assert found['abstract'] == project['description']


def test_software_has_the_authors_of_the_docs() -> None:
    name = re.search(r"^copyright = '(.*)'$", (ROOT / 'docs/conf.py').read_text(), flags=re.M)
    assert name is not None
    assert re.findall(r'- name: (.*)', SOFTWARE.replace('The ', 'the ')) == [name[1]]


def test_paper_agrees_with_the_readme() -> None:
    entry = re.search(r'^```bibtex\n(.*?)^```$', (ROOT / 'README.md').read_text(), flags=re.M | re.S)
    assert entry is not None
    found = re.findall(r'(\w+) += \{(.*?)\}', entry[1], flags=re.S)
    bibtex = {key: ' '.join(value.split()) for key, value in found}
    paper = fields(PAPER, '  ')
    assert {key: paper[key] for key in ('title', 'year')} == {key: bibtex[key] for key in ('title', 'year')}
    assert paper['collection-title'] == bibtex['booktitle']
    authors = re.findall(r'\{family-names: (.*), given-names: (.*)\}', PAPER)
    assert [f'{family}, {given}' for family, given in authors] == bibtex['author'].split(' and ')
