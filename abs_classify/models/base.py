"""What the toolkit asks of an image-text model and of an attention backend, and what every loader chooses.

Shapes use B images, N views an image, P prefix tokens (CLS, registers), a g x g grid of patch tokens of width w, and
the embedding size d. A model switches to inference mode by itself.

On the CPU several threads call one model at once, each with its own images: ``preprocess``, ``preprocess_crop``,
``encode_image``, ``tokens`` and ``pool_windows`` must be safe to call so. A model that keeps no state between calls is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from abs_core.errors import ModelError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "DTYPES",
    "AttentionBackend",
    "ImageGroup",
    "Model",
    "emulates",
    "input_size",
    "no_feature_views",
    "resolve_device",
    "resolve_dtype",
]

#: Names a user may give. The weights are cast to the dtype; features always leave a model in float32.
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@runtime_checkable
class Model(Protocol):
    """An image encoder and a text encoder that share one embedding space (CLIP, Radford et al. 2021).

    Feature windows are optional: ``tokens``, ``pool`` and ``pool_windows`` work where ``grid`` is not 0.
    """

    @property
    def name(self) -> str:
        """What the user named, such as ``embedded`` or ``ViT-B-16-quickgelu/openai``."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:...`` over weights, architecture, preprocessing and dtype. It enters every cache key."""
        ...

    @property
    def embed_dim(self) -> int:
        """The embedding size d."""
        ...

    @property
    def logit_scale(self) -> float:
        """The factor of similarities whose softmax over texts says how likely each is: 100 for CLIP."""
        ...

    @property
    def grid(self) -> int:
        """The side g of the token grid, in tokens; 0 where the model has no feature windows."""
        ...

    @property
    def cheap_windows(self) -> bool:
        """Whether feature windows cost nearly nothing, as where the last block need not run on each of them."""
        ...

    @property
    def crop_fraction(self) -> float | None:
        """The side of the central square that ``preprocess`` keeps of an image, as a share of its short side.

        1.0 for CLIP; None for a model that stretches or pads the whole image.
        """
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    @property
    def context_length(self) -> int:
        """How many tokens a text may have, special tokens included."""
        ...

    def preprocess(self, image: Image) -> Tensor:
        """The model's own preprocessing of an RGB image: [3, S, S] float32 on the CPU.

        A ``PixelPreprocessing``, which is data as well as a function, is done on an accelerator where that is exact.
        """
        ...

    def preprocess_crop(self, image: Image) -> Tensor:
        """The preprocessing of a view that was cut from an RGB image; for most models the same as ``preprocess``."""
        ...

    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] preprocessed pixels to [B, d] float32 features, not normalised."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """n texts to [n, d] float32 features, not normalised. Texts beyond ``context_length`` are cut."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens the whole text has, special tokens included, before any cutting."""
        ...

    def tokens(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to the input of the last block (or the final feature map): [B, P + g*g, w], prefix tokens first.

        Raises:
            ModelError: the model has no feature windows (``grid`` is 0).
        """
        ...

    def pool(self, tokens: Tensor) -> Tensor:
        """[B, P + g*g, w] to [B, d] float32; ``pool(tokens(x))`` equals ``encode_image(x)`` up to rounding.

        Raises:
            ModelError: the model has no feature windows.
        """
        ...

    def pool_windows(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """Feature windows: cut them out of the token grid, resize each to g x g, and finish the model on them.

        Args:
            tokens: [B, P + g*g, w] from ``tokens``.
            windows: int64 [B, N, 4]: row0, row1, col0, col1 in tokens, ends exclusive.

        Returns:
            [B, N, d] float32, not normalised.

        Raises:
            ModelError: the model has no feature windows.
            UsageError: a window is empty or leaves the grid.
        """
        ...

    def attention_backends(self) -> Mapping[str, Callable[[], AttentionBackend]]:
        """The backends that need no weights besides the model's, by name: ``self``, ``norm``, both or none."""
        ...

    def default_attention(self) -> str:
        """The attention backend to use unless the user names one: ``dino``, or one of ``attention_backends``."""
        ...


class ImageGroup(Protocol):
    """Some images of a run, as an attention backend sees them: nothing is computed before it is asked for."""

    def __len__(self) -> int:
        """Their number B."""
        ...

    @property
    def tokens(self) -> Tensor:
        """The model's tokens of the full images, [B, P + g*g, w]; its pass over them is shared with the views."""
        ...

    def run(self, preprocess: Callable[[Image], Tensor], network: Callable[[Tensor], Tensor]) -> Tensor:
        """Put every image through a network of the backend's own.

        Args:
            preprocess: an RGB image to [3, S, S] float32 on the CPU. It is called from several threads at once.
            network: [n, 3, S, S] on the model's device to [n, ...]. It is called from several threads at once.

        Returns:
            [B, ...] as ``network`` gives them.
        """
        ...


class AttentionBackend(Protocol):
    """Where attention maps come from: where in an image the object is likely to be."""

    @property
    def name(self) -> str:
        """What the user named."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:...`` over all that decides the maps. It enters every cache key."""
        ...

    @property
    def grid(self) -> int:
        """Side g of the maps, in patches. It need not be the model's."""
        ...

    def attend(self, images: ImageGroup) -> Tensor:
        """B images to maps [B, g, g] float32, not negative."""
        ...


def input_size(model: Model) -> int:
    """The shorter side of what a model sees of an image, in pixels."""
    from PIL import Image

    return min(model.preprocess(Image.new("RGB", (8, 8))).shape[-2:])


def no_feature_views(name: str) -> ModelError:
    """The error to raise where feature windows are asked of a model whose ``grid`` is 0."""
    return ModelError(
        f"the image encoder of {name!r} has no square grid of transformer tokens, so it has no feature windows",
        remedy="Choose a method without feature windows, or a model with a transformer image encoder",
    )


def resolve_device(name: str) -> torch.device:
    """The torch device of a name; ``auto`` is the first CUDA device if there is one, else the CPU.

    ``gpu`` and ``gpu:N`` are other spellings of ``cuda`` and ``cuda:N``.

    Raises:
        UsageError: the name is no device, or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(re.sub(r"(?i)^gpu(?=$|:)", "cuda", name))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if "device type at start of device string" in reason or "Invalid device string" in reason:
            raise UnknownNameError("device", name, ["auto", "cpu", "cuda", "cuda:N"]) from error
        raise UsageError(
            f"cannot use device {name!r}: {reason}", remedy="Choose auto, cpu, or a cuda device"
        ) from error
    return device


def resolve_dtype(name: str) -> torch.dtype:
    """The torch dtype of one of ``DTYPES``.

    Raises:
        UnknownNameError: any other name.
    """
    if name not in DTYPES:
        raise UnknownNameError("dtype", name, DTYPES)
    return DTYPES[name]


def emulates(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has no unit for a dtype, so that its arithmetic is emulated, about ten times slower."""
    if device.type == "cuda":
        return dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or dtype == torch.float32:
        return False
    suffix = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return not any(present for name, present in capabilities.items() if name.endswith(suffix))
