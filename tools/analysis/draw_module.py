"""Draw the DSA module for the README, as SVG text.

    python tools/analysis/draw_module.py

writes ``docs/images/dsa_module.svg``. Three panels: snippets that share a network, the DSA module, and its
places in a bottleneck. The picture brings its own light background, so it can be read in dark mode as well.

Letters as in ``codes``: N videos, V views, U snippets, T frames, C channels, H, W pixels, L kernel length;
C1 of the C channels are aggregated, and a is the ``expansion`` of the kernel generator. Drawn for V = 1.
"""

import argparse
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

DEFAULT_OUT = Path(__file__).resolve().parents[2] / 'docs/images/dsa_module.svg'

WIDTH, HEIGHT = 1120, 660
TOP, BOTTOM = 20, HEIGHT - 20  # of the panels
FONT = 'Helvetica, Arial, sans-serif'

PAPER = '#fbfaf7'
PANEL = '#ffffff'
INK = '#2b3440'
MUTED = '#66707c'
LINE = '#8b95a1'
EDGE = '#d5d9de'
BLUE, BLUE_EDGE = '#dbe8f5', '#6f9bc6'  # a snippet, an aggregated channel
GREY, GREY_EDGE = '#eceef0', '#a9b1ba'  # untouched channels, ordinary layers
AMBER, AMBER_EDGE = '#fbe6c4', '#d79a3b'  # DSA and its kernels

PLACES = ('before_conv1', 'before_conv2', 'before_conv3', 'before_add', 'after_block')
DEFAULT_PLACE = 'before_conv2'
BOLD_ROW = 1  # the snippet whose weighted sum is drawn bold

Point = tuple[float, float]


class Canvas:
    """Collects SVG elements in the order in which they are painted."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def add(self, name: str, content: str | None = None, **attributes: object) -> None:
        """Append one element; underscores in attribute names stand for hyphens."""
        written = ''
        for key, value in attributes.items():
            shown = f'{value:g}' if isinstance(value, float) else str(value)
            written += f' {key.replace("_", "-")}={quoteattr(shown)}'
        self.elements.append(f'<{name}{written}/>' if content is None else f'<{name}{written}>{content}</{name}>')

    def box(self, x: float, y: float, width: float, height: float, fill: str, edge: str, radius: float = 5) -> None:
        self.add('rect', x=x, y=y, width=width, height=height, rx=radius, fill=fill, stroke=edge)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int = 15,
        fill: str = INK,
        anchor: str = 'middle',
        weight: str = 'normal',
    ) -> None:
        """Write one line; ``y`` is its baseline. ``_{...}`` sets a subscript."""
        self.add(
            'text',
            _with_subscripts(words, size),
            x=x,
            y=y,
            font_size=size,
            fill=fill,
            text_anchor=anchor,
            font_weight=weight,
        )

    def labelled_box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str,
        fill: str = GREY,
        edge: str = GREY_EDGE,
    ) -> None:
        self.box(x, y, width, height, fill, edge)
        self.text(x + width / 2, y + height / 2 + 5, words)

    def line(self, *points: Point, colour: str = LINE, width: float = 1.6, arrow: bool = True) -> None:
        """Draw a polyline, by default with an arrow head at its end."""
        path = 'M' + ' L'.join(f'{x:g},{y:g}' for x, y in points)
        head = {'marker_end': 'url(#head)'} if arrow else {}
        self.add('path', d=path, fill='none', stroke=colour, stroke_width=width, **head)

    def circle(self, x: float, y: float, radius: float, fill: str, edge: str) -> None:
        self.add('circle', cx=x, cy=y, r=radius, fill=fill, stroke=edge)

    def panel(self, x: float, width: float, title: str, subtitle: str) -> None:
        self.box(x, TOP, width, BOTTOM - TOP, PANEL, EDGE, radius=10)
        self.text(x + width / 2, TOP + 32, title, size=19, weight='bold')
        self.text(x + width / 2, TOP + 55, subtitle, fill=MUTED)

    def svg(self, title: str, description: str) -> str:
        """Return the whole document."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" font-family="{FONT}" role="img">'
        )
        marker = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{LINE}"/>'
            '</marker></defs>'
        )
        parts = [head, f'<title>{escape(title)}</title>', f'<desc>{escape(description)}</desc>', marker]
        return '\n'.join([*parts, *self.elements, '</svg>']) + '\n'


def _with_subscripts(words: str, size: int) -> str:
    """Escape text, and set what stands in ``_{...}`` lower and smaller."""
    first, *others = words.split('_{')
    written = escape(first)
    for other in others:
        low, rest = other.split('}', 1)
        space = size // 4 if rest.startswith(' ') else 0  # as a character, some renderers drop it here
        written += (
            f'<tspan dy="4" font-size="{size - 3}">{escape(low)}</tspan>'
            f'<tspan dx="{space}" dy="-4">{escape(rest.lstrip())}</tspan>'
        )
    return written


def draw_snippets(canvas: Canvas, left: float, width: float) -> None:
    """Left panel: each snippet goes through the same layers, and DSA alone reaches across them."""
    canvas.panel(left, width, 'Video', 'U = 4 snippets of T frames')
    top, pitch = 118, 114
    dsa_x, dsa_width = left + 160, 36
    for snippet in range(4):
        y = top + snippet * pitch
        for frame in reversed(range(4)):
            canvas.box(left + 16 + 6 * frame, y + 6 * (3 - frame), 46, 46, BLUE, BLUE_EDGE, radius=3)
        canvas.text(left + 39, y + 46, f'u = {snippet}', size=14)
        middle = y + 33
        canvas.line((left + 82, middle), (left + 95, middle))
        canvas.labelled_box(left + 96, middle - 17, 50, 34, 'conv1')
        canvas.line((left + 146, middle), (dsa_x - 1, middle))
        canvas.line((dsa_x + dsa_width, middle), (left + 209, middle))
        canvas.labelled_box(left + 210, middle - 17, 50, 34, 'conv2')
    canvas.box(dsa_x, top - 6, dsa_width, 3 * pitch + 78, AMBER, AMBER_EDGE)
    canvas.text(dsa_x + dsa_width / 2, top + 1.5 * pitch + 38, 'DSA', size=14, weight='bold')
    canvas.text(left + width / 2, BOTTOM - 47, 'Convolutions see one snippet')
    canvas.text(left + width / 2, BOTTOM - 26, 'at a time, DSA all of them.')


def draw_dsa(canvas: Canvas, left: float, width: float) -> None:
    """Middle panel: channels split, a generated kernel slides along the snippets, channels join again."""
    canvas.panel(left, width, 'Dynamic Segment Aggregation', 'input and output: (N·U, C, T, H, W)')
    inner_left, inner_right = left + 20, left + width - 20
    tensor_width, tensor_top = 74, 300
    draw_kernel_generator(canvas, inner_left, inner_right - inner_left)

    draw_tensor(canvas, inner_left, tensor_top, tensor_width, 'split', BLUE, BLUE_EDGE)
    draw_tensor(canvas, inner_right - tensor_width, tensor_top, tensor_width, 'concat', AMBER, AMBER_EDGE)
    canvas.line((inner_left + 37, tensor_top), (inner_left + 37, 193))

    snippets_left, snippets_right = left + 172, left + width - 132
    middle = draw_aggregation(canvas, snippets_left, snippets_right, tensor_top)
    canvas.line((inner_left + tensor_width, middle), (snippets_left - 8, middle))
    canvas.line((snippets_right + 8, middle), (inner_right - tensor_width - 1, middle))
    draw_kernel(canvas, (snippets_left + snippets_right) / 2, 262, arrow_from=(inner_right - 52, 192))

    y = tensor_top + 232
    canvas.line((inner_left + tensor_width, y), (inner_right - tensor_width - 1, y))
    canvas.text(left + width / 2, y - 8, 'untouched', fill=MUTED)
    canvas.text(left + width / 2, BOTTOM - 47, 'y[u] = Σ_{k} θ[k] · x[u + k − ⌊L/2⌋]', size=17)
    canvas.text(left + width / 2, BOTTOM - 22, 'zero outside of the video', fill=MUTED)


def draw_kernel_generator(canvas: Canvas, left: float, width: float) -> None:
    """Top of the middle panel: pooled channels become one kernel per video and channel."""
    top = 92
    canvas.box(left, top, width, 114, PAPER, EDGE, radius=8)
    canvas.text(left + 14, top + 25, 'Kernel generator', anchor='start', weight='bold')
    canvas.text(left + width - 14, top + 25, 'one kernel per video and channel', fill=MUTED, anchor='end')
    layers = ('pool T, H, W', 'Linear', 'BN, ReLU', 'Linear', 'softmax')
    sizes = ('N·C_{1} × U', 'U → aU', '', 'aU → L', 'over L')
    widths = (108, 64, 82, 64, 76)
    gap = (width - 28 - sum(widths)) / (len(widths) - 1)
    x = left + 14
    for index, (layer, size, box_width) in enumerate(zip(layers, sizes, widths, strict=True)):
        canvas.text(x + box_width / 2, top + 54, size, size=14, fill=MUTED)
        canvas.labelled_box(x, top + 64, box_width, 36, layer)
        if index < len(layers) - 1:
            canvas.line((x + box_width, top + 82), (x + box_width + gap - 1, top + 82))
        x += box_width + gap


def draw_tensor(canvas: Canvas, left: float, top: float, width: float, caption: str, fill: str, edge: str) -> None:
    """A tensor as a column of channels: the aggregated ones above the untouched."""
    canvas.box(left, top, width, 204, fill, edge)
    canvas.text(left + width / 2, top + 108, 'C_{1}')
    canvas.box(left, top + 208, width, 50, GREY, GREY_EDGE)
    canvas.text(left + width / 2, top + 238, 'C − C_{1}')
    canvas.text(left + width / 2, top + 280, caption, fill=MUTED)


def draw_kernel(canvas: Canvas, middle: float, bottom: float, arrow_from: Point) -> None:
    """The kernel as three bars, on its way from the generator to the snippets."""
    for k, height in enumerate((16, 34, 24)):
        canvas.box(middle - 24 + 17 * k, bottom - height, 14, height, AMBER, AMBER_EDGE, radius=2)
    x, y = arrow_from
    canvas.line((x, y), (x, bottom - 16), (middle + 34, bottom - 16))
    canvas.text(middle - 34, bottom - 11, 'θ  (N·C_{1}, L)', anchor='end')
    canvas.line((middle, bottom + 4), (middle, bottom + 30))


def draw_aggregation(canvas: Canvas, left: float, right: float, top: float) -> float:
    """Snippets before and after the weighted sum; returns the height of their middle.

    The sum for y[1] is drawn bold, with its weights.
    """
    box_width, box_height, pitch = 48, 28, 35

    def middle_of(row: int) -> float:
        return top + box_height / 2 + pitch * (row + 1)

    sums = [(row, k) for row in range(4) for k in range(3)]
    for row, k in sorted(sums, key=lambda pair: pair[0] == BOLD_ROW):
        bold = row == BOLD_ROW
        canvas.line(
            (left + box_width, middle_of(row + k - 1)),
            (right - box_width, middle_of(row)),
            colour=AMBER_EDGE if bold else EDGE,
            width=2.2 if bold else 1.2,
            arrow=False,
        )
    for k in range(3):
        y = middle_of(BOLD_ROW) + 0.8 * (middle_of(k + BOLD_ROW - 1) - middle_of(BOLD_ROW))
        x = right - box_width - 0.8 * (right - left - 2 * box_width)
        canvas.circle(x, y, 11, PANEL, AMBER_EDGE)
        canvas.text(x, y + 4, f'θ_{{{k}}}', size=13)
    for row in range(-1, 5):
        y = middle_of(row) - box_height / 2
        if row in range(4):
            canvas.labelled_box(left, y, box_width, box_height, f'x[{row}]', BLUE, BLUE_EDGE)
            canvas.labelled_box(right - box_width, y, box_width, box_height, f'y[{row}]', AMBER, AMBER_EDGE)
        else:
            canvas.labelled_box(left, y, box_width, box_height, '0', PANEL, EDGE)
    return (middle_of(0) + middle_of(3)) / 2


def draw_bottleneck(canvas: Canvas, left: float, width: float) -> None:
    """Right panel: the five places of a bottleneck where a module can stand."""
    canvas.panel(left, width, 'Place in a bottleneck', 'chosen by place=…')
    middle, shortcut = left + 108, left + 22
    layers = iter(('conv1, BN, ReLU', 'conv2, BN, ReLU', 'conv3, BN'))
    gap, branching = 20, 102
    y: float = 90

    def step(height: float) -> None:
        """Go down past what was drawn, and on with an arrow."""
        nonlocal y
        canvas.line((middle, y + height), (middle, y + height + gap - 1))
        y += height + gap

    canvas.line((middle, branching), (shortcut, branching), arrow=False)
    step(4)
    for place in PLACES:
        if place == 'after_block':
            canvas.line((shortcut, branching), (shortcut, y + 13), (middle - 14, y + 13))
            canvas.circle(middle, y + 13, 13, PANEL, LINE)
            canvas.text(middle, y + 19, '+', size=18)
            step(26)
            canvas.labelled_box(middle - 66, y, 132, 32, 'ReLU')
            step(32)
        draw_place(canvas, middle, y, place)
        step(28)
        if layer := next(layers, None):
            canvas.labelled_box(middle - 66, y, 132, 32, layer)
            step(32)


def draw_place(canvas: Canvas, middle: float, top: float, place: str) -> None:
    """One place, filled if it is the default."""
    is_default = place == DEFAULT_PLACE
    canvas.box(middle - 66, top, 132, 28, AMBER if is_default else PANEL, AMBER_EDGE, radius=14)
    canvas.text(middle, top + 19, place, weight='bold' if is_default else 'normal')
    if is_default:
        canvas.text(middle + 74, top + 19, 'default', fill=MUTED, anchor='start')


def render() -> str:
    """Return the picture as SVG text."""
    canvas = Canvas()
    canvas.box(0, 0, WIDTH, HEIGHT, PAPER, PAPER, radius=12)
    draw_snippets(canvas, left=20, width=276)
    draw_dsa(canvas, left=308, width=532)
    draw_bottleneck(canvas, left=852, width=248)
    return canvas.svg(
        'The DSA module',
        'Four snippets of a video pass through shared residual blocks. In a block DSA pools a part of the '
        'channels, generates a softmax kernel from the pooled values of the snippets, and replaces each '
        'snippet by a weighted sum of its neighbours. It stands before the second convolution of a bottleneck.',
    )


def main() -> None:
    parser = argparse.ArgumentParser(description='Draw the DSA module as SVG.')
    parser.add_argument('out', nargs='?', type=Path, default=DEFAULT_OUT, help='default: docs/images/dsa_module.svg')
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(), encoding='utf-8')
    print(f'wrote {out}')


if __name__ == '__main__':
    main()
