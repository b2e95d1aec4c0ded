"""How long a bundle of a million descriptions takes to write, validate, stream and list, and in how much memory.

    python benchmarks/bundle_size.py [--records 1000000] [--classes 1000] [--scores] [--shuffled]

Every step runs in a process of its own, so that its peak memory is its own. Prints one line a step. The targets are
12 s to write, 12 s to validate, under 250 MB; a listing of 1,000 versions under 1 s.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from abs_core.labels import ClassLabel, LabelSet
from abs_descriptions.bundles import Description, Generator, Provenance, iter_records, read_bundle, write_bundle
from abs_descriptions.bundles.diff import diff_bundles
from abs_descriptions.bundles.repository import Repository

CREATED = "2025-01-31T12:00:00Z"
REQUEST = "sha256:" + "a" * 64


def label_set(classes: int) -> LabelSet:
    return LabelSet("bench", tuple(ClassLabel(f"class-{i:06}", f"class {i}") for i in range(classes)))


def descriptions(options: argparse.Namespace) -> Iterator[Description]:
    """Sentences of about 100 characters, every one in a hundred with quotation marks."""
    order = range(options.records)
    stride = 7919 if options.shuffled else 1
    for position in order:
        i = position * stride % options.records
        text = f"A photo of a bird with a long red crest and a curved black beak, number {i}, seen from the side."
        if i % 100 == 0:
            text = f'A so-called "red" bird, number {i}, with a curved black beak, seen from below.'
        yield Description(
            text,
            class_id=f"class-{i * options.classes // options.records:06}",
            provenance=Provenance("model", i % 50, "animals-3", REQUEST),
            scores={"clip": i / options.records} if options.scores else None,
        )


def write(path: Path, options: argparse.Namespace, version: str = "1.0.0") -> None:
    write_bundle(
        path,
        name="bench",
        version=version,
        created=CREATED,
        label_set=label_set(options.classes),
        generators=[Generator(id="model", backend="bench", model="none", parameters={})],
        license="CC0-1.0",
        records=descriptions(options),
    )


def copy(path: Path, target: Path) -> None:
    """The same bundle with every hundredth description changed."""
    header = read_bundle(path).header
    write_bundle(
        target,
        name="bench",
        version="1.1.0",
        created=CREATED,
        label_set=header.label_set,
        generators=header.generators,
        license=header.license,
        records=(
            replace(record, text=record.text + " It flies.") if number % 100 == 0 else record
            for number, record in enumerate(iter_records(path))
        ),
    )


def stream(path: Path) -> None:
    for _ in iter_records(path):
        pass


def diff(old: Path, new: Path) -> None:
    for _ in diff_bundles(old, new):
        pass


def fill(folder: Path, versions: int) -> None:
    store = Repository.local(folder)
    options = argparse.Namespace(records=10, classes=10, scores=False, shuffled=False)
    for number in range(versions):
        path = folder.parent / "one.jsonl"
        write(path, options, f"1.{number}.0")
        store.add(path)


def listing(folder: Path) -> None:
    Repository.local(folder).list()


def measured(label: str, work: Callable[..., object], *arguments: object) -> None:
    """Run ``work`` in a process of its own and print its wall time, processor time and peak memory."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_timed, args=(sender, work, arguments))
    process.start()
    sender.close()  # else a child that died would be waited for
    wall, cpu, peak = receiver.recv()
    process.join()
    print(f"{label:34} {wall:7.2f} s wall  {cpu:7.2f} s processor  {peak:7.1f} MB peak")


def _timed(sender: object, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    started, used = time.perf_counter(), time.process_time()
    work(*arguments)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    unit = 1024**2 if sys.platform == "darwin" else 1024
    sender.send((wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit))  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--scores", action="store_true", help="give every record a score")
    parser.add_argument("--shuffled", action="store_true", help="hand the records to the writer out of class order")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, new = folder / "old.jsonl", folder / "new.jsonl"
        measured(f"write {options.records:,} descriptions", write, old, options)
        print(f"{'':34} {old.stat().st_size / 1e6:7.1f} MB on disk")
        measured("validate", read_bundle, old)
        measured("stream (show)", stream, old)
        measured("read and write a child", copy, old, new)
        measured("diff with the child", diff, old, new)
        if options.versions:
            measured(f"add {options.versions:,} small versions", fill, folder / "store", options.versions)
            measured(f"list {options.versions:,} versions", listing, folder / "store")


if __name__ == "__main__":
    main()
