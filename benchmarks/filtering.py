"""Time, memory and detection of the pure part of filtering.

python benchmarks/filtering.py                 time and memory on made-up vectors
python benchmarks/filtering.py planted BUNDLE OTHER   how many sentences in wrong classes are found
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

from abs_descriptions.bundles import read_bundle
from abs_descriptions.filtering.criteria import Criteria
from abs_descriptions.filtering.embedding_decisions import decide
from abs_descriptions.filtering.encoders import SentenceEncoder
from abs_descriptions.generation.cleaning import RejectionReason


def measure(classes: int, per_class: int, dims: int = 384, keep: int | None = None) -> None:
    """Print seconds of processor time and the peak of what is allocated, in a second pass, for one size."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(classes, dims)).astype(np.float32)
    vectors = np.repeat(centres, per_class, axis=0)
    vectors += 1.2 * generator.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    class_index = np.repeat(np.arange(classes), per_class).tolist()
    texts = [f"text {number}" for number in range(len(vectors))]
    start = time.process_time()
    decide(vectors, class_index, texts, Criteria(keep=keep))
    seconds = time.process_time() - start
    tracemalloc.start()
    decide(vectors, class_index, texts, Criteria(keep=keep))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"{classes} classes x {per_class}, keep {keep}: {seconds:.1f} s of CPU, "
        f"{peak / 1e6:.0f} MB at most in addition to the vectors, which take {vectors.nbytes / 1e6:.0f} MB"
    )


def planted(path: Path, other: Path, seed: int = 0) -> None:
    """Print what is removed of a bundle, of sentences moved between its classes, and of sentences of another bundle."""
    bundle, foreign = read_bundle(path), read_bundle(other)
    positions = {label.id: position for position, label in enumerate(bundle.header.label_set.classes)}
    records = list(bundle.records())
    texts = [record.text for record in records]
    class_index = np.array([positions[record.class_id] for record in records])
    encoder = SentenceEncoder()
    vectors = encoder.encode(texts)
    criteria = Criteria(near_duplicate=None)

    def removed(vectors: np.ndarray, class_index: np.ndarray, texts: list[str]) -> np.ndarray:
        decisions = decide(vectors, class_index.tolist(), texts, criteria).decisions
        return np.array([decision.reason is not None for decision in decisions])

    gone = removed(vectors, class_index, texts)
    print(f"{bundle.header.name}: {gone.sum()} of {len(gone)} sentences are removed as they are ({gone.mean():.1%})")
    generator = np.random.default_rng(seed)
    moved = generator.choice(len(texts), len(texts) // 20, replace=False)
    mixed = class_index.copy()
    mixed[moved] = (class_index[moved] + generator.integers(1, len(positions), len(moved))) % len(positions)
    gone = removed(vectors, mixed, texts)
    print(f"  of {len(moved)} sentences moved into another class {gone[moved].mean():.1%} are removed")
    strangers = [record.text for record in foreign.records()]
    chosen = [strangers[index] for index in generator.choice(len(strangers), len(positions), replace=False)]
    both, every_class = np.concatenate([vectors, encoder.encode(chosen)]), range(len(positions))
    decisions = decide(both, [*class_index.tolist(), *every_class], [*texts, *chosen], criteria).decisions[len(texts) :]
    off_topic = sum(decision.reason is RejectionReason.OFF_TOPIC for decision in decisions)
    count = sum(decision.reason is not None for decision in decisions)
    print(
        f"  of {len(decisions)} sentences of {foreign.header.name}, one in each class, {count} are removed, "
        f"{off_topic} of them as off-topic"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["planted"]:
        planted(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        measure(1000, 50)
        measure(1000, 50, keep=20)
        measure(10, 5000)
        measure(1, 50_000)
