"""Every command and spec that a diagnosis prints works when it is pasted into a shell."""

from __future__ import annotations

import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest
from miniatures import miniature, write_files, write_text, write_texts

from abs_classify.datasets import Benchmark, DatasetReport
from abs_classify.datasets.benchmarks.diagnosis import check_benchmark, open_benchmark
from abs_core.errors import DatasetError


def packed(archive: Path, source: Path, *names: str) -> None:
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as stream:
        for name in names:
            stream.add(source / name, name)


def paste(report: DatasetReport) -> None:
    """Run what a report prints between its colon and its next word for people."""
    command = report.next_step.partition(": ")[2].partition(", or ")[0].partition("; ")[0]
    subprocess.run(["bash", "-euc", command], check=True, capture_output=True)


def check(benchmark: Benchmark, root: Path, options: str = "") -> DatasetReport:
    return check_benchmark(benchmark, f"{root}{options}")


@pytest.fixture
def dtd_source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    write_files(source, "dtd/images/banded/a.jpg")
    write_texts(source, {"dtd/labels/test1.txt": "banded/a.jpg\n"})
    return source


@pytest.mark.parametrize("name", ["dtd", "textures", "my textures & more"])
def test_an_archive_is_extracted_whatever_the_root_is_called(tmp_path: Path, dtd_source: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    packed(root / "dtd-r1.0.1.tar.gz", dtd_source, "dtd")
    small = miniature("dtd", test1=1)
    paste(check(small, root))
    assert check(small, root).complete
    assert check_benchmark(small, shlex.split(check(small, root).next_step)[-1].partition(":")[2]).complete


def test_a_root_that_is_a_link_stays_one(tmp_path: Path, dtd_source: Path) -> None:
    (tmp_path / "disk").mkdir()
    root = tmp_path / "dtd"
    root.symlink_to(tmp_path / "disk")
    packed(tmp_path / "dtd-r1.0.1.tar.gz", dtd_source, "dtd")
    small = miniature("dtd", test1=1)
    paste(check(small, root))
    assert root.is_symlink()
    assert check(small, root).complete
    assert (tmp_path / "disk" / "labels" / "test1.txt").is_file()


def test_a_folder_that_does_not_exist_yet_is_made(tmp_path: Path) -> None:
    names = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)]
    write_files(tmp_path / "source", *names)
    root = tmp_path / "imagenet"
    root.mkdir()
    packed(root / "ILSVRC2012_img_val.tar", tmp_path / "source", *names)
    report = check(miniature("imagenet", val=2), root)
    assert "mkdir -p" in report.next_step
    paste(report)
    assert sorted(path.name for path in (root / "val").iterdir()) == names


def test_a_linked_folder_of_images_stays_one(tmp_path: Path) -> None:
    write_files(tmp_path / "source", "images/Bengal_8.jpg")
    root, disk = tmp_path / "pets", tmp_path / "disk"
    disk.mkdir()
    root.mkdir()
    (root / "images").symlink_to(disk)
    write_text(root / "annotations" / "test.txt", "Bengal_8 6 1 2\n")
    packed(root / "images.tar.gz", tmp_path / "source", "images")
    small = miniature("pets", test=1)
    paste(check(small, root))
    assert (root / "images").is_symlink()
    assert check(small, root).complete


def test_the_archive_that_is_named_as_the_root_says_what_results(tmp_path: Path, dtd_source: Path) -> None:
    packed(tmp_path / "dtd-r1.0.1.tar.gz", dtd_source, "dtd")
    small = miniature("dtd", test1=1)
    report = check(small, tmp_path / "dtd-r1.0.1.tar.gz")
    assert report.next_step.endswith(f"; then write dtd:{tmp_path}/dtd")
    paste(report)
    assert check(small, tmp_path / "dtd").complete


@pytest.fixture
def half(tmp_path: Path) -> Path:
    root = tmp_path / "my dtd"
    write_files(root, "images/banded/a.jpg", "images/banded/c.jpg")
    write_texts(
        root, {"labels/test1.txt": "banded/a.jpg\nbanded/b.jpg\n", "labels/val1.txt": "banded/b.jpg\nbanded/c.jpg\n"}
    )
    return root


def test_partial_is_what_eval_takes_and_is_never_proposed_twice(half: Path) -> None:
    small = miniature("dtd", test1=2, val1=2)
    report = check(small, half)
    assert not report.complete
    proposed = shlex.split(report.next_step)[-1]
    assert proposed == f"dtd:{half}?partial"
    again = check_benchmark(small, proposed.partition(":")[2])
    assert again.complete
    assert any(line.startswith("incomplete, as ?partial allows: 1 of 2 images") for line in again.there)
    assert shlex.split(again.next_step)[-1] == proposed
    assert len(open_benchmark(small, f"{half}?partial").samples) == 1
    write_text(half / "images" / "banded" / "a.jpg", "")
    empty = check(small, half, "?partial")
    assert not empty.complete
    assert "partial" not in empty.next_step.partition(": ")[2]


def test_a_split_that_is_recommended_is_complete_or_says_that_it_is_not(half: Path) -> None:
    (half / "labels" / "test1.txt").unlink()
    small = miniature("dtd", test1=2, val1=2, train1=1)
    report = check(small, half)
    assert report.there == ("other splits that can be read: val1 (1 of 2 images)",)
    assert report.next_step.endswith(f"'dtd:{half}?split=val1&partial', which has 1 of 2 images")
    write_text(half / "labels" / "train1.txt", "banded/c.jpg\n")
    report = check(small, half)
    assert shlex.split(report.next_step)[-1] == f"dtd:{half}?split=train1"
    with pytest.raises(DatasetError) as caught:
        open_benchmark(small, str(half))
    assert caught.value.remedy == report.next_step


def test_the_images_of_many_other_splits_are_not_all_counted(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.datasets.benchmarks.diagnosis._MAX_COUNTED", 3)
    write_texts(half, {"labels/test1.txt": "banded/a.jpg\n", "labels/train1.txt": "banded/c.jpg\nbanded/a.jpg\n"})
    report = check(miniature("dtd", test1=1, val1=2, train1=2), half)
    assert report.complete
    assert report.there[-1] == "other splits that can be read: val1 (1 of 2 images), train1 (not counted)"
