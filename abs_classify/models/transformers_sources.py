"""Which files make a transformers model: of a folder that ``save_pretrained`` wrote, or of a repository in that form.

Also the names of hub repositories that hold models which open_clip has under names of its own. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from abs_classify.models.weights import TRANSFORMER_FILES, hub_file, read_json
from abs_core.errors import WeightsError

__all__ = [
    "INDEX_FILES",
    "MODEL_CONFIG_FILE",
    "TOKENIZER_FILES",
    "fetch_from_hub",
    "open_clip_name",
    "processor_files",
    "read_index",
    "transformers_weights",
]

#: What transformers calls the configuration of a model.
MODEL_CONFIG_FILE = "config.json"

#: Lists of the files that hold the tensors of a large model, in the order in which they are looked for.
INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

#: The files of a tokenizer that are read.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")

_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.(safetensors|bin)")


def processor_files(folder: Path) -> tuple[Path, ...]:
    """The files of a model's image processor and tokenizer that are there."""
    paths = (folder / name for name in (*_PROCESSOR_FILES, *TOKENIZER_FILES))
    return tuple(path for path in paths if path.is_file())


def transformers_weights(folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """The weights file of a folder, or the index of several, and the files that an index lists.

    Raises:
        WeightsError: there are no weights, or the index is broken, or files that it lists are missing.
    """
    single, safe_index, pickled, pickled_index = (
        folder / name for name in (TRANSFORMER_FILES[0], INDEX_FILES[0], TRANSFORMER_FILES[1], INDEX_FILES[1])
    )
    for path in (single, safe_index, pickled, pickled_index):
        if path.is_file():
            return path, read_index(path) if path.name in INDEX_FILES else ()
    raise WeightsError(
        f"the folder {str(folder)!r} has a {MODEL_CONFIG_FILE} and no weights: none of {', '.join(TRANSFORMER_FILES)}",
        remedy="Copy the weights into it too",
    )


def read_index(path: Path) -> tuple[Path, ...]:
    """The files that an index lists, each once, by name.

    Raises:
        WeightsError: it is no index, lists a path beyond its folder, or files that are not there.
    """
    mapping = read_json(path).get("weight_map")
    names = sorted({str(name) for name in mapping.values()}) if isinstance(mapping, dict) else []
    wrong = next((name for name in names if not _SHARD.fullmatch(name)), None)
    if not names or wrong is not None:
        reason = "lists no files" if wrong is None else f"lists {wrong[:80]!r}, which is not the name of a weights file"
        raise WeightsError(f"the index {str(path)!r} {reason}", remedy="Fetch the file again")
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise WeightsError(
            f"{len(missing)} of {len(names)} files that {str(path)!r} lists are missing (first: {missing[0]})",
            remedy="Copy all files of the model",
        )
    return tuple(path.parent / name for name in names)


def fetch_from_hub(repository: str, *, allow_download: bool) -> Path | None:
    """The folder of the hub cache with the files of a transformers model; None if it is not there and not to be had."""
    config = hub_file(repository, [MODEL_CONFIG_FILE], allow_download=allow_download)
    if config is None or not allow_download:
        return None if config is None else config.parent
    weights = hub_file(repository, (TRANSFORMER_FILES[0], INDEX_FILES[0]), allow_download=True) or hub_file(
        repository, (TRANSFORMER_FILES[1], INDEX_FILES[1]), allow_download=True
    )
    if weights is None:
        return None
    others: Iterable[str] = (*_PROCESSOR_FILES, *TOKENIZER_FILES)
    if weights.name in INDEX_FILES:
        mapping = read_json(weights).get("weight_map")
        shards = sorted({str(name) for name in mapping.values()}) if isinstance(mapping, dict) else []
        others = (*(name for name in shards if _SHARD.fullmatch(name)), *others)
    for name in others:
        hub_file(repository, [name], allow_download=True)
    return config.parent


#: Repositories of transformers models by their publishers, and the same weights as open_clip names them.
_SAME_WEIGHTS = {
    "openai/clip-vit-base-patch32": "ViT-B-32-quickgelu/openai",
    "openai/clip-vit-base-patch16": "ViT-B-16-quickgelu/openai",
    "openai/clip-vit-large-patch14": "ViT-L-14-quickgelu/openai",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336-quickgelu/openai",
    "facebook/metaclip-b32-400m": "ViT-B-32-quickgelu/metaclip_400m",
    "facebook/metaclip-b16-400m": "ViT-B-16-quickgelu/metaclip_400m",
    "facebook/metaclip-l14-400m": "ViT-L-14-quickgelu/metaclip_400m",
    "facebook/metaclip-b32-fullcc2.5b": "ViT-B-32-quickgelu/metaclip_fullcc",
    "facebook/metaclip-b16-fullcc2.5b": "ViT-B-16-quickgelu/metaclip_fullcc",
    "facebook/metaclip-l14-fullcc2.5b": "ViT-L-14-quickgelu/metaclip_fullcc",
    "facebook/metaclip-h14-fullcc2.5b": "ViT-H-14-quickgelu/metaclip_fullcc",
    "google/siglip-base-patch16-224": "ViT-B-16-SigLIP/webli",
    "google/siglip-base-patch16-256": "ViT-B-16-SigLIP-256/webli",
    "google/siglip-base-patch16-256-multilingual": "ViT-B-16-SigLIP-i18n-256/webli",
    "google/siglip-base-patch16-384": "ViT-B-16-SigLIP-384/webli",
    "google/siglip-base-patch16-512": "ViT-B-16-SigLIP-512/webli",
    "google/siglip-large-patch16-256": "ViT-L-16-SigLIP-256/webli",
    "google/siglip-large-patch16-384": "ViT-L-16-SigLIP-384/webli",
    "google/siglip-so400m-patch14-224": "ViT-SO400M-14-SigLIP/webli",
    "google/siglip-so400m-patch14-384": "ViT-SO400M-14-SigLIP-384/webli",
    "google/siglip-so400m-patch16-256-i18n": "ViT-SO400M-16-SigLIP-i18n-256/webli",
    "google/siglip2-base-patch16-224": "ViT-B-16-SigLIP2/webli",
    "google/siglip2-base-patch16-256": "ViT-B-16-SigLIP2-256/webli",
    "google/siglip2-base-patch16-384": "ViT-B-16-SigLIP2-384/webli",
    "google/siglip2-base-patch16-512": "ViT-B-16-SigLIP2-512/webli",
    "google/siglip2-base-patch32-256": "ViT-B-32-SigLIP2-256/webli",
    "google/siglip2-large-patch16-256": "ViT-L-16-SigLIP2-256/webli",
    "google/siglip2-large-patch16-384": "ViT-L-16-SigLIP2-384/webli",
    "google/siglip2-large-patch16-512": "ViT-L-16-SigLIP2-512/webli",
    "google/siglip2-so400m-patch14-224": "ViT-SO400M-14-SigLIP2/webli",
    "google/siglip2-so400m-patch14-384": "ViT-SO400M-14-SigLIP2-378/webli",
    "google/siglip2-so400m-patch16-256": "ViT-SO400M-16-SigLIP2-256/webli",
    "google/siglip2-so400m-patch16-384": "ViT-SO400M-16-SigLIP2-384/webli",
    "google/siglip2-so400m-patch16-512": "ViT-SO400M-16-SigLIP2-512/webli",
    "google/siglip2-giant-opt-patch16-256": "ViT-gopt-16-SigLIP2-256/webli",
    "google/siglip2-giant-opt-patch16-384": "ViT-gopt-16-SigLIP2-384/webli",
}


def open_clip_name(repository: str) -> str:
    """The ``ARCH/TAG`` of the weights in a transformers repository, whatever its case; empty where there is none."""
    names = {name.casefold(): same for name, same in _SAME_WEIGHTS.items()}
    return names.get(repository.casefold(), "")
