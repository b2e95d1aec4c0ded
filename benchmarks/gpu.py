"""Everything about ABS on a GPU, in one run of about five minutes.

    python benchmarks/gpu.py                           # the first CUDA device
    python benchmarks/gpu.py --device cpu --quick      # the same code on a processor, with tiny sizes: no GPU numbers

Images a second with ViT-B/16 of random weights, 50 crops and 50 feature windows an image, in float32, bfloat16 and
float16, with and without ``torch.compile``, and with adaptive views that stop at 8 crops; the share that this
is of the arithmetic of a large bfloat16 matrix product; the ratio to ``authors_structure.py`` on the same device;
where the time goes; peak memory; and whether the pixels and features are those of the CPU. Images are JPEG files in
memory, 500 x 375. A number that is not measured in time is left out, and that is said.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import logging
import math
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from authors_structure import AuthorsStructure
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize, scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from abs_classify.encoding.accelerator import Accelerator, Cut
from abs_classify.encoding.adaptive_views import AdaptiveMethod, ViewDecisions
from abs_classify.encoding.encoder import EncodedImage, EncodingRequest, _Encoder, _on_accelerator, encode_images
from abs_classify.images import LoadedImage, load_image
from abs_classify.methods.adaptive import PartialScores
from abs_classify.methods.class_texts import Sentences
from abs_classify.methods.scoring import ClassTextFeatures, SoftMatch
from abs_classify.methods.similarity import unit
from abs_classify.methods.soft_matching import SoftTexts, soft_prepared
from abs_classify.methods.table import Method
from abs_classify.methods.views import AttentionCrops, FeatureWindows, Geometry, ViewSource, place_views
from abs_classify.models.attention import DinoAttention
from abs_classify.models.base import DTYPES, input_size
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.preprocessing import PixelPreprocessing
from abs_classify.models.vit import load_vit
from abs_classify.threads import in_threads
from abs_core.errors import AbsError

EMBED_DIM = 512
IMAGES = Path(__file__).parents[1] / "tests" / "golden" / "photos"


@dataclass(frozen=True)
class Sizes:
    """What is measured: on a GPU, and to try the script on a processor."""

    architecture: dict[str, Any]
    dino: str
    views: int
    few_views: int
    batch: int
    classes: int
    texts: int
    product: int
    seconds: float
    least_images: int
    most_images: int
    dtypes: tuple[str, ...]


LARGE = Sizes(
    {"layers": 12, "width": 768, "patch_size": 16, "image_size": 224},
    "vit_base_patch16_224",
    views=50,
    few_views=8,
    batch=256,
    classes=1000,
    texts=50,
    product=8192,
    seconds=6.0,
    least_images=8,
    most_images=2048,
    dtypes=("bfloat16", "float16", "float32"),
)
SMALL = Sizes(
    {"layers": 2, "width": 64, "patch_size": 32, "image_size": 64},
    "vit_tiny_patch16_224",
    views=5,
    few_views=4,
    batch=4,
    classes=5,
    texts=3,
    product=256,
    seconds=0.0,
    least_images=3,
    most_images=3,
    dtypes=("bfloat16", "float32"),
)


@dataclass(frozen=True)
class StopAt:
    """A stopping rule that looks at a number of views, whatever they say."""

    views: int
    agreement: float = 0.99

    def settled(self, scores: PartialScores) -> np.ndarray:
        """See ``StoppingRule``."""
        return np.full(len(scores.known), scores.count >= self.views)

    def key(self) -> dict[str, Any]:
        """See ``StoppingRule``."""
        return {"rule": "stop at", "views": self.views}


class Bench:
    """A model of one dtype with random weights, and what is measured with it."""

    def __init__(self, sizes: Sizes, device: torch.device, dtype: str, dino: DinoAttention, texts: SoftTexts) -> None:
        torch.manual_seed(0)
        text = {"context_length": 77, "vocab_size": 512, "width": 64, "heads": 1, "layers": 1}
        network = open_clip.model.CLIP(EMBED_DIM, sizes.architecture, text, quick_gelu=True)
        self.model = OpenClipModel.from_model(network, name=f"ViT in {dtype}", device=str(device), dtype=dtype)
        self.sizes, self.device, self.dino, self.texts = sizes, device, dino, texts
        self.side = input_size(self.model)
        self.geometry = Geometry.of(self.model, self.side)

    def flops(self) -> int:
        """Of one crop through the network."""
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its operations are not counted
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                self.model.encode_image(torch.randn(1, 3, self.side, self.side, device=self.device))
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        return counter.get_total_flops()

    def crops_a_second(self, *, compiled: bool) -> float:
        """Crops through the network alone, in full batches that are on the device already."""
        pixels = torch.randn(self.sizes.batch, 3, self.side, self.side, device=self.device)
        network = self._accelerator(compiled)._compiled(self.model.encode_image, pixels)
        with torch.no_grad():
            return self.sizes.batch / seconds(lambda: network(pixels), self.sizes.seconds, self.device)

    def images_a_second(self, files: Sequence[bytes], *, compiled: bool) -> float:
        """All of ABS: decoding, attention, views, encoding and matching."""
        return self._rate(lambda requests: self.scores(requests, compiled=compiled), files)

    def adaptive_images_a_second(self, files: Sequence[bytes]) -> float:
        """The same with adaptive views; a rule of this benchmark stops them, since random scores settle nothing."""
        kinds = (AttentionCrops(self.sizes.views), FeatureWindows(self.sizes.views))
        method = Method("abs", "", kinds, Sentences(), SoftMatch())
        texts = self.texts.texts.cpu()
        features = ClassTextFeatures(texts, class_index(self.sizes)[0], texts[:: self.sizes.texts])
        sources = method.adaptive_views(cheap_windows=True)
        adaptive = AdaptiveMethod(
            method, features, StopAt(self.sizes.few_views), sources, {kind: kind for kind in kinds}
        )
        decisions = ViewDecisions([adaptive], {})
        return self._rate(lambda requests: self.encode(requests, kinds, decisions=decisions), files)

    def _rate(self, work: Callable[[Iterable[EncodingRequest]], Iterator[object]], files: Sequence[bytes]) -> float:
        """Images a second of work on as many as the time allows."""

        def run(count: int) -> float:
            synchronize(self.device)
            begin = time.perf_counter()
            for _ in work(read_ahead(files, count)):
                pass
            synchronize(self.device)
            return (time.perf_counter() - begin) / count

        estimate = min(run(self.sizes.least_images) for _ in range(2))
        wanted = math.ceil(self.sizes.seconds / estimate)
        return 1 / run(min(max(wanted, self.sizes.least_images), self.sizes.most_images))

    def scores(self, requests: Iterable[EncodingRequest], *, compiled: bool = False) -> Iterator[Tensor]:
        """Class scores [B, C] of groups of images."""
        kinds = (AttentionCrops(self.sizes.views), FeatureWindows(self.sizes.views))
        for group in self.encode(requests, kinds, compiled=compiled):
            rows = [torch.cat([image.features[kind] for kind in kinds]) for image in group]
            yield soft_prepared(torch.stack(rows).to(self.device), self.texts)

    def encode(
        self,
        requests: Iterable[EncodingRequest],
        kinds: Sequence[ViewSource],
        *,
        compiled: bool = False,
        decisions: ViewDecisions | None = None,
    ) -> Iterator[list[EncodedImage]]:
        """The path of an accelerator, whatever the device is."""
        encoder = _Encoder(self.model, self.geometry, self.dino, kinds, 0, self.sizes.batch, decisions)
        return _on_accelerator(encoder, requests, self._accelerator(compiled))

    def _accelerator(self, compiled: bool) -> Accelerator:
        return Accelerator(self.model, self.sizes.batch, 0.0 if compiled else None)

    def steps(self, file: bytes) -> dict[str, float]:
        """Milliseconds of each step for one image, one step after the other, each waited for."""
        sizes, model, image = self.sizes, self.model, load_image(file)
        accelerator, full = self._accelerator(False), [Cut(image.pixels)]
        attention = accelerator.run(full, self.dino.preprocess, self.dino.maps).cpu()[0].numpy()
        kinds = (AttentionCrops(sizes.views), FeatureWindows(sizes.views))

        def place() -> dict[ViewSource, Any]:
            return place_views(self.geometry, attention, image.id, image.pixels.size, kinds)

        crops = [Cut(image.pixels, tuple(box)) for box in place()[kinds[0]].tolist()]
        windows = torch.from_numpy(place()[kinds[1]])[None]
        tokens = accelerator.run(full, model.preprocess, model.tokens)
        pixels = accelerator.run(crops, model.preprocess_crop, lambda pixels: pixels)
        views = unit(torch.randn(1, 2 * sizes.views, EMBED_DIM)).to(self.device)
        views_on_cpu, texts_on_cpu = views.cpu(), SoftTexts.of(self.texts.texts.cpu(), *class_index(sizes))

        def pillow(image: Image.Image) -> Tensor:
            return model.preprocess_crop(image)

        runs: dict[str, Callable[[], object]] = {
            "decode, in one thread": lambda: load_image(file),
            "full image and attention of DINO": lambda: (
                accelerator.run(full, self.dino.preprocess, self.dino.maps),
                accelerator.run(full, model.preprocess, model.tokens),
            ),
            "place the views, in one thread": place,
            "upload the image, cut and resize on the device": lambda: accelerator.run(
                crops, model.preprocess_crop, lambda pixels: pixels
            ),
            "cut and resize with Pillow, upload the crops": lambda: accelerator.run(
                crops, pillow, lambda pixels: pixels
            ),
            "encode the crops": lambda: model.encode_image(pixels),
            "feature windows": lambda: model.pool_windows(tokens, windows),
            "match, on the device": lambda: soft_prepared(views, self.texts),
            "match, on the CPU": lambda: soft_prepared(views_on_cpu, texts_on_cpu),
        }
        return {name: 1000 * seconds(run, sizes.seconds / 6, self.device) for name, run in runs.items()}


def class_index(sizes: Sizes) -> tuple[Tensor, int]:
    return torch.arange(sizes.classes).repeat_interleave(sizes.texts), sizes.classes


def read_ahead(files: Sequence[bytes], count: int) -> Iterator[EncodingRequest]:
    """Decoded images, each with an id of its own; threads decode the next ones."""

    def read(number: int) -> EncodingRequest:
        image = load_image(files[number % len(files)])
        return EncodingRequest(LoadedImage(f"{image.id}-{number}", image.pixels))

    return in_threads(read, range(count), ahead=64)


def jpeg_files() -> list[bytes]:
    """Photos of 500 x 375 pixels."""
    files = []
    for path in sorted(IMAGES.glob("*.png")):
        stream = io.BytesIO()
        Image.open(path).convert("RGB").resize((500, 375), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], budget: float, device: torch.device) -> float:
    """Mean seconds of a run in the fastest of three rounds, after a first one that does not count."""
    times = []
    for _ in range(2):
        synchronize(device)
        begin = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    count = max(1, int(budget / 3 / times[-1]))
    rounds = []
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(count):
            run()
        synchronize(device)
        rounds.append((time.perf_counter() - begin) / count)
    return min(rounds)


def product_flops(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    left = torch.randn(sizes.product, sizes.product, device=device).to(dtype)
    return 2 * sizes.product**3 / seconds(lambda: left @ left, sizes.seconds / 3, device)


def attention_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """The kernels that can compute the attention of a ViT-B/16 on a device."""
    queries = torch.randn(1, 12, 197, 64, device=device, dtype=dtype)
    able = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        with warnings.catch_warnings(), suppress(RuntimeError), sdpa_kernel(backend):
            warnings.simplefilter("ignore")  # torch says why a kernel cannot
            scaled_dot_product_attention(queries, queries, queries)
            able.append(backend.name.removesuffix("_ATTENTION").lower())
    return ", ".join(able) or "the plain one alone"


def differences(exact: Bench, low: Sequence[Bench], on_cpu: Bench, file: bytes) -> dict[str, Any]:
    """Whether the device gives the pixels of Pillow and the features of the CPU."""
    image, kinds = load_image(file), (AttentionCrops(exact.sizes.few_views), FeatureWindows(exact.sizes.few_views))
    attention = on_cpu.dino.maps(on_cpu.dino.preprocess(image.pixels)[None])
    expected = encode_images(on_cpu.model, None, [image], kinds, attention=attention).features
    preprocessing = exact.model.preprocess
    assert isinstance(preprocessing, PixelPreprocessing)
    values: dict[str, Any] = {"crops have the bits of Pillow": preprocessing.works_on(exact.device)}
    for bench in (exact, *low):
        ((encoded,),) = bench.encode([EncodingRequest(image, attention=attention[0])], kinds)
        rows = torch.cat([encoded.features[kind] for kind in kinds])
        right = torch.cat([expected[kind][0] for kind in kinds])
        if bench is exact:
            values["largest difference of unit features, float32, to the CPU"] = float((rows - right).abs().max())
        else:
            cosine = (rows * right).sum(-1).min()
            values[f"largest 1 - cosine to float32 on the CPU, {bench.model.name}"] = float(1 - cosine)
    return values


class Report:
    """Prints what is measured at once, leaves out what there is no time for, and keeps it for JSON."""

    def __init__(self, budget: float, as_json: bool) -> None:
        self._begin, self._budget, self._as_json = time.monotonic(), budget, as_json
        self.values: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        self.values[name] = value
        if not self._as_json:
            print(f"  {name:66} {value:.4g}" if isinstance(value, float) else f"  {name:66} {value}", flush=True)

    def measure(self, name: str, run: Callable[[], float]) -> float | None:
        """Measure if there is time; what cannot be measured is said, and the rest goes on."""
        if time.monotonic() - self._begin > self._budget:
            self.add(name, "left out: no time")
            return None
        try:
            value = run()
        except (RuntimeError, AbsError) as error:  # one dtype or kernel that a device lacks
            self.add(name, f"failed: {str(error).splitlines()[0][:100]}")
            return None
        self.add(name, value)
        return value

    def title(self, text: str) -> None:
        if not self._as_json:
            print(text, flush=True)


@dataclass(frozen=True)
class Benches:
    """What is measured, by dtype."""

    by_dtype: Mapping[str, Bench]
    on_cpu: Bench
    authors: AuthorsStructure

    @property
    def exact(self) -> Bench:
        return self.by_dtype["float32"]

    @classmethod
    def build(cls, sizes: Sizes, device: torch.device, folder: Path) -> Benches:
        """Random weights for CLIP and DINO, and random texts."""
        torch.manual_seed(0)
        file = folder / "dino.safetensors"
        save_file(timm.create_model(sizes.dino, num_classes=0).state_dict(), file)
        spec = f"{sizes.dino}.dino@{file}" if "base" in sizes.dino else f"{sizes.dino}@{file}"
        dino, dino_on_cpu = DinoAttention(spec, device=device), DinoAttention(spec)
        texts = normalize(torch.randn(sizes.classes * sizes.texts, EMBED_DIM), dim=-1)
        index, classes = class_index(sizes)
        prepared = SoftTexts.of(texts.to(device), index.to(device), classes)
        by_dtype = {name: Bench(sizes, device, name, dino, prepared) for name in sizes.dtypes}
        on_cpu = Bench(sizes, torch.device("cpu"), "float32", dino_on_cpu, SoftTexts.of(texts, index, classes))
        exact = by_dtype["float32"].model
        assert exact.split is not None
        authors = AuthorsStructure(
            exact.network,
            exact.preprocess,
            exact.split.embed,
            load_vit(spec).trunk.to(device),
            dino.preprocess,
            texts.reshape(classes, sizes.texts, -1).to(device),
            sizes.views,
        )
        return cls(by_dtype, on_cpu, authors)

    def authors_images_a_second(self, files: Sequence[bytes]) -> float:
        """One image at a time, decoding included."""
        sizes = self.exact.sizes
        views = (AttentionCrops(sizes.views), FeatureWindows(sizes.views))

        def run() -> None:
            image = load_image(files[0])
            self.authors.scores(image.pixels, image.id, *views, 0)

        return 1 / seconds(run, sizes.seconds, self.exact.device)


def measure_all(benches: Benches, report: Report, *, may_compile: bool) -> None:
    """Everything, the most important first."""
    exact, files = benches.exact, jpeg_files()
    sizes, device = exact.sizes, exact.device
    report.title("is it right")
    low = [bench for name, bench in benches.by_dtype.items() if name != "float32"]
    for name, value in differences(exact, low, benches.on_cpu, files[0]).items():
        report.add(name, value)
    report.title("arithmetic")
    flops = exact.flops()
    report.add("GFLOP of a crop", flops / 1e9)
    report.add("attention kernels, bfloat16", attention_kernels(device, torch.bfloat16))
    for name in benches.by_dtype:
        report.measure(f"FLOP/s of a matrix product, {name}", partial(product_flops, sizes, device, DTYPES[name]))
    report.title(f"images a second, {sizes.views} crops and {sizes.views} feature windows each")
    authors = report.measure("authors' structure, float32", partial(benches.authors_images_a_second, files))
    for (name, bench), compiled in itertools.product(benches.by_dtype.items(), (False, True)):
        if compiled and (not may_compile or name == "float16"):
            continue
        measure_dtype(
            bench, f"{name}, compiled" if compiled else name, files, report, flops, authors, compiled=compiled
        )
    report.title(f"images a second, adaptive views that stop at {sizes.few_views} crops; matched on the CPU")
    for name, bench in benches.by_dtype.items():
        report.measure(f"adaptive, {name}", partial(bench.adaptive_images_a_second, files))
    report.title("milliseconds of each step for an image, one after the other, bfloat16")
    for step, value in benches.by_dtype["bfloat16"].steps(files[0]).items():
        report.add(step, value)


def measure_dtype(
    bench: Bench,
    how: str,
    files: Sequence[bytes],
    report: Report,
    flops: int,
    authors: float | None,
    *,
    compiled: bool,
) -> None:
    """Crops through the encoder alone and images through all of ABS, and what they are shares of."""
    product, views = report.values.get("FLOP/s of a matrix product, bfloat16"), bench.sizes.views
    crops = report.measure(f"encoder alone, crops a second, {how}", partial(bench.crops_a_second, compiled=compiled))
    if crops is not None and isinstance(product, float):
        report.add(f"  share of the bfloat16 matrix product (goal 0.65), {how}", crops * flops / product)
    images = report.measure(f"ABS, {how}", partial(bench.images_a_second, files, compiled=compiled))
    if images is not None and isinstance(product, float):
        report.add(f"  share of the bfloat16 matrix product, {how}", images * views * flops / product)
    if images is not None and authors is not None:
        report.add(f"  ratio to the authors' structure (goal 10), {how}", images / authors)


def main() -> None:
    """Parse the options, measure, print lines or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu; default cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile; a processor always does")
    parser.add_argument("--batch-size", type=int, help="crops in a batch, default 256")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --quick tries the script on a processor")
    logging.disable(logging.INFO)
    sizes = SMALL if options.quick else LARGE
    if options.batch_size:
        sizes = replace(sizes, batch=options.batch_size)
    report = Report(240.0, options.json)
    is_gpu = device.type == "cuda"
    report.title("" if is_gpu else "THESE ARE NO GPU NUMBERS: a processor does what a GPU would be asked to do")
    report.add("device", torch.cuda.get_device_name(device) if is_gpu else f"processor, {platform.machine()}")
    report.add("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    report.add("batch size", sizes.batch)
    with tempfile.TemporaryDirectory() as folder:
        benches = Benches.build(sizes, device, Path(folder))
    measure_all(benches, report, may_compile=is_gpu and not options.no_compile)
    if is_gpu:
        report.add("peak memory of the device, GB", torch.cuda.max_memory_allocated(device) / 1e9)
    if options.json:
        print(json.dumps({"gpu": is_gpu, **report.values}))


if __name__ == "__main__":
    main()
