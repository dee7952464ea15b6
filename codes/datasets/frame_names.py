"""How the frames of a video are called that lie in a folder as pictures."""

import string
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FrameNames:
    """How the frames of a folder are called.

    Args:
        template: such as 'img_{:05d}.jpg', with one field for the number.
        start_index: number of the first frame.

    Raises:
        ValueError: ``template`` has not exactly one field, or its field takes no number.
    """

    template: str
    start_index: int = 1
    prefix: str = field(init=False)
    suffix: str = field(init=False)

    def __post_init__(self) -> None:
        wrong = f'filename_tmpl={self.template!r} must have one field for the number, as in img_{{:05d}}.jpg'
        try:
            parts = list(string.Formatter().parse(self.template))
            self.template.format(1)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(wrong) from error
        fields = [index for index, (_, name, _, _) in enumerate(parts) if name is not None]
        if len(fields) != 1:
            raise ValueError(wrong)
        # A frozen dataclass is set up like this; the parts are kept because every file name is compared with them.
        object.__setattr__(self, 'prefix', ''.join(text for text, *_ in parts[: fields[0] + 1]))
        object.__setattr__(self, 'suffix', ''.join(text for text, *_ in parts[fields[0] + 1 :]))

    def number(self, name: str) -> int | None:
        """Return which frame a file is; None if it is called otherwise."""
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return None
        digits = name[len(self.prefix) : len(name) - len(self.suffix)]
        if not (digits.isascii() and digits.isdigit()):
            return None
        number = int(digits)
        return number if self.template.format(number) == name else None

    def count(self, names: Iterable[str]) -> tuple[int, str | None]:
        """Count the frames of a folder.

        Args:
            names: all files of the folder.

        Returns:
            The number of frames, and what is wrong with their numbers or None. A gap would only show as an error in
            the middle of training.
        """
        numbers = {number for number in map(self.number, names) if number is not None}
        if not numbers:
            return 0, None
        first, last = min(numbers), max(numbers)
        if first != self.start_index:
            return len(numbers), f'the first frame is number {first}, not {self.start_index}'
        lacking = sorted(set(range(first, last + 1)) - numbers)
        if lacking:
            some = f'{lacking[0]}{f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""}'
            return len(numbers), f'frames {first} to {last} are there but for {some}'
        return len(numbers), None
