"""Whether a tool can write where it shall, asked before its work and not behind it."""

import os
from pathlib import Path


def check_writable(folder: Path, name: str) -> None:
    """Refuse a folder that cannot be written to; it is not made here.

    Args:
        folder: one that is there, or a new one.
        name: what the user calls it, such as '--out'.

    Raises:
        ValueError: it is, or lies below, a file, or a folder in which nothing may be made, or that is read-only.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        reason = f'{there} is no folder'
    elif not os.access(there, os.W_OK | os.X_OK):
        reason = f'{there} cannot be written to'
    else:
        return
    raise ValueError(f'{name} {folder} must be a folder to write to, or a new name for one: {reason}')
