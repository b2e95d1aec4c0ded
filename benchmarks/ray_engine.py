"""What Ray costs: two workers of the engine against two processes that take half of the images each.

    python benchmarks/ray_engine.py --images 64 --repeats 2

ViT-B/16 with random weights, one thread a process, full images and some crops, caches that are empty each time. Only
the time in which images are encoded counts: from the first features in the cache to the end. The two take turns, and
of each the least counts. On a machine with two cores that are free, or the ratio says nothing.
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

VIEWS = "10"


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


def command(folder: Path, model: str, cache: Path, out: str, *options: str) -> list[str]:
    start = [sys.executable, "-m", "abs_cli", "--home", str(folder / "home"), "--cache", str(cache), "features"]
    views = ["--of", "views", "--method", "abs-pixels", "--views", VIEWS, "--attention", "self", "--threads", "1"]
    return [*start, str(folder / "photos"), *views, "--model", model, "--out", str(folder / out), *options]


def encoding_time(commands: list[list[str]], cache: Path) -> float:
    """Seconds from the first pack with views to the end of all commands."""
    running = [
        subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for arguments in commands
    ]
    first = None
    while any(process.poll() is None for process in running):
        if first is None and len(list(cache.glob("features/*/*.safetensors"))) > 1:
            first = time.perf_counter()
        time.sleep(0.02)
    assert all(process.returncode == 0 for process in running)
    assert first is not None
    return time.perf_counter() - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="abs-ray-") as name:
        folder = Path(name)
        make_images(folder / "photos", options.images, (500, 375), 2)
        model = save_model(folder / "model")
        least = {"shards": float("inf"), "ray": float("inf")}
        for number in range(options.repeats):
            for kind in least:
                cache = folder / f"{kind}-{number}"
                if kind == "ray":
                    commands = [command(folder, model, cache, "ray.npz", "--engine", "ray", "--workers", "2")]
                else:
                    halves = ("1/2", "2/2")
                    commands = [command(folder, model, cache, f"{half[0]}.npz", "--shard", half) for half in halves]
                least[kind] = min(least[kind], encoding_time(commands, cache))
                shutil.rmtree(cache)
        print(", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in least.items()))
        print(f"ratio: {least['shards'] / least['ray']:.2f}")


if __name__ == "__main__":
    main()
