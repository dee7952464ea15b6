import re
from pathlib import Path

from dsanet.config.mmaction2 import EQUIVALENTS
from dsanet.config.registry import REGISTRIES

DOCS = (Path(__file__).parents[2] / 'docs' / 'from_mmaction2.md').read_text().partition('## Types')[2]


def test_table_maps_to_registered_names() -> None:
    classes = {name: cls for registry in REGISTRIES for name, cls in registry.module_dict.items()}
    assert not EQUIVALENTS.keys() & classes.keys()
    for name, ours in EQUIVALENTS.items():
        assert classes.keys() >= set(re.findall(r"type='(\w+)'", ours)), name


def test_docs_show_the_whole_table() -> None:
    rows = dict(re.findall(r'^\| `(\w+)` \| `(.*)` \|$', DOCS, flags=re.M))
    assert rows == EQUIVALENTS
