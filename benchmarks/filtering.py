"""Time, memory and detection of the pure part of filtering.

python benchmarks/filtering.py                 time and memory on made-up vectors
python benchmarks/filtering.py planted BUNDLE OTHER   what is found of sentences that were put into wrong classes
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

from abs_descriptions.bundles import read_bundle
from abs_descriptions.filtering.criteria import Criteria, decide
from abs_descriptions.filtering.encoders import SentenceEncoder
from abs_descriptions.generation.cleaning import RejectionReason


def measure(classes: int, per_class: int, dims: int = 384, keep: int | None = None) -> None:
    """Print seconds of processor time and the peak of what is allocated, in a second pass, for one size."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(classes, dims)).astype(np.float32)
    vectors = np.repeat(centres, per_class, axis=0)
    vectors += 1.2 * generator.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = np.repeat(np.arange(classes), per_class).tolist()
    texts = [f"text {at}" for at in range(len(vectors))]
    start = time.process_time()
    decide(vectors, owners, texts, Criteria(keep=keep))
    seconds = time.process_time() - start
    tracemalloc.start()
    decide(vectors, owners, texts, Criteria(keep=keep))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"{classes} classes x {per_class}, keep {keep}: {seconds:.1f} s of CPU, "
        f"{peak / 1e6:.0f} MB at the most beside the vectors, which take {vectors.nbytes / 1e6:.0f} MB"
    )


def planted(path: Path, other: Path, seed: int = 0) -> None:
    """Print what goes of a bundle as it is, of sentences moved between its classes, and of sentences of another one."""
    own, foreign = read_bundle(path), read_bundle(other)
    places = {one.id: at for at, one in enumerate(own.header.label_set.classes)}
    records = list(own.records())
    texts = [record.text for record in records]
    owners = np.array([places[record.class_id] for record in records])
    encoder = SentenceEncoder()
    vectors = encoder.encode(texts)
    criteria = Criteria(near_duplicate=None)
    goes = np.array([one.reason is not None for one in decide(vectors, owners.tolist(), texts, criteria).decisions])
    print(f"{own.header.name}: {goes.sum()} of {len(goes)} sentences go as they are ({goes.mean():.1%})")
    generator = np.random.default_rng(seed)
    moved = generator.choice(len(texts), len(texts) // 20, replace=False)
    mixed = owners.copy()
    mixed[moved] = (owners[moved] + generator.integers(1, len(places), len(moved))) % len(places)
    goes = np.array([one.reason is not None for one in decide(vectors, mixed.tolist(), texts, criteria).decisions])
    print(f"  of {len(moved)} sentences moved into another class {goes[moved].mean():.1%} go")
    strangers = [record.text for record in foreign.records()]
    chosen = [strangers[at] for at in generator.choice(len(strangers), len(places), replace=False)]
    both = np.concatenate([vectors, encoder.encode(chosen)])
    found = decide(both, [*owners.tolist(), *range(len(places))], [*texts, *chosen], criteria).each[len(texts) :]
    off = sum(one.reason is RejectionReason.OFF_TOPIC for one in found)
    gone = sum(one.reason is not None for one in found)
    print(f"  of {len(found)} sentences of {foreign.header.name}, one a class, {gone} go, {off} of them as off-topic")


if __name__ == "__main__":
    if sys.argv[1:2] == ["planted"]:
        planted(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        measure(1000, 50)
        measure(1000, 50, keep=20)
        measure(10, 5000)
        measure(1, 50_000)
