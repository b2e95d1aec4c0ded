"""Weights on disk: where they are, what they may be, and whether they fit. Nothing here runs code from a file.

A checkpoint is read by safetensors, or by torch with ``weights_only``. OpenAI published its models as TorchScript
archives, which neither can read and which can hold code: one is opened only if its sha256 is one that OpenAI published.
Nothing is downloaded unless the caller says so.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abs_core.errors import ModelError, WeightsError
from abs_core.extras import require
from abs_core.files import sha256_file

__all__ = [
    "PUBLISHED_TORCHSCRIPT",
    "check_finite",
    "fit_state",
    "hub_file",
    "is_torchscript",
    "no_downloads",
    "read_checkpoint",
    "state_digest",
    "without_advice",
]


#: sha256 of OpenAI's TorchScript archives, as in the download addresses of openai/CLIP, and the model each one holds.
PUBLISHED_TORCHSCRIPT: dict[str, str] = {
    "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762": "RN50",
    "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599": "RN101",
    "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd": "RN50x4",
    "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa": "RN50x16",
    "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c": "RN50x64",
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B-32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B-16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L-14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L-14-336",
}


#: Entries of OpenAI's archives that are facts about the model, not weights.
_FACTS = ("input_resolution", "context_length", "vocab_size")


_SAFE_REMEDY = "Use the model's safetensors file, or save its state dict with torch.save"


@contextmanager
def no_downloads() -> Iterator[None]:
    """Inside the block no library that uses huggingface_hub reaches a network; what is not in its cache is missing."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def without_advice() -> Iterator[None]:
    """Inside the block open_clip does not warn that a model is random before its weights are copied in by us."""

    def keep(record: logging.LogRecord) -> bool:
        return "No pretrained weights loaded" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def hub_file(repository: str, names: Sequence[str], *, allow_download: bool) -> Path | None:
    """The first of several files of a Hugging Face repository that is in the local cache, or can be fetched.

    Args:
        repository: ``organisation/name``.
        names: file names, most wanted first.
        allow_download: whether to reach the network for what is not in the cache.

    Returns:
        The file, or None if there is none.
    """
    from huggingface_hub import errors, hf_hub_download

    for name in names:
        try:
            return Path(hf_hub_download(repository, name, local_files_only=not allow_download))
        except (OSError, ValueError, errors.EntryNotFoundError, errors.HfHubHTTPError):
            # not in the cache, not in the repository, or no way there: the caller says what to do
            continue
    return None


def read_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, by name.

    Args:
        path: a ``.safetensors`` file, a file of ``torch.save``, or an archive of ``PUBLISHED_TORCHSCRIPT``. A nested
            ``state_dict`` and the prefix ``module.`` of training scripts are undone.
        sha256: ``sha256:...`` of the file if it is known already.

    Raises:
        WeightsError: the file is missing, holds anything but tensors, or is a TorchScript archive with an unpublished
            sha256.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weights file {str(path)!r}", remedy="Check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if is_torchscript(path):
        digest = (sha256 or sha256_file(path)).removeprefix("sha256:")
        if digest not in PUBLISHED_TORCHSCRIPT:
            raise WeightsError(
                f"{str(path)!r} is a TorchScript archive, which can hold code, and its sha256 {digest} is not one that "
                "OpenAI published",
                remedy=_SAFE_REMEDY,
            )
        return _read_torchscript(path)
    return _read_pickled_tensors(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    safetensors = require("safetensors")
    try:
        state: dict[str, Tensor] = require("safetensors.torch").load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{str(path)!r} is not a readable safetensors file: {_line(error)}") from error
    return _plain_state(path, state)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip file with code in it. Nothing of it is run."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # torch announces the end of TorchScript; the archives are what they are
        warnings.simplefilter("ignore", FutureWarning)
        module: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    state = module.state_dict()
    return {name: tensor for name, tensor in state.items() if name not in _FACTS}


def _read_pickled_tensors(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        raise WeightsError(
            f"{str(path)!r} cannot be read as plain tensors: {_line(error)}", remedy=_SAFE_REMEDY
        ) from error
    return _plain_state(path, state)


def _plain_state(path: Path, state: Any) -> dict[str, Tensor]:
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{str(path)!r} holds no state dict", remedy="Give a checkpoint of the whole model")
    prefix = "module." if all(str(name).startswith("module.") for name in state) else ""
    tensors = {str(name).removeprefix(prefix): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{str(path)!r} holds no tensors", remedy="Give a checkpoint of the whole model")
    return {name: value for name, value in tensors.items() if name not in _FACTS}


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def fit_state(module: nn.Module, state: Mapping[str, Tensor], *, what: str, optional: Sequence[str] = ()) -> None:
    """Copy a state dict into a module, all of it and nothing else.

    Args:
        module: receives the tensors.
        state: by parameter name.
        what: names the checkpoint and the architecture in the error.
        optional: names that may be missing, or be there without a place.

    Raises:
        WeightsError: tensors are missing, unknown, or of another shape, so the checkpoint is of another architecture.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state and name not in optional]
    unknown = [name for name in state if name not in own and name not in optional]
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(found)} tensors {trouble} (first: {found[0]})"
        for found, trouble in ((shapes, "have another shape"), (missing, "are missing"), (unknown, "are unknown"))
        if found
    ]
    if problems:
        raise WeightsError(
            f"{what} do not fit: {'; '.join(problems)}",
            remedy="Name the architecture that the checkpoint was trained with",
        )
    module.load_state_dict({name: value for name, value in state.items() if name in own}, strict=False)


def check_finite(module: nn.Module, *, what: str) -> None:
    """Refuse weights with NaN or infinity in them.

    Args:
        module: all its parameters and buffers are looked at, but for masks, which hold infinity by design.
        what: names the model in the error.

    Raises:
        ModelError: names the first such tensor.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ModelError(
                f"{what} hold NaN or infinity in {name} ({bad} of {tensor.numel()} numbers, {tensor.dtype})",
                remedy="Fetch the weights again, or use float32 if they do not fit float16",
            )


def state_digest(module: nn.Module) -> str:
    """``sha256:`` over names, dtypes, shapes and bytes of a module's state dict, in the order of the names."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        total.update(f"{name}|{data.dtype}|{list(data.shape)}|".encode())
        total.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{total.hexdigest()}"
