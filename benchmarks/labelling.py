"""`abs label` on folders of many images: memory, the second run, and runs that are killed and resumed.

    python benchmarks/labelling.py scale --images 10000 1000000 --folder /tmp/labelling
    python benchmarks/labelling.py kill --kills 30 --folder /tmp/labelling
    python benchmarks/labelling.py overlap --delay 0.02 --folder /tmp/labelling

Images are generated, tiny and all different; the model has random weights and is as small as one can be, so that what
surrounds the encoder is what is measured. ``scale``: for each number of images the peak of the process's anonymous
memory, the time of the first run, and of the second one, which computes nothing. ``kill``: a run that is killed with
SIGKILL at random moments and started again must end with the rows of a run that was left alone. ``overlap``: a run
whose every read of a file takes as long as on a network disk (``--delay``), the same reads without encoding, and the
same encoding without the delay: a run should take little more than the larger of the two.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

_SIDE = 16
_PER_FOLDER = 10_000


def write_png(path: Path, number: int) -> None:
    """A small image that differs from all others, written without a library: a million take a minute."""
    row = struct.pack("<Q", number * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
    pixels = b"".join(b"\0" + (row * (3 * _SIDE // 8 + 1))[line % 8 :][: 3 * _SIDE] for line in range(_SIDE))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 1)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    path.write_bytes(data)


def generate(folder: Path, images: int) -> Path:
    """A folder of that many images in sub-folders, made once."""
    target = folder / f"images-{images}"
    if not (folder / f"images-{images}.done").exists():
        for number in range(images):
            if number % _PER_FOLDER == 0:
                (target / f"{number // _PER_FOLDER:03}").mkdir(parents=True, exist_ok=True)
            write_png(target / f"{number // _PER_FOLDER:03}" / f"{number:07}.png", number)
        (folder / f"images-{images}.done").touch()
    return target


def command(folder: Path, images: Path, out: Path, method: str) -> list[str]:
    """The command of a run."""
    return [
        sys.executable, "-m", "abs_cli", "--home", str(folder / "home"), "label", str(images), "--out", str(out),
        "--labels", "cat,dog,shoe,house", "--model", f"local-dir:{folder / 'model'}", "--attention", "self",
        "--method", method, "--json",
    ]  # fmt: skip


def anonymous_megabytes(pid: int) -> float:
    """The anonymous memory of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon")), 0.0)


def measured(arguments: list[str]) -> tuple[float, float, str]:
    """Seconds, the peak of anonymous memory in MB, and the last line on stderr."""
    start, peak = time.perf_counter(), 0.0
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
        reader.start()
        while process.poll() is None:
            peak = max(peak, anonymous_megabytes(process.pid))
            time.sleep(0.05)
        reader.join()
    if process.returncode:
        raise SystemExit("".join(lines))
    return time.perf_counter() - start, peak, lines[-1].strip()


def scale(folder: Path, counts: list[int], method: str) -> None:
    """Print a line for the first and the second run over each number of images."""
    print(f"{'images':>9}  {'run':6}  {'seconds':>8}  {'anonymous MB':>12}")
    for images in counts:
        source, out = generate(folder, images), folder / f"out-{images}"
        shutil.rmtree(out, ignore_errors=True)
        for name in ("first", "second"):
            seconds, peak, last = measured(command(folder, source, out, method))
            print(f"{images:>9}  {name:6}  {seconds:8.1f}  {peak:12.0f}  {last}", flush=True)


def stored_rows(out: Path) -> int:
    """How many rows the table of a run has."""
    try:
        return (out / "labels.csv").read_bytes().count(b"\n") - 1
    except OSError:
        return 0


def kill(folder: Path, kills: int, method: str) -> None:
    """Kill a run at random moments, resume it, and compare its table with that of a run that was left alone."""
    images = 3000
    source = generate(folder, images)
    whole, broken = folder / "out-whole", folder / "out-killed"
    for path in (whole, broken, folder / "home"):
        shutil.rmtree(path, ignore_errors=True)
    seconds, _, _ = measured(command(folder, source, whole, method))
    shutil.rmtree(folder / "home")
    moments = random.Random(0)
    ended = 0
    for number in range(kills):
        process = subprocess.Popen(
            command(folder, source, broken, method), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        # somewhere in the next part of the images, and a moment after rows were stored: wherever the run is by then
        rows = images * (number + moments.random()) / kills
        while process.poll() is None and stored_rows(broken) < rows:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1))
        ended += process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
    measured(command(folder, source, broken, method))
    same = (whole / "labels.csv").read_bytes() == (broken / "labels.csv").read_bytes()
    result = "the same" if same else "DIFFER"
    print(f"{kills - ended} kills of a run of {seconds:.1f} s over {images} images: rows {result}")
    if not same:
        raise SystemExit(1)


def overlap(folder: Path, delay: float) -> None:
    """Print the time of reading alone, of encoding alone, and of a run that does both."""
    from abs_classify import label
    from abs_classify.datasets import base
    from abs_classify.encoding import digest_cache
    from abs_classify.images import load_image

    source = generate(folder, 1000)
    read_bytes, sha256_file = base.read_bytes, digest_cache.sha256_file

    def run(seconds: float) -> float:
        def slow_read(*arguments: Any, **options: Any) -> bytes:
            time.sleep(seconds)
            return read_bytes(*arguments, **options)

        def slow_digest(path: Path) -> str:
            time.sleep(seconds)
            return sha256_file(path)

        base.read_bytes, digest_cache.sha256_file = slow_read, slow_digest
        start = time.perf_counter()
        for _ in label(source, ["cat", "dog"], model="embedded", method="clip"):
            pass
        return time.perf_counter() - start

    def read() -> float:
        """What a run reads, as it reads it: each file once for its digest, once to decode it."""
        paths = sorted(source.rglob("*.png"))
        start = time.perf_counter()
        with ThreadPoolExecutor(4) as digests, ThreadPoolExecutor(torch.get_num_threads()) as images:
            pending = [digests.submit(lambda: time.sleep(delay)) for _ in paths]
            pending += [images.submit(lambda path=path: (time.sleep(delay), load_image(path))) for path in paths]
            for future in pending:
                future.result()
        return time.perf_counter() - start

    run(0.0)  # loads the model
    encoding, reading, both = run(0.0), read(), run(delay)
    larger = max(encoding, reading)
    print(f"encoding {encoding:.1f} s, reading {reading:.1f} s, both {both:.1f} s: {both / larger:.2f} of the larger")


def main() -> None:
    """Run one of the measurements."""
    from support import save_small_clip

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["scale", "kill", "overlap"])
    parser.add_argument("--folder", type=Path, required=True, help="for images, model, cache and labels; kept")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds that a read of a file takes in `overlap`")
    parser.add_argument("--method", default="clip")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / "model").exists():
        save_small_clip(arguments.folder / "model")
    if arguments.what == "scale":
        scale(arguments.folder, arguments.images, arguments.method)
    elif arguments.what == "overlap":
        overlap(arguments.folder, arguments.delay)
    else:
        kill(arguments.folder, arguments.kills, arguments.method)


if __name__ == "__main__":
    main()
