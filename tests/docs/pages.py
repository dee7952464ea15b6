"""The pages that the tests of this folder read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(file.relative_to(ROOT)): file.read_text()
    for file in sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])
    if '_build' not in file.parts
}


def code_blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, in their order."""
    return re.findall(rf'^```{language}\n(.*?)^```$', text, flags=re.M | re.S)
