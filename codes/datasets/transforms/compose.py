"""A sequence of transforms that is checked when it is built."""

from collections.abc import Sequence

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform
from dsanet.datasets.transforms.frame_steps import DecodingStep, is_decoding, steps_while_decoding


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
        return self.make_clips([record])[0]

    def make_clips(self, records: Sequence[Record]) -> Sequence[Record]:
        """Apply all steps to the records of several clips of one video, whose frames are decoded together.

        Args:
            records: they differ in ``rng`` only. The results are the same as for one record after the other.
        """
        if len(records) > 1 and not any(map(is_decoding, self.transforms)):
            return [self(record) for record in records]
        try:
            number = 0
            while number < len(self.transforms):
                transform = self.transforms[number]
                steps = steps_while_decoding(self.transforms, number)
                if isinstance(transform, DecodingStep) and is_decoding(transform):
                    records = transform.decode(records, steps)
                elif len(records) > 1 and 'reader' in transform.provides:  # opened once
                    opened = self._apply(number, records[0])
                    shared = {key: opened[key] for key in transform.provides}
                    records = [opened, *(record | shared for record in records[1:])]
                else:
                    records = [self._apply(number, record) for record in records]
                number += 1 + len(steps)
        finally:
            for record in records:
                if 'reader' in record:
                    record.pop('reader').close()
        return records

    def _apply(self, number: int, record: Record) -> Record:
        transform = self.transforms[number]
        result = transform(record)
        if not isinstance(result, dict):
            raise TypeError(
                f'pipeline step {number} {type(transform).__name__} returned {result!r:.60} instead of the '
                'record; its __call__ must end with `return record`'
            )
        return result


def _providers_hint(key: str) -> str:
    names = sorted(name for name, cls in TRANSFORMS.module_dict.items() if key in getattr(cls, 'provides', ()))
    if key == 'fps':
        return '; provided by OpenVideo, or by RawFramesDataset if its option fps is set'
    return f'; provided by {" or ".join(names)}' if names else ''
