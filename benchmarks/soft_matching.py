"""Soft matching against the bare matrix product: time, extra memory, error.

    python benchmarks/soft_matching.py --classes 1000 --texts 50 --views 100 --dims 512 --images 100 --threads 1

The bare product is every view times every text in float32, into a buffer that is overwritten. Work is cut into units
of about 1,000 views a thread. On each unit soft matching, the product by 1,000 views and the product by 100 views run
in turn, and of ``--repeats`` rounds the least time counts (for the product, the faster form), so that other work on the
machine matters little. The preparation of the texts is added to soft matching once. Extra memory is the peak of the
resident set during one call with all images, above what it was before. The error is against a plain float64 evaluation
of ``--check`` images, relative to each score.

The vectors look like CLIP's: image and text vectors around two different means (so cosines lie between about 0.15 and
0.4), classes around those, views and sentences around their class.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from abs_classify.methods.similarity import unit
from abs_classify.methods.soft_matching import SoftTexts, soft, soft_prepared, soft_reference


@dataclass(frozen=True)
class Result:
    """One run: seconds, their ratio, megabytes (10^6 bytes), the largest relative error and its 99 % quantile."""

    threads: int
    soft_seconds: float
    product_seconds: float
    ratio: float
    extra_megabytes: float
    largest_error: float
    error_quantile_99: float


def make_vectors(images: int, views: int, classes: int, texts: int, dims: int, seed: int) -> tuple[Tensor, Tensor]:
    """Views [images, views, dims] and texts [classes * texts, dims], unit float32, with cosines like CLIP's."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dims, generator=generator) / dims**0.5

    image_mean = unit(noise())
    text_mean = unit(0.35 * image_mean + noise())
    centres = noise(classes)
    sentences = unit(text_mean + 0.5 * centres[:, None] + 0.35 * noise(classes, texts))
    true = torch.randint(classes, (images,), generator=generator)
    crops = 0.15 * centres[true][:, None] + 0.3 * noise(images, 1) + 0.6 * noise(images, views)
    return unit(1.2 * image_mean + crops), sentences.flatten(0, 1)


def bare_product(views: Tensor, texts: Tensor, rows: int, out: Tensor) -> None:
    """Every view times every text, ``rows`` views at a time, into ``out`` [rows, M]."""
    flat = views.flatten(0, 1)
    for start in range(0, len(flat), rows):
        block = flat[start : start + rows]
        torch.mm(block, texts.T, out=out[: len(block)])


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def extra_memory(run: Callable[[], object]) -> float:
    """Megabytes by which the resident set grew at its peak during the call (glibc on Linux; nan elsewhere)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return float("nan")

    def field(name: str) -> float:
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return float(line.split()[1]) * 1024 / 1e6

    # memory that was freed but not returned to the system would hide what the call takes
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")
    before = field("VmRSS")
    run()
    return field("VmHWM") - before


def compare(views: Tensor, texts: Tensor, class_index: Tensor, arguments: argparse.Namespace) -> tuple[float, float]:
    """Seconds of soft matching and of the bare product, from the least times of each unit."""
    prepared = SoftTexts.of(texts, class_index, arguments.classes)
    units = views.split(max(1, 1000 * arguments.threads // arguments.views))
    buffer = torch.empty(min(1000, views.shape[0] * views.shape[1]), len(texts))
    least = torch.full((len(units), 2), torch.inf)
    preparation = float("inf")
    for _ in range(arguments.repeats):
        preparation = min(preparation, seconds(lambda: SoftTexts.of(texts, class_index, arguments.classes)))
        for times, unit_views in zip(least, units, strict=True):
            matched = seconds(partial(soft_prepared, unit_views, prepared))
            whole = seconds(partial(bare_product, unit_views, texts, len(buffer), buffer))
            pieces = seconds(partial(bare_product, unit_views, texts, min(100, len(buffer)), buffer))
            times.copy_(torch.minimum(times, torch.tensor([matched, min(whole, pieces)])))
    soft_seconds, product_seconds = least.sum(0).tolist()
    return preparation + soft_seconds, product_seconds


def measure(arguments: argparse.Namespace) -> Result:
    """Run the comparison once."""
    torch.set_num_threads(arguments.threads)
    sizes = (arguments.images, arguments.views, arguments.classes, arguments.texts, arguments.dims)
    views, texts = make_vectors(*sizes, seed=arguments.seed)
    class_index = torch.arange(arguments.classes).repeat_interleave(arguments.texts)
    memory = extra_memory(lambda: soft(views, texts, class_index, arguments.classes))
    soft_seconds, product_seconds = compare(views, texts, class_index, arguments)
    checked = views[: arguments.check]
    exact = soft_reference(checked, texts, class_index, arguments.classes)
    error = ((soft(checked, texts, class_index, arguments.classes) - exact) / exact).abs().flatten()
    quantile = float(error.kthvalue(max(1, round(0.99 * len(error)))).values)
    ratio = soft_seconds / product_seconds
    return Result(arguments.threads, soft_seconds, product_seconds, ratio, memory, float(error.max()), quantile)


def main() -> None:
    """Parse the options, measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("classes", 1000), ("texts", 50), ("views", 100), ("dims", 512), ("images", 100),
                          ("threads", 1), ("repeats", 5), ("check", 4), ("seed", 0)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    result = measure(parser.parse_args())
    if parser.parse_args().json:
        print(json.dumps(asdict(result)))
        return
    print(f"threads                        {result.threads}")
    print(f"soft matching                  {result.soft_seconds:.3f} s")
    print(f"bare fp32 matrix product       {result.product_seconds:.3f} s")
    print(f"ratio                          {result.ratio:.3f}     (goal: at most 1.2)")
    print(f"extra memory                   {result.extra_megabytes:.0f} MB     (goal: at most 100)")
    print(f"largest relative error         {result.largest_error:.1e}   (goal: at most 1e-6, against float64)")
    print(f"99 % of the scores within      {result.error_quantile_99:.1e}")


if __name__ == "__main__":
    main()
