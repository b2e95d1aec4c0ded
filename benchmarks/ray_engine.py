"""What Ray costs: two workers of the engine against two processes that take half of the images each.

    python benchmarks/ray_engine.py --images 256 --repeats 1

ViT-B/16 with random weights, one thread a process, full images and a few crops, caches that are empty each time. Every
command runs with few images and with many, and the difference of the two counts: what it costs to start is in both. Ray
and the two processes take turns, and of each difference the least counts. It needs two cores that are free, or the
ratio says nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from eval_speed import make_images  # noqa: E402 - beside this file

VIEWS = "4"
# two of the smallest parts that the engine deals out
FEW = 64


def save_model(folder: Path) -> str:
    """A ViT-B/16 as open_clip saves one, with random weights."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None)
    config = {"model_cfg": open_clip.get_model_config("ViT-B-16-quickgelu"), "preprocess_cfg": {}}
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def command(folder: Path, photos: Path, model: str, cache: Path, out: str, *options: str) -> list[str]:
    start = [sys.executable, "-m", "abs_cli", "--home", str(folder / "home"), "--cache", str(cache), "features"]
    views = ["--of", "views", "--method", "abs-pixels", "--views", VIEWS, "--attention", "self", "--threads", "1"]
    return [*start, str(photos), *views, "--model", model, "--out", str(folder / out), *options]


def seconds(kind: str, folder: Path, photos: Path, model: str) -> float:
    """Seconds until the features of all photos are written, by an engine whose cache is empty."""
    cache = folder / "cache"
    if kind == "ray":
        options = {"ray.npz": ["--engine", "ray", "--workers", "2"]}
    else:
        options = {"first.npz": ["--shard", "1/2"], "second.npz": ["--shard", "2/2"]}
    commands = [command(folder, photos, model, cache, out, *more) for out, more in options.items()]
    start = time.perf_counter()
    running = [
        subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for arguments in commands
    ]
    codes = [process.wait() for process in running]
    taken = time.perf_counter() - start
    assert codes == [0] * len(codes), codes
    shutil.rmtree(cache)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="abs-ray-") as name:
        folder = Path(name)
        photos = {count: folder / f"photos-{count}" for count in (FEW, options.images)}
        for count, path in photos.items():
            make_images(path, count, (500, 375), 2)
        model = save_model(folder / "model")
        least = {"shards": float("inf"), "ray": float("inf")}
        for _ in range(options.repeats):
            for kind in least:
                few, many = (seconds(kind, folder, path, model) for path in photos.values())
                print(f"{kind}: {few:.1f} s for {FEW} images, {many:.1f} s for {options.images}", flush=True)
                least[kind] = min(least[kind], many - few)
        print(f"ratio: {least['shards'] / least['ray']:.2f}")


if __name__ == "__main__":
    main()
