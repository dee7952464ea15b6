"""Parts of layouts: rename the keys of weights, and look at them."""

import re
from collections.abc import Callable, Mapping, Set

from torch import Tensor

State = Mapping[str, Tensor]
Translation = Callable[[State, Set[str]], dict[str, Tensor]]

BACKBONE = 'backbone.'
HEAD = 'cls_head.'


def rename(*patterns: tuple[str, str]) -> Translation:
    """Return a translation that applies (pattern, replacement) pairs to each key in order.

    Then it adds ``backbone.`` to the keys of a file with a backbone only, except to the image classifier ``fc``.
    """

    def translate(state: State, target: Set[str]) -> dict[str, Tensor]:
        is_backbone = not any(key.startswith(BACKBONE) for key in state)
        renamed: dict[str, Tensor] = {}
        for key, value in state.items():
            new = key
            for pattern, replacement in patterns:
                new = re.sub(pattern, replacement, new)
            if is_backbone and not new.startswith((HEAD, 'fc.')):
                new = BACKBONE + new
            if new in renamed:
                raise ValueError(f'{key!r} and another key both translate to {new!r}')
            renamed[new] = value
        return renamed

    return translate


def ndim(state: State, key: str) -> int:
    """Return the number of dimensions of a weight, 0 if it does not exist."""
    return state[key].dim() if key in state else 0


def has_key(pattern: str) -> Callable[[State], bool]:
    """Return a function that tests whether a key of the weights matches a regular expression."""
    compiled = re.compile(pattern)
    return lambda state: any(compiled.search(key) for key in state)
