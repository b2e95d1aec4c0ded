"""Each thread with images of its own, against threads within every operation: one network, the same crops.

    python benchmarks/threads.py embedded --crops 40 --busy 0
    python benchmarks/threads.py embedded --crops 40 --busy 2
    python benchmarks/threads.py vit --crops 8

``one``: one thread. ``within``: every operation is spread over ``--threads`` threads. ``between``: each of as many
threads takes crops of its own, as this package does. All encode ``--batch`` crops at once. ``--busy`` programs that
loop for ever keep the machine busy meanwhile. Seconds for a crop: least and largest wall time of ``--repeats`` rounds,
in which the three run in turn, and the least processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from abs_classify.models.base import Model
from abs_classify.models.embedded import load_embedded_model
from abs_classify.threads import in_threads


def load(name: str) -> Model:
    if name == "embedded":
        return load_embedded_model()
    import open_clip

    from abs_classify.models.open_clip import OpenClipModel

    logging.disable(logging.WARNING)  # open_clip's, that the weights are random
    return OpenClipModel.from_model(open_clip.create_model("ViT-B-16-quickgelu"), name="random ViT-B/16")


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """Run that many programs that use a core each."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def ways(model: Model, batches: tuple[Tensor, ...], threads: int) -> dict[str, Callable[[], Tensor]]:
    # a batch as small as the model's own keeps it from making threads itself
    def loop(count: int) -> Tensor:
        torch.set_num_threads(count)
        return torch.cat([model.encode_image(batch) for batch in batches])

    def between() -> Tensor:
        torch.set_num_threads(threads)
        return torch.cat(list(in_threads(model.encode_image, batches)))

    return {"one": lambda: loop(1), "within": lambda: loop(threads), "between": between}


def main() -> None:
    """Parse the options, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("embedded", "vit"))
    for name, default in (("threads", 2), ("crops", 40), ("batch", 4), ("repeats", 4), ("busy", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args()
    model = load(options.model)
    pixels = torch.randn(options.crops, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    runs = ways(model, torch.split(pixels, options.batch), options.threads)
    expected = runs["one"]()
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    apart = dict.fromkeys(runs, 0.0)
    with busy(options.busy):
        for _ in range(options.repeats):
            for name, run in runs.items():
                wall, processor = time.perf_counter(), time.process_time()
                features = run()
                rounds[name].append((time.perf_counter() - wall, time.process_time() - processor))
                apart[name] = max(apart[name], float((features - expected).abs().max()))
    print(f"{options.model}, {options.threads} threads, {options.busy} busy programs, milliseconds for a crop")
    for name, times in rounds.items():
        walls, used = [wall for wall, _ in times], min(processor for _, processor in times)
        least, most, used = (1e3 * seconds / options.crops for seconds in (min(walls), max(walls), used))
        print(f"  {name:8} wall {least:7.1f} to {most:7.1f}   processor {used:7.1f}   difference {apart[name]:.0e}")


if __name__ == "__main__":
    main()
