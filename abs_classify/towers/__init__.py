"""Image-text towers behind one protocol, by name: the embedded one, and any open_clip model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from abs_core.extras import require

if TYPE_CHECKING:
    from abs_classify.towers.base import Tower

__all__ = ["EMBEDDED", "available_towers", "load_tower", "tower_files"]

#: The tower whose weights come from the package index.
EMBEDDED = "embedded"


def available_towers() -> tuple[str, ...]:
    """The names that ``load_tower`` knows, ``embedded`` first, then open_clip's published weights as ``ARCH/TAG``.

    They need not be on this machine. Local checkpoints and hub repositories have other names, see ``load_tower``.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    require("open_clip")
    from abs_classify.towers.sources import published_names

    return (EMBEDDED, *sorted(published_names()))


def load_tower(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    allow_download: bool = False,
    derived: Path | None = None,
) -> Tower:
    """Load a tower.

    Args:
        name: ``embedded``; ``ARCH/TAG`` for weights that open_clip lists; ``ARCH/TAG@FILE`` or ``ARCH@FILE`` for a
            local file; ``hf-hub:ORG/REPO``; ``local-dir:FOLDER``.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``float32``, ``bfloat16`` or ``float16``; the weights are cast. Features are float32 in any case.
        allow_download: whether what is missing may be fetched from the hub.
        derived: a folder that keeps what the embedded tower computes from its weights once.

    Raises:
        UnknownNameError: no such model or dtype.
        UsageError: the device cannot be used.
        MissingExtraError: a package is not installed.
        WeightsError: the weights are not here, cannot be read safely, or are of another architecture.
        ModelError: a QuickGELU mismatch, or NaN in the weights.
    """
    if name == EMBEDDED:
        from abs_classify.towers.embedded import load_embedded_tower

        return load_embedded_tower(device=device, dtype=dtype, cache_folder=derived)
    require("open_clip")
    from abs_classify.towers.open_clip import load_open_clip_tower

    return load_open_clip_tower(name, device=device, dtype=dtype, allow_download=allow_download)


def tower_files(name: str) -> tuple[Path, ...]:
    """The files that decide what a tower computes, without reading them: weights, and the configuration beside them.

    Raises:
        UnknownNameError, MissingExtraError, WeightsError, ModelError: as in ``load_tower``.
    """
    if name == EMBEDDED:
        from abs_classify.towers.embedded_weights import find_embedded_files

        return tuple(file.path for file in find_embedded_files().all())
    require("open_clip")
    from abs_classify.towers.sources import find_source

    source = find_source(name, allow_download=False)
    return (source.checkpoint,) if source.configuration is None else (source.checkpoint, source.configuration)
