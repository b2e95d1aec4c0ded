"""A plugin that has workers fail: it is loaded by the run, where it does nothing, and by every worker.

Beside it lies ``faults.json``: names of images whose worker dies when it reads them (``deadly``), what befalls the
first worker that starts (``first``), or each (``all``): it has no room for files (``disk``) or no weights
(``weights``), and the seconds that each image takes longer (``slow``).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def _is_worker() -> bool:
    if "ray" not in sys.modules:
        return False
    import ray

    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


def _is_first() -> bool:
    """Whether this is the first worker of all, ever."""
    try:
        (FOLDER / "first-worker").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _kill_readers(names: list[str], seconds: float) -> None:
    from abs_classify.encoding.samples import IdentifiedSample

    load = IdentifiedSample.load

    def deadly(self: IdentifiedSample) -> Any:
        if Path(self.name).name in names:
            with (FOLDER / "deaths").open("a") as stream:
                stream.write(f"{self.name}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        return load(self)

    IdentifiedSample.load = deadly  # type: ignore[method-assign]


def _lose_weights() -> None:
    from abs_classify.models.deferred import DeferredModel

    load = DeferredModel._load

    def elsewhere(self: DeferredModel, runtime: str) -> Any:
        self.name = "local-dir:/nowhere"
        return load(self, runtime)

    DeferredModel._load = elsewhere  # type: ignore[method-assign]


if _is_worker():
    faults = json.loads((FOLDER / "faults.json").read_text())
    _kill_readers(faults.get("deadly", []), faults.get("slow", 0.0))
    first = faults.get("first")
    if faults.get("all") == "weights" or (first == "weights" and _is_first()):
        _lose_weights()
    if first == "disk" and _is_first():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
