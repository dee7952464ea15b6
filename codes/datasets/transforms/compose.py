"""A sequence of transforms that is checked when it is built."""

from collections.abc import Sequence

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform
from dsanet.datasets.transforms.frame_steps import DecodingStep, steps_while_decoding


class Compose:
    """Apply transforms one after another.

    Args:
        transforms: the steps.
        provided: keys of the initial record.
        owner: name of the class that provides them, for the error message.

    Attributes:
        provides: keys of the final record.
    """

    def __init__(self, transforms: Sequence[Transform], provided: Sequence[str], owner: str) -> None:
        keys = set(provided)
        removed_by: dict[str, str] = {}
        for number, transform in enumerate(transforms):
            if not isinstance(transform, Transform):
                raise TypeError(f'pipeline step {number} must be a Transform object, got {transform!r}')
            step = f'step {number} {type(transform).__name__}'
            for key in transform.requires:
                if key in keys:
                    continue
                if key in removed_by:
                    raise ValueError(f'pipeline {step} requires {key!r}, which {removed_by[key]} removes')
                raise ValueError(
                    f'pipeline {step} requires {key!r}, which neither {owner} nor an earlier step provides'
                    f'{_providers_hint(key)}'
                )
            keys |= set(transform.provides)
            keys -= set(transform.removes)
            removed_by |= {key: step for key in transform.removes}
        self.transforms = list(transforms)
        self.provides = frozenset(keys)

    def __call__(self, record: Record) -> Record:
        """Apply all steps, and close a reader that is still open at the end or after an error."""
        try:
            number = 0
            while number < len(self.transforms):
                transform = self.transforms[number]
                steps = steps_while_decoding(self.transforms, number)
                if steps and isinstance(transform, DecodingStep):
                    result = transform.decode(record, steps)
                else:
                    result = transform(record)
                if not isinstance(result, dict):
                    raise TypeError(
                        f'pipeline step {number} {type(transform).__name__} returned {result!r:.60} instead of the '
                        'record; its __call__ must end with `return record`'
                    )
                record = result
                number += 1 + len(steps)
        finally:
            if 'reader' in record:
                record.pop('reader').close()
        return record


def _providers_hint(key: str) -> str:
    names = sorted(name for name, cls in TRANSFORMS.module_dict.items() if key in getattr(cls, 'provides', ()))
    return f'; provided by {" or ".join(names)}' if names else ''
