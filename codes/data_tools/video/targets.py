"""Write files and folders atomically, and record the settings of all targets in a folder."""

import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsanet.utils.json_lines import read_json
from dsanet.utils.processes import is_alive

SETTINGS_FILE = 'settings.json'


def prepare_folder(out: Path, settings: dict[str, Any]) -> None:
    """Create a folder for targets and store their settings, or check that the stored settings are the same."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / SETTINGS_FILE
    # As stored in JSON, where tuples become lists.
    settings = json.loads(json.dumps(settings))
    if file.exists() and any(other.name != SETTINGS_FILE for other in out.iterdir()):
        found = read_json(file)
        differences = [
            f'{name} {found.get(name)} instead of {settings.get(name)}'
            for name in sorted(found.keys() | settings.keys())
            if found.get(name) != settings.get(name)
        ]
        if differences:
            raise ValueError(
                f'{out} was created with other settings ({", ".join(differences)}); use those, choose another folder, '
                'or delete this one'
            )
        return
    with atomic_target(file) as part:
        part.write_text(json.dumps(settings, indent=2) + '\n')


@contextmanager
def atomic_target(target: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder and rename it to ``target`` if there is no error.

    The path is unique to this process, so two processes can write the same target. It is removed after an error.
    """
    # Shortened, because the target may have the maximum length already.
    part = target.with_name(f'.{target.name[:40]}.{platform.node()}-{os.getpid()}.part')
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(part)  # of an earlier process with the same ID
    try:
        yield part
        os.replace(part, target)
    except BaseException:
        _remove(part)
        raise


def remove_stale_parts(folders: Iterable[Path]) -> None:
    """Remove the temporary files of dead processes on this machine."""
    pattern = re.compile(rf'\..*\.{re.escape(platform.node())}-(\d+)\.part', re.DOTALL)
    for folder in folders:
        if folder.is_dir():
            for name in os.listdir(folder):
                match = pattern.fullmatch(name)
                if match and not is_alive(int(match[1])):
                    _remove(folder / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
