"""Annotation files of any content: one error on one line, or samples with published classes."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import write_files

from abs_classify.datasets import BENCHMARKS, Benchmark
from abs_classify.datasets.benchmarks.diagnosis import check_benchmark, open_benchmark
from abs_core.errors import DatasetError

pytestmark = pytest.mark.fuzz

# of each data set: an image, and its annotation files with a line of them
SETS: dict[str, tuple[str, dict[str, str]]] = {
    "pets": ("images/Bengal_8.jpg", {"annotations/test.txt": "Bengal_8 6 1 2"}),
    "fgvc-aircraft": ("data/images/1.jpg", {"data/images_variant_test.txt": "1 F-16A/B"}),
    "food101": ("images/waffles/1.jpg", {"meta/test.txt": "waffles/1"}),
    "dtd": ("images/banded/a.jpg", {"labels/test1.txt": "banded/a.jpg"}),
    "places365": ("val_256/a.jpg", {"places365_val.txt": "a.jpg 3"}),
    "sun397": ("SUN397/a/abbey/a.jpg", {"Testing_01.txt": "/a/abbey/a.jpg"}),
    "ucf101": ("UCF-101-midframes/Archery/a.jpg", {"ucfTrainTestlist/testlist01.txt": "Archery/a.avi 1"}),
    "imagenet": ("ILSVRC/Data/CLS-LOC/val/a.JPEG", {"LOC_val_solution.csv": "ImageId,x\na,n01440764 1 2 3 4"}),
    "cub": (
        "images/001.Black_footed_Albatross/a.jpg",
        {
            "images.txt": "1 001.Black_footed_Albatross/a.jpg",
            "image_class_labels.txt": "1 1",
            "train_test_split.txt": "1 0",
        },
    ),
}
SPLITS = {"sun397": "test1", "ucf101": "test1"}


def small(name: str) -> Benchmark:
    benchmark = next(benchmark for benchmark in BENCHMARKS if benchmark.name == name)
    return benchmark.resized({split.name: 1 for split in benchmark.splits})


def opened_or_refused(benchmark: Benchmark, location: str) -> None:
    """Opening and checking agree, and neither raises anything but an error with a remedy on one line."""
    report = check_benchmark(benchmark, location)
    with suppress(DatasetError):
        data = open_benchmark(benchmark, location)
        assert report.complete
        assert {sample.label for sample in data.samples} <= set(data.names)
        assert all(sample.path.is_file() for sample in data.samples)
        return
    assert not report.complete
    assert report.next_step


lines = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(list(SETS)), junk=st.one_of(lines, st.binary(max_size=40)))
def test_lists_with_any_line(tmp_path: Path, data: Any, name: str, junk: str | bytes) -> None:
    image, files = SETS[name]
    write_files(tmp_path / name, image)
    changed = data.draw(st.sampled_from(list(files)))
    for file, line in files.items():
        cut = data.draw(st.integers(0, len(line)))
        sound, extra = line.encode(), junk.encode() if isinstance(junk, str) else junk
        content = data.draw(st.sampled_from([sound + b"\n" + extra, sound[:cut] + extra + sound[cut:], extra]))
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if file == changed else sound + b"\n")
    opened_or_refused(
        small(name), f"{tmp_path / name}?split={SPLITS[name]}" if name in SPLITS else f"{tmp_path / name}"
    )


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(["River/River_1.jpg", "River", "../x", ""]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["test", "train"]), inner)),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.one_of(values, st.fixed_dictionaries({"test": st.lists(st.lists(values, min_size=3, max_size=3))})))
def test_split_files_of_the_coop_suite_with_any_json(tmp_path: Path, content: Any) -> None:
    write_files(tmp_path, "2750/River/River_1.jpg")
    (tmp_path / "split_zhou_EuroSAT.json").write_text(json.dumps(content))
    opened_or_refused(small("eurosat"), f"{tmp_path}?names=coop")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"test": [' + "[0,0,0]," * 9 + "1e999]}", "9" * 10_000, "\ufeff{}", ""]
)
def test_split_files_that_are_made_to_break_a_parser(tmp_path: Path, content: str) -> None:
    write_files(tmp_path, "2750/River/River_1.jpg")
    (tmp_path / "split_zhou_EuroSAT.json").write_text(content)
    opened_or_refused(small("eurosat"), str(tmp_path))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(size=st.integers(0, 3 * 3073), byte=st.integers(0, 255))
def test_cifar_of_any_size_and_class(tmp_path: Path, size: int, byte: int) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes([byte]) * size)
    opened_or_refused(small("cifar10"), str(tmp_path))
