"""Time, memory and detection of the pure part of filtering.

python benchmarks/filtering.py                 time and memory on made-up vectors
python benchmarks/filtering.py planted BUNDLE OTHER   how many sentences in wrong classes are found
python benchmarks/filtering.py text            time of the comparison of texts alone, and what its limit finds
python benchmarks/filtering.py encoders BUNDLE ...   onnxruntime against sentence-transformers
"""

from __future__ import annotations

import random
import re
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from abs_descriptions.bundles import read_bundle
from abs_descriptions.bundles.versions import shipped_bundles
from abs_descriptions.filtering.criteria import Criteria, TextCriteria
from abs_descriptions.filtering.embedding_decisions import decide
from abs_descriptions.filtering.encoders import SentenceEncoder
from abs_descriptions.filtering.onnx_encoder import OnnxEncoder
from abs_descriptions.filtering.text_decisions import decide_by_text, jaccard, trigrams
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


_COLOURS = ("red", "blue", "green", "white", "black", "brown", "grey", "yellow", "orange", "silver")


def compare_texts() -> None:
    """Print the time of the comparison of texts on made-up classes, and how many edited sentences the limits find."""
    bundles = [read_bundle(path) for path in shipped_bundles().values()]
    written = [record.text for bundle in bundles for record in bundle.records()]
    encoder = OnnxEncoder()
    for name, edit in _EDITS.items():
        generator = random.Random(0)
        pairs = [(text, other) for text in written if (other := edit(text, generator)) != text]
        pairs = generator.sample(pairs, min(200, len(pairs)))
        left, right = (encoder.encode([pair[side] for pair in pairs]) for side in (0, 1))
        near = (left * right).sum(axis=1) >= 0.95
        similar = np.array([jaccard(trigrams(text), trigrams(other)) for text, other in pairs])
        shares = ", ".join(f"{limit} {(similar >= limit).mean():.0%}" for limit in (0.7, 0.8, 0.9))
        print(f"{name:<16} n = {len(pairs)}: cosine 0.95 {near.mean():.0%}; similarity {shares}", flush=True)
    for classes, count, shared in ((1000, 50, 0), (1, 1000, 0), (1, 1000, 79), (1000, 1000, 0)):
        texts = _made_up(written, classes * count, shared)
        start = time.process_time()
        decide_by_text(texts, [number // count for number in range(len(texts))], TextCriteria())
        seconds = time.process_time() - start
        kind = f"that share {shared} characters" if shared else "of halves of sentences"
        print(f"{classes} classes x {count} {kind}: {seconds:.2f} s of CPU", flush=True)


def _made_up(written: list[str], count: int, shared: int) -> list[str]:
    generator = random.Random(0)
    if shared:
        common = ("the quick brown fox jumps over the lazy dog while a heron watches from the reeds " * 2)[:shared]
        return [common + "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=24)) for _ in range(count)]
    texts = []
    for _ in range(count):
        some, others = generator.choice(written).split(), generator.choice(written).split()
        texts.append(" ".join([*some[: generator.randrange(2, len(some))], *others[-6:]]))
    return texts


def _replace(text: str, generator: random.Random, new: Callable[[str], list[str]]) -> str:
    words = text.rstrip(".").split()
    place = generator.randrange(1, len(words) - 1)
    return " ".join([*words[:place], *new(words[place]), *words[place + 1 :]]) + "."


def _other_colour(text: str, generator: random.Random) -> str:
    colours = [colour for colour in _COLOURS if re.search(rf"\b{colour}\b", text)]
    if not colours:
        return text
    other = generator.choice([colour for colour in _COLOURS if colour != colours[0]])
    return re.sub(rf"\b{colours[0]}\b", other, text, count=1)


_EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "a word dropped": lambda text, generator: _replace(text, generator, lambda _: []),
    "a word added": lambda text, generator: _replace(text, generator, lambda word: ["very", word]),
    "halves swapped": lambda text, _: " ".join((words := text.split())[len(words) // 2 :] + words[: len(words) // 2]),
    "a word replaced": lambda text, generator: _replace(
        text, generator, lambda _: [generator.choice(["large", "bright", "narrow", "visible", "fine"])]
    ),
    "another colour": _other_colour,
}


def compare_encoders(paths: list[Path]) -> None:
    """Print how much onnxruntime differs from sentence-transformers, in vectors, decisions and time."""
    encoders = {"sentence-transformers": SentenceEncoder(device="cpu"), "onnxruntime": OnnxEncoder()}
    for path in paths:
        bundle = read_bundle(path)
        positions = {label.id: position for position, label in enumerate(bundle.header.label_set.classes)}
        records = list(bundle.records())
        texts, classes = [record.text for record in records], [positions[record.class_id] for record in records]
        seconds: dict[str, list[float]] = {name: [] for name in encoders}
        for turn in range(4):
            for name, encoder in encoders.items():
                start = time.process_time()
                encoder.encode(texts if turn else texts[:1])
                seconds[name].append(time.process_time() - start)
        vectors = [encoder.encode(texts) for encoder in encoders.values()]
        decisions = [decide(rows, classes, texts, Criteria(keep=10)).decisions for rows in vectors]
        reasons = [[decision.reason for decision in made] for made in decisions]
        same = sum(one == other for one, other in zip(*reasons, strict=True))
        times = ", ".join(f"{name} {min(values[1:]):.1f} s" for name, values in seconds.items())
        print(
            f"{bundle.header.name}: largest difference {np.abs(vectors[0] - vectors[1]).max():.1e}, "
            f"{same} of {len(texts)} decisions equal with --keep 10; CPU, the best of 3: {times}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["planted"]:
        planted(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["text"]:
        compare_texts()
    elif sys.argv[1:2] == ["encoders"]:
        compare_encoders([Path(name) for name in sys.argv[2:]])
    else:
        measure(1000, 50)
        measure(1000, 50, keep=20)
        measure(10, 5000)
        measure(1, 50_000)
