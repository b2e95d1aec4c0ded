"""Where the weights of a language model lie on this machine: the embedded one, a GGUF file, a Hugging Face folder.

Nothing is downloaded: a model of the hub is found where the hub's own client has put it.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from abs_core.canonical import digest
from abs_core.errors import FatalBackendError
from abs_core.extras import is_installed, require
from abs_core.files import sha256_file, storage_errors
from abs_descriptions.backends.gguf import EMBEDDED_SHA256, find_embedded_model

__all__ = ["EMBEDDED", "ModelFiles"]

#: The name of the embedded model.
EMBEDDED = "smollm2"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")


class ModelFiles:
    """A language model on this machine.

    Args:
        model: ``smollm2`` (embedded), the path of a ``.gguf`` file or of a Hugging Face folder with safetensors, or the
            name ``ORG/NAME`` of a model that lies in the hub's cache.

    Raises:
        WeightsError: the embedded model is missing or is not the published file.
        FatalBackendError: no such model.
    """

    def __init__(self, model: str) -> None:
        self._embedded = model == EMBEDDED
        self.path = find_embedded_model() if self._embedded else _find(model)
        #: What the user calls it, without the folders before it.
        self.name = model if _HUB_NAME.fullmatch(model) and not Path(model).exists() else Path(model).name

    @property
    def is_gguf(self) -> bool:
        """Whether it is one GGUF file and no folder."""
        return self.path.is_file()

    @cached_property
    def weights(self) -> str:
        """``sha256:...`` of the GGUF file, or of the digests of all files of the folder."""
        if self._embedded:
            return EMBEDDED_SHA256
        if self.is_gguf:
            return sha256_file(self.path)
        with storage_errors(self.path, "read"):
            files = sorted(item for item in self.path.iterdir() if item.suffix in (".json", ".safetensors", ".jinja"))
        return digest({item.name: sha256_file(item) for item in files})


def _find(model: str) -> Path:
    path = Path(model)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return path
    if (path / "config.json").is_file():
        return path
    cached = _find_in_hub_cache(model) if _HUB_NAME.fullmatch(model) and not path.exists() else None
    if cached is None:
        raise FatalBackendError(
            f"there is no local language model {model!r}",
            remedy=f"Name {EMBEDDED!r}, a .gguf file, a Hugging Face folder with config.json and safetensors, or a "
            "model in the hub's cache",
        )
    return cached


def _find_in_hub_cache(name: str) -> Path | None:
    if not is_installed("huggingface_hub"):
        return None
    try:
        found = require("huggingface_hub").try_to_load_from_cache(name, "config.json")
    except ValueError:  # no name that the hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None
