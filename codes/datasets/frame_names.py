"""File names of the frames of a video that is stored as a folder of images."""

import string
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FrameNames:
    """File names of the frames in a folder.

    Args:
        template: such as 'img_{:05d}.jpg', with exactly one field for the frame number.
        start_index: number of the first frame.

    Raises:
        ValueError: ``template`` does not have exactly one field for a number.
    """

    template: str
    start_index: int = 1
    prefix: str = field(init=False)
    suffix: str = field(init=False)

    def __post_init__(self) -> None:
        wrong = f'filename_tmpl={self.template!r} must have one field for the frame number, such as img_{{:05d}}.jpg'
        try:
            parts = list(string.Formatter().parse(self.template))
            self.template.format(1)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(wrong) from error
        fields = [index for index, (_, name, _, _) in enumerate(parts) if name is not None]
        if len(fields) != 1:
            raise ValueError(wrong)
        # A frozen dataclass needs object.__setattr__. The parts are stored because every file name is compared.
        object.__setattr__(self, 'prefix', ''.join(text for text, *_ in parts[: fields[0] + 1]))
        object.__setattr__(self, 'suffix', ''.join(text for text, *_ in parts[fields[0] + 1 :]))

    def number(self, name: str) -> int | None:
        """Return the frame number of a file name; None if it does not match the template."""
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return None
        digits = name[len(self.prefix) : len(name) - len(self.suffix)]
        if not (digits.isascii() and digits.isdigit()):
            return None
        number = int(digits)
        return number if self.template.format(number) == name else None

    def count(self, names: Iterable[str]) -> tuple[int, str | None]:
        """Count the frames among the files of a folder.

        Returns:
            The number of frames, and an error message about a wrong first number or a gap; None if there is no error.
        """
        numbers = {number for number in map(self.number, names) if number is not None}
        if not numbers:
            return 0, None
        first, last = min(numbers), max(numbers)
        if first != self.start_index:
            return len(numbers), f'the first frame has number {first}, expected {self.start_index}'
        missing = sorted(set(range(first, last + 1)) - numbers)
        if missing:
            more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
            return len(numbers), f'missing frames between {first} and {last}: {missing[0]}{more}'
        return len(numbers), None
