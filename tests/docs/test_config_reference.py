"""docs/config_reference.md has all sections and all registered types."""

import re

from dsanet.config import registry
from dsanet.config.schema import LOADERS, SECTIONS
from tests.docs.pages import PAGES

PAGE = PAGES['docs/config_reference.md']


def test_table_has_all_sections() -> None:
    rows = re.findall(r'^\| ((?:`\w+`(?:, )?)+) \|', PAGE, flags=re.M)
    assert set(re.findall(r'\w+', ' '.join(rows))) == set(SECTIONS)
    for name in LOADERS:
        assert name in re.findall(r'^## (.*)$', PAGE, flags=re.M)[3]


def test_type_tables_cover_all_types() -> None:
    tables = re.findall(r'^```\{type-table\} (\w+) (\S+)$', PAGE, flags=re.M)
    for one in registry.REGISTRIES:
        name = next(key for key, value in vars(registry).items() if value is one)
        homes = [home for table, home in tables if table == name]
        for key, cls in one.module_dict.items():
            if cls.__module__.startswith(('dsanet.', 'torch.')):
                assert sum(f'{cls.__module__}.'.startswith(f'{home}.') for home in homes) == 1, (name, key)
