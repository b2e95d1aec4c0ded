"""Workers of a local Ray, for the tests of the engine: one Ray for all, and its processes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from support import colour

from abs_classify.plugins import _LOADED

FAULTS = Path(__file__).with_name("ray_faults.py")


def save_images(folder: Path, count: int, first: int = 0) -> Path:
    """A folder of images of two classes."""
    for number in range(count):
        path = folder / ("cat", "dog")[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour(first + number, (24, 20)).save(path)
    return folder


def load_faults(folder: Path, **faults: Any) -> None:
    """Load the plugin that has workers fail."""
    from abs_classify import load_plugins

    (folder / "faults.json").write_text(json.dumps(faults))
    load_plugins([shutil.copy(FAULTS, folder / "ray_faults.py")])


def forget_plugins() -> None:
    """Have later tests run without the plugins of earlier ones."""
    _LOADED.clear()


def worker_processes() -> list[int]:
    """The processes of the workers that this process, or one that it has started, had Ray start."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    workers = []
    for process in parents:
        try:
            name = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        ancestor = process
        while name.startswith(b"ray::MapWorker") and ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and process != ancestor:
            workers.append(process)
    return workers
