"""A chain of steps, checked when it is built."""

from collections.abc import Sequence

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform


class Compose:
    """Run steps one after the other.

    Args:
        transforms: the steps.
        provided: keys of the record that the chain starts from.
        owner: who provides them, for the error.

    Attributes:
        provides: all keys that are there at the end.

    Raises:
        TypeError: a step is no Transform.
        ValueError: a step needs a key that nothing before it gives, or that a step before it uses up.
    """

    def __init__(self, transforms: Sequence[Transform], provided: Sequence[str], owner: str) -> None:
        there = set(provided)
        used_up: dict[str, str] = {}
        for number, transform in enumerate(transforms):
            if not isinstance(transform, Transform):
                raise TypeError(f'step {number} of the pipeline must be a Transform object, got {transform!r}')
            step = f'step {number} {type(transform).__name__}'
            for key in transform.requires:
                if key in there:
                    continue
                if key in used_up:
                    raise ValueError(f'{step} needs {key}, which {used_up[key]} uses up')
                raise ValueError(f'{step} needs {key}, which neither {owner} nor an earlier step gives{_givers(key)}')
            there |= set(transform.provides)
            there -= set(transform.removes)
            used_up |= {key: step for key in transform.removes}
        self.transforms = list(transforms)
        self.provides = frozenset(there)

    def __call__(self, record: Record) -> Record:
        """Run all steps. A reader that is still open at the end, or after an error, is closed.

        Raises:
            TypeError: a step returns something else than a record.
        """
        try:
            for number, transform in enumerate(self.transforms):
                result = transform(record)
                if not isinstance(result, dict):
                    raise TypeError(
                        f'step {number} {type(transform).__name__} returned {result!r:.60} instead of the record; does '
                        'its __call__ end with `return record`?'
                    )
                record = result
        finally:
            if 'reader' in record:
                record.pop('reader').close()
        return record


def _givers(key: str) -> str:
    names = sorted(name for name, cls in TRANSFORMS.module_dict.items() if key in getattr(cls, 'provides', ()))
    return f'; {" or ".join(names)} gives it' if names else ''
