"""Time and memory of whole commands by the number of images, of classes, and of descriptions of a class.

    python benchmarks/scaling.py --folder /tmp/scaling
    python benchmarks/scaling.py --folder /tmp/scaling --axis images --counts 10000 1000000 --commands eval label
    python benchmarks/scaling.py --folder /tmp/scaling --axis texts --counts 1000000 10000000

Each axis is varied alone. Images are generated, tiny and all different; descriptions are generated; the model has
random weights and is as small as one can be, so that what surrounds the encoders is what is measured. Printed are the
processor time of the command with everything it started and the peak of its anonymous memory, and between neighbouring
counts the slope: on a straight line all slopes of a column agree. ``texts`` matches generated features of that many
class texts, which lie in a file, by each kind of matching, without a model.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from labelling import anonymous_megabytes, generate  # noqa: E402 - beside this file

AXES = {
    "images": [10_000, 30_000, 100_000],
    "classes": [10, 100, 1_000, 10_000],
    "descriptions": [10, 100, 1_000],
}
BASE = {"images": 1_000, "classes": 20, "descriptions": 10}
COMMANDS = ("eval", "label", "score", "compare", "report", "lint", "filter")
_WORDS = "red blue small large round flat striped smooth shiny dark soft broad narrow curved pale".split()  # noqa: SIM905


@dataclass(frozen=True)
class Size:
    """How much of everything a command is given."""

    images: int
    classes: int
    descriptions: int


def class_name(number: int) -> str:
    """A word of letters: digits in class names are findings of ``abs lint``."""
    letters = ""
    while number or len(letters) < 4:
        number, digit = divmod(number, 20)
        letters += "bcdfghklmnprstvwxzjq"[digit] + "aeiou"[digit % 5]
    return letters


def sentences(size: Size) -> Iterator[tuple[str, str]]:
    """Class and text of every description, all different."""
    for number in range(size.classes):
        name = class_name(number)
        for place in range(size.descriptions):
            digits = [(place // 15**power) % 15 for power in range(3)]
            first, second, third = (_WORDS[digit] for digit in digits)
            yield name, f"A {name} is {first} and {second}, with a {third} part number {place} of {number}."


def bundle_reference(folder: Path, size: Size, home: Path) -> str:
    """A bundle of that size in the home, made once."""
    name = f"b{size.classes}x{size.descriptions}"
    source = folder / f"{name}.csv"
    if not source.exists():
        with source.open("w") as stream:
            stream.write("class,text\n")
            stream.writelines(f'{label},"{text}"\n' for label, text in sentences(size))
        run(["bundle", "import", str(source), "--name", name], home)
    return name


def image_list(folder: Path, size: Size) -> Path:
    """A list of that many images with labels from all classes."""
    target = folder / f"list-{size.images}-{size.classes}.csv"
    if not target.exists():
        paths = sorted(generate(folder, size.images).rglob("*.png"))
        with target.open("w") as stream:
            stream.write("path,label\n")
            stream.writelines(f"{path},{class_name(number % size.classes)}\n" for number, path in enumerate(paths))
    return target


def arguments_of(command: str, folder: Path, size: Size, home: Path) -> list[str]:
    """The command line of a command on inputs of a size; what it needs before is made."""
    model = ["--model", f"local-dir:{folder / 'model'}", "--attention", "self", "--threads", "1"]
    bundle = bundle_reference(folder, size, home)
    results = folder / f"results-{size.images}-{size.classes}-{size.descriptions}"
    evaluate = ["--dataset", f"csv:{image_list(folder, size)}", "--bundle", bundle, *model, "--results", str(results)]
    match command:
        case "eval":
            return ["eval", *evaluate, "--methods", "clip,cupl,abs(views=2)"]
        case "report":
            return ["eval", *evaluate, "--methods", "clip,cupl", "--report", str(folder / "report")]
        case "compare":
            runs = [results / method for method in ("clip", "cupl")]
            for place in runs:
                run(["eval", *evaluate, "--methods", place.name, "--results", str(place)], home)
            return ["results", "compare", *(str(next(place.rglob("*.json"))) for place in runs)]
        case "label":
            out = folder / "labelled"
            shutil.rmtree(out, ignore_errors=True)
            images = str(generate(folder, size.images))
            return ["label", images, "--bundle", bundle, *model, "--method", "cupl", "--out", str(out)]
        case "score":
            scored = ["--dataset", f"csv:{image_list(folder, size)}", *model, "--method", "abs(views=2)"]
            return ["bundle", "score", bundle, *scored, "--json"]
        case "lint":
            return ["lint", bundle, "--json"]
        case _:
            return ["filter-descriptions", bundle, "--encoder", "text", "--dry-run"]


def run(arguments: Sequence[str], home: Path) -> tuple[float, float]:
    """Processor seconds of ``abs`` with everything it started, and the peak of its anonymous memory in MB."""
    line = [sys.executable, "-m", "abs_cli", "--home", str(home), *arguments]
    before, peak = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT) as process:
        os.set_blocking(process.stderr.fileno(), False)  # type: ignore[union-attr]
        tail = b""
        while process.poll() is None:
            peak = max(peak, anonymous_megabytes(process.pid))
            tail = (tail + (process.stderr.read() or b""))[-4000:]  # type: ignore[union-attr]
            time.sleep(0.05)
    # 1 is for what a check found
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(line)}\n{tail.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak


def measure(folder: Path, axis: str, counts: Sequence[int], commands: Sequence[str]) -> None:
    """Print a table for each command along one axis."""
    unit = {"images": "image", "classes": "class", "descriptions": "description of each class"}[axis]
    for command in commands:
        points: list[tuple[int, float, float]] = []
        print(f"\n{command} by {axis}: CPU s, anonymous MB; then ms and kB for one more {unit}", flush=True)
        for count in counts:
            size, home = Size(**{**BASE, axis: count}), folder / f"home-{command}-{axis}"
            shutil.rmtree(home, ignore_errors=True)
            shutil.rmtree(folder / "report", ignore_errors=True)
            for old in (*folder.glob("results-*"), *folder.glob("b*.csv")):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            seconds, peak = run(arguments_of(command, folder, size, home), home)
            points.append((count, seconds, peak))
            print(f"{count:>10,}  {seconds:9.1f}  {peak:8.0f}", flush=True)
        for (count, seconds, peak), (more, longer, larger) in pairwise(points):
            step = more - count
            slopes = f"{1e3 * (longer - seconds) / step:.3f} ms, {1e3 * (larger - peak) / step:.2f} kB"
            print(f"  {count:,} to {more:,}: {slopes}", flush=True)


def match_texts(folder: Path, counts: Sequence[int], dims: int = 384) -> None:
    """Print time and memory of matching one image of 50 views with generated class texts in a file."""
    import numpy as np
    import torch

    from abs_classify.encoding.text_rows import fill_rows
    from abs_classify.methods.scoring import ClassTextFeatures, CosineToMean, MeanSimilarity, SoftMatch, WeightedCosine

    torch.set_num_threads(1)
    generator = np.random.default_rng(0)

    def rows_of(texts: Sequence[object]) -> np.ndarray:
        rows = generator.standard_normal((len(texts), dims), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    views = {"whole": torch.from_numpy(rows_of([0])[None]), "box": torch.from_numpy(rows_of(range(50))[None])}
    print(f"anonymous memory of the libraries: {anonymous_megabytes(os.getpid()):.0f} MB")
    for count in counts:
        matrix = fill_rows(range(count), rows_of, folder)  # type: ignore[arg-type]
        class_index = torch.arange(1000).repeat_interleave(count // 1000)
        texts = ClassTextFeatures(torch.from_numpy(matrix), class_index, torch.from_numpy(rows_of(range(1000))))
        print(f"\n{count:,} texts, {matrix.nbytes / 1e9:.1f} GB: CPU s of the first image and the next, anonymous MB")
        for scorer in (SoftMatch(), WeightedCosine(), MeanSimilarity(), CosineToMean()):
            seconds = []
            for _ in range(2):
                start = time.process_time()
                scorer.scores(views, texts)
                seconds.append(time.process_time() - start)
            memory = anonymous_megabytes(os.getpid())
            print(f"{type(scorer).__name__:15} {seconds[0]:8.2f} {seconds[1]:8.2f} {memory:6.0f}", flush=True)


def main() -> None:
    """Measure the commands along the axes."""
    from support import save_small_clip

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for images, model, caches and results; kept")
    parser.add_argument("--axis", choices=[*AXES, "texts"], action="append", help="default: all but texts")
    parser.add_argument("--counts", type=int, nargs="+", help="for one axis")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / "model").exists():
        save_small_clip(arguments.folder / "model")
    for axis in arguments.axis or AXES:
        if axis == "texts":
            match_texts(arguments.folder, arguments.counts or [1_000_000])
            continue
        # images cost nothing that only reads sentences
        commands = [name for name in arguments.commands if axis != "images" or name not in ("lint", "filter")]
        measure(arguments.folder, axis, arguments.counts or AXES[axis], commands)


if __name__ == "__main__":
    main()
