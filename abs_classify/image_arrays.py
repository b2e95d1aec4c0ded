"""Images that are arrays: NumPy's, or tensors of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abs_core.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_of_array", "is_array"]


def is_array(value: object) -> bool:
    """Whether it is an array of NumPy or a tensor of torch, neither of which is imported for that."""
    return hasattr(value, "__array__") and hasattr(value, "shape") and hasattr(value, "dtype")


def image_of_array(array: Any) -> Image:
    """The RGB image of uint8 values, or of floating-point values from 0 to 1, which are rounded to 8 bits.

    Args:
        array: [height, width, 3], [3, height, width] or grey [height, width]. Where both of the first fit, an array has
            its channels last and a tensor its channels first.

    Raises:
        UsageError: another shape or type, or values outside 0 to 1, as normalised pixels have.
    """
    import numpy as np
    from PIL import Image

    is_tensor = hasattr(array, "detach")
    values = np.asarray(array.detach().cpu() if is_tensor else array)
    first, last = values.ndim == 3 and values.shape[0] == 3, values.ndim == 3 and values.shape[-1] == 3
    if not (first or last or values.ndim == 2) or 0 in values.shape:
        raise UsageError(
            f"an image array must be [height, width, 3], [3, height, width] or [height, width], "
            f"got {list(values.shape)}",
            remedy="Pass a list of arrays, one for each image",
        )
    if values.dtype.kind == "f":
        if not bool(((values >= 0) & (values <= 1)).all()):  # NaN is neither
            raise UsageError(
                "an image array of floating-point values must be between 0 and 1",
                remedy="Pass pixels before normalisation, divided by 255",
            )
        values = np.rint(values * 255.0).astype(np.uint8)
    if values.dtype != np.uint8:
        raise UsageError(f"an image array must be uint8 or floating-point, got {values.dtype}", remedy="Convert it")
    if first and (is_tensor or not last):
        values = values.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")
