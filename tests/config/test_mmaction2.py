import re
from pathlib import Path

from dsanet.config.mmaction2 import OURS
from dsanet.config.registry import REGISTRIES

PAGE = (Path(__file__).parents[2] / 'docs' / 'from_mmaction2.md').read_text().partition('## Types')[2]


def test_table_translates_foreign_names_to_registered_ones() -> None:
    classes = {name: cls for registry in REGISTRIES for name, cls in registry.module_dict.items()}
    assert not OURS.keys() & classes.keys()
    for name, ours in OURS.items():
        assert classes.keys() >= set(re.findall(r"type='(\w+)'", ours)), name


def test_page_has_every_line_of_the_table() -> None:
    rows = dict(re.findall(r'^\| `(\w+)` \| `(.*)` \|$', PAGE, flags=re.M))
    assert rows == OURS
