"""Damaged files, as left by broken downloads, full disks and faulty tools. Each fault depends only on its rng."""

import random
from collections.abc import Callable


def cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip_a_bit(data: bytes, rng: random.Random) -> bytes:
    return _with_bits_flipped(data, 1, rng)


def flip_many_bits(data: bytes, rng: random.Random) -> bytes:
    return _with_bits_flipped(data, 1 + len(data) // 50, rng)


def damage_head(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(20):
        out[rng.randrange(min(len(out), 600))] = rng.randrange(256)
    return bytes(out)


def damage_tail(data: bytes, rng: random.Random) -> bytes:
    """Damage the index at the end of an MP4."""
    out = bytearray(data)
    for _ in range(20):
        out[rng.randrange(max(0, len(out) - 2500), len(out))] = rng.randrange(256)
    return bytes(out)


def blank_a_stretch(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    end = rng.randrange(begin, len(data)) + 1
    return data[:begin] + bytes(end - begin) + data[end:]


def lose_a_stretch(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.randrange(1, 3000) :]


def double_a_stretch(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[max(0, begin - 3000) : begin] + data[begin:]


def empty(data: bytes, rng: random.Random) -> bytes:
    return b''


def noise(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 5000))


def web_page(data: bytes, rng: random.Random) -> bytes:
    """Return the page that a server sends instead of a deleted video."""
    return b'<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not found</body></html>\n' * 20


FILE_FAULTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut_off,
    flip_a_bit,
    flip_many_bits,
    damage_head,
    damage_tail,
    blank_a_stretch,
    lose_a_stretch,
    double_a_stretch,
    empty,
    noise,
    web_page,
)

# After these faults no decoder finds a video.
FATAL_FAULTS = (empty, web_page)


def damage_list(text: bytes, rng: random.Random) -> bytes:
    """Return a list file, CSV or JSON with one to three faults that editors and scripts can cause."""
    for _ in range(rng.randrange(1, 4)):
        lines = text.split(b'\n')
        at = rng.randrange(len(lines))
        odd = [b'9' * 30, b'9' * 5000, b'-1', b'1.0', b'1e3', b'0x1', b'nan', b'', b' ', b'1,', b',1', b'1,1', b'1, 2']
        odd += [b'1e999', b'Infinity', b'[]', b'{}', b'9' * 9, b'\xc2\xb2', b'\xd9\xa1', b'True', b'None', b'\x00']
        odd += [b'\xff', b'label']
        kind = rng.randrange(14)
        if kind == 0:
            text = text[: rng.randrange(len(text) + 1)]
        elif kind == 1:
            text = _with_bits_flipped(text, 1 + len(text) // 100, rng) if text else b''
        elif kind == 2:
            between = rng.choice([mark for mark in (b' ', b',', b';', b': ', b'"') if mark in lines[at]] or [b' '])
            fields = lines[at].split(between)
            fields[rng.randrange(len(fields))] = rng.choice(odd)
            lines[at] = between.join(fields)
        elif kind == 3:
            lines[at] = rng.choice(odd) + lines[at][rng.randrange(len(lines[at]) + 1) :]
        elif kind == 4:
            lines[at] = lines[at].replace(b' ', rng.choice([b',', b';', b'\t', b'  ', b'', b'\xc2\xa0', b' "']))
        elif kind == 5:
            text = b'\xef\xbb\xbf' + text
        elif kind == 6:
            text = text.decode('utf-8', 'replace').encode(rng.choice(['utf-16', 'utf-16-be', 'utf-32', 'utf-7']))
        elif kind == 7:
            text = text.replace(b'\n', rng.choice([b'\r\n', b'\r', b'\n\n', b'\x0b', b'\xe2\x80\xa8', b' ']))
        elif kind == 8:
            lines.insert(at, rng.randbytes(rng.randrange(1, 60)))
        elif kind == 9:
            lines[at] = lines[at].split(b' ', 1)[0]
        elif kind == 10:
            lines[at] = b'../' * rng.randrange(1, 300) + lines[at]
        elif kind == 11:
            lines[at] = lines[at] + b' ' + rng.choice(odd)
        elif kind == 12:
            lines[at] = b'x' * rng.randrange(5000) + lines[at]
        else:
            lines[at] = lines[rng.randrange(len(lines))] + lines[at]
        if kind in (2, 3, 4, 8, 9, 10, 11, 12, 13):
            text = b'\n'.join(lines)
    return text


def _with_bits_flipped(data: bytes, count: int, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(count):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)
