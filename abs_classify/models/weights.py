"""Weights files: where they are, and what they are, without reading them. Imports no torch.

Nothing is downloaded unless the caller says so.
"""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from abs_core.errors import WeightsError

__all__ = [
    "CONFIG_FILE",
    "OPEN_CLIP_FILES",
    "PUBLISHED_TORCHSCRIPT",
    "TRANSFORMER_FILES",
    "cached_file",
    "hub_file",
    "is_torchscript",
    "no_downloads",
    "read_json",
    "refuse_pointer",
]

#: The configuration that open_clip puts beside the weights of a model.
CONFIG_FILE = "open_clip_config.json"

#: The weights of a model of open_clip, in the order in which they are looked for.
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

#: The weights of a model of timm or transformers, in the order in which they are looked for.
TRANSFORMER_FILES = ("model.safetensors", "pytorch_model.bin")

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

# an index of a large model has a hundred thousand lines
_LARGEST_JSON = 64 * 2**20


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


def cached_file(repository: str, name: str) -> Path | None:
    """A file of a Hugging Face repository in the local cache; None if it is not there."""
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        return None
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    # the client takes longer to import than all else that a list of models needs
    if not repository or not folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name)
    return Path(path) if isinstance(path, str) else None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip file with code in it. Nothing of it is run."""
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"PK\3\4":
                return False
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # zipfile raises many kinds for a broken directory; whoever reads the file says what is wrong
        return False


def refuse_pointer(path: Path, text: str) -> None:
    """Refuse a file that large-file storage has not filled in.

    Raises:
        WeightsError: ``text``, which is in the file, is a Git LFS pointer.
    """
    if text.startswith("version https://git-lfs"):
        folder, name = shlex.quote(str(path.parent)), shlex.quote(path.name)
        raise WeightsError(
            f"{str(path)!r} is a Git LFS pointer, not the file itself",
            remedy=f"Run: git -C {folder} lfs pull --include {name}",
        )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        WeightsError: the file cannot be read, or holds no JSON object.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise WeightsError(f"{str(path)!r} has more than {_LARGEST_JSON >> 20} MiB", remedy="Fetch the file again")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"cannot read {str(path)!r}: {error.strerror}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{str(path)!r} is not UTF-8 text", remedy="Fetch the file again") from error
    refuse_pointer(path, text)
    try:
        content = json.loads(text)
    except RecursionError:
        raise WeightsError(f"{str(path)!r} is nested too deeply", remedy="Fetch the file again") from None
    except ValueError as error:
        raise WeightsError(f"{str(path)!r} is not JSON: {error}", remedy="Fetch the file again") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{str(path)!r} is not a JSON object", remedy="Fetch the file again")
    return content
