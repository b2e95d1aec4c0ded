"""Samples and what they are called, and the classes of a data set in a label space."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import write_image

from abs_classify.datasets import Dataset, Sample
from abs_classify.datasets.base import class_positions
from abs_classify.images import load_image
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError, ImageError, LabelError
from abs_core.labels import ClassLabel, LabelSet, shipped_label_set

SPACE = LabelSpace.of_labels(
    LabelSet("zoo", (ClassLabel("n1", "cat"), ClassLabel("n2", "dog"), ClassLabel("n3", "owl")))
)


def dataset(*labels: str, classes: tuple[ClassLabel, ...]) -> Dataset:
    return Dataset("csv:a.csv", classes, [Sample(Path(f"{label}.png"), label) for label in labels])


def test_a_sample_reads_its_file_and_says_what_it_is_called(tmp_path: Path) -> None:
    sample = Sample(write_image(tmp_path / "a.png"), "cat")
    assert sample.name == str(tmp_path / "a.png")
    assert load_image(sample.read(), sample.name) == load_image(sample.path)
    sample.path.unlink()
    with pytest.raises(ImageError, match=r"cannot read the image .*a\.png': no such file"):
        sample.read()


def test_classes_are_matched_by_id_then_by_name_and_those_without_images_are_not_asked_for() -> None:
    classes = (ClassLabel("n3", "dog"), ClassLabel("x", "Cat"), ClassLabel("unused", "unused"))
    assert class_positions(dataset("x", "n3", "x", classes=classes), SPACE) == {"n3": 2, "x": 0}


def test_a_class_that_the_label_space_lacks_is_refused_with_a_suggestion() -> None:
    with pytest.raises(
        DatasetError, match=rf"the class 'x' of .* is not a candidate class of labels zoo#{SPACE.labels.digest}"
    ) as caught:
        class_positions(dataset("x", classes=(ClassLabel("x", "cats"),)), SPACE)
    assert "'cat'" in caught.value.remedy


def test_two_classes_that_are_one_in_the_label_space_are_refused() -> None:
    classes = (ClassLabel("n1", "kitten"), ClassLabel("x", "cat"))
    with pytest.raises(DatasetError, match=r"the classes 'n1' and 'x' of csv:a.csv are the same class in labels zoo"):
        class_positions(dataset("n1", "x", classes=classes), SPACE)


def test_the_classes_of_a_data_set_are_a_label_set() -> None:
    pets = shipped_label_set("pets")
    labels = dataset("abyssinian", classes=pets.classes).label_set
    assert (labels.name, labels.digest) == ("csv:a.csv", pets.digest)
    with pytest.raises(LabelError, match="has no classes"):
        _ = dataset(classes=()).label_set


def test_candidates_of_another_kind_are_said_to_be_so_with_what_to_use_instead() -> None:
    names = ("blazer", "jumper", "kimono", "sarong", "tutu", "fez")
    classes = tuple(ClassLabel(name, name) for name in names)
    with pytest.raises(DatasetError, match=r"6 of the 6 classes of the data set csv:a\.csv are not cand") as caught:
        class_positions(dataset(*names, classes=classes), SPACE)
    assert "'blazer', 'jumper', 'kimono', 'sarong', 'tutu', ...; the candidates are of another" in caught.value.message
    assert "--labels LABELS, or write descriptions of these classes with `abs gen-descr" in str(caught.value.remedy)
    both = (*classes[:2], ClassLabel("cat", "cat"))
    with pytest.raises(DatasetError, match=r"2 of the 3 classes .*: 'blazer', 'jumper'\. Use") as caught:
        class_positions(dataset("blazer", "jumper", "cat", classes=both), SPACE)
    assert caught.value.remedy == "Use a bundle, or --labels, that has these classes too"
    pets = Dataset("pets:photos", classes, [Sample(Path("a.png"), name) for name in names])
    with pytest.raises(DatasetError, match="candidates are of another kind") as caught:
        class_positions(pets, SPACE)
    assert "`abs gen-descriptions pets --name NAME`" in str(caught.value.remedy)
