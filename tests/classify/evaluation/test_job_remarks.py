"""What was guessed to make pixels is counted in results, also where the features come from the cache."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from evaluations import Bench
from image_files import encode, picture
from PIL import Image

from abs_classify import Classifier
from abs_classify.evaluation.export import write_csv
from abs_classify.evaluation.results_folder import read_results
from abs_classify.evaluation.tables import tables_text
from abs_core.errors import ImageError
from abs_core.remarks import Remark

CUT_OFF = "read in part: the file ends early"
GREY = "grey of 8 significant bits in 16, scaled by these"


@pytest.fixture
def odd_images(tmp_path: Path) -> Path:
    """Two classes: two pictures, one with grey of 8 bits in 16, one that is cut off."""
    grey = Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16))
    files = {
        "cat/a.png": encode(picture(), "PNG"),
        "cat/b.png": encode(grey, "PNG"),
        "dog/c.jpg": encode(picture(300, 250).rotate(180), "JPEG")[:-400],
        "dog/d.jpg": encode(picture().rotate(180), "JPEG"),
    }
    for name, data in files.items():
        path = tmp_path / "odd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "odd"


def test_remarks_stand_in_every_result_whether_features_were_cached_or_not(
    odd_images: Path, bench: Bench, tmp_path: Path
) -> None:
    expected = [
        Remark(GREY, 1, (str(odd_images / "cat/b.png"),)),
        Remark(CUT_OFF, 1, (str(odd_images / "dog/c.jpg"),)),
    ]
    for _ in range(2):
        (file,) = bench.files(odd_images, "clip", truncated="accept")
        (record,) = read_results(file.parent)
        assert [remark.model_dump() for remark in record.details.data.remarks] == [r.as_json() for r in expected]
        assert [line for line in record.details.notes if line in map(str, expected)] == [str(r) for r in expected]
        assert f"note: {expected[0]}" in tables_text([record])
    write_csv(tmp_path / "out.csv", [record])
    with (tmp_path / "out.csv").open() as stream:
        assert next(csv.DictReader(stream))["remarks"] == f"1 {GREY}; 1 {CUT_OFF}"


def test_what_one_run_accepted_another_still_refuses(odd_images: Path, bench: Bench) -> None:
    assert bench.run(odd_images, "clip", truncated="accept")[0].details.data.images == 4
    with pytest.raises(ImageError, match=r"c\.jpg' is cut off or damaged"):
        bench.run(odd_images, "clip")
    skipping = bench.run(odd_images, "clip", on_error="skip")[0].details.data
    assert (skipping.images, [skipped.name for skipped in skipping.skipped]) == (3, [str(odd_images / "dog/c.jpg")])
    assert [remark.kind for remark in skipping.remarks] == [GREY]


def test_facts_that_were_removed_from_the_cache_are_found_again(odd_images: Path, bench: Bench) -> None:
    first = bench.run(odd_images, "clip", truncated="accept")
    (facts,) = [use for use in first.work.spaces.values() if use.space.stage == "images"]
    shutil.rmtree(bench.store.root / "features" / facts.space.digest)
    again = bench.run(odd_images, "clip", truncated="accept")
    assert again[0].details.data.remarks == first[0].details.data.remarks
    assert {use.space.stage: use.items_computed for use in again.work.spaces.values()}["images"] == 4
    assert again.work.nothing


def test_small_images_are_noted_where_crops_are_cut_from_them(odd_images: Path, bench: Bench) -> None:
    (odd_images / "cat/small.png").write_bytes(encode(picture(31, 200), "PNG"))
    (odd_images / "cat/tiny.png").write_bytes(encode(picture(7, 6), "PNG"))
    notes = {
        record.method: record.details.notes for record in bench.run(odd_images, "clip,wca,abs", truncated="accept")
    }
    small = "1 of 6 images are smaller than the 32 pixels that the model sees: their crops are enlarged and may tell"
    assert any(line.startswith(small) and "compare wca, abs with" in line for line in notes["clip"])
    tiny = "1 of 6 images have a long side below a quarter of the 32 pixels that the model sees: for wca, abs each"
    assert any(line.startswith(tiny) for line in notes["clip"])
    assert not any(
        "smaller than" in line for line in bench.run(odd_images, "clip", truncated="accept")[0].details.notes
    )


def test_a_classifier_says_what_it_guessed(odd_images: Path, bench: Bench) -> None:
    paths = sorted(odd_images.glob("*/*"))
    for cache in (None, bench.store, bench.store):
        classifier = Classifier(bench.model, ["cat", "dog"], method="clip", cache=cache)
        run = classifier.classify(paths, truncated="accept")
        predictions = list(run)
        assert [prediction.remarks for prediction in predictions] == [(), (GREY,), (CUT_OFF,), ()]
        assert [(remark.kind, remark.count) for remark in run.remarks] == [(GREY, 1), (CUT_OFF, 1)]
    with pytest.raises(ImageError, match="truncated accept"):
        list(classifier.classify(paths))
