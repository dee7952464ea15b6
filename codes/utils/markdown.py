"""Tables in Markdown."""

from collections.abc import Callable, Sequence


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """Return a table; the first ``num_left`` columns are aligned left, the others right."""
    escaped = [[cell.replace('|', '\\|') for cell in row] for row in [titles, *rows]]
    widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    num_right = len(titles) - num_left
    align: list[Callable[[str, int], str]] = [*[str.ljust] * num_left, *[str.rjust] * num_right]
    cells = [[put(cell, width) for put, cell, width in zip(align, row, widths, strict=True)] for row in escaped]
    rule = ['-' * width for width in widths[:num_left]] + ['-' * (width - 1) + ':' for width in widths[num_left:]]
    return '\n'.join(f'| {" | ".join(row)} |' for row in [cells[0], rule, *cells[1:]])
