"""The files beside the results of an evaluation."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluations import Bench
from report_pages import Page

from abs_classify.classifier import Classifier
from abs_classify.report.contents import EvaluationFiles
from abs_core.errors import ImageError, StorageError, UsageError

Folder = Callable[..., Path]


@pytest.mark.slow
def test_each_file_is_written_that_is_asked_for(bench: Bench, image_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    places = {"predictions": out / "p.jsonl", "texts": out / "t.jsonl", "table": out / "r.csv", "report": out / "pages"}
    with EvaluationFiles(**places) as files:
        bench.run(image_folder("data", cat=1, car=1), observer=files)
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["p.jsonl", "pages/index.html", "r.csv", "t.jsonl"]
    with places["table"].open(newline="", encoding="utf-8") as stream:
        assert [row["method"] for row in csv.DictReader(stream)] == ["clip", "abs"]
    with EvaluationFiles() as nothing:
        bench.run(image_folder("data", cat=1, car=1), observer=nothing)


def test_the_rows_have_what_was_predicted_how_surely_and_what_is_true(
    bench: Bench, image_folder: Folder, tmp_path: Path
) -> None:
    data = image_folder("data", cat=2, car=2, cup=2)
    with EvaluationFiles(report=tmp_path / "page.html", report_images=2) as files:
        bench.run(data, "clip,abs", observer=files)
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    table = page.table
    assert [method["name"] for method in table["methods"]] == ["clip", "abs"]
    assert table["main"] == 1
    columns = table["methods"][1]
    classifier = Classifier(bench.model, ["car", "cat", "cup"], views=2, attention="self", cache=bench.store)
    for position, prediction in enumerate(classifier.classify(sorted(data.rglob("*.png")))):
        assert table["names"][position] == str(Path(*Path(prediction.image_name).parts[-2:]))
        assert table["classes"][table["truth"][position]] == Path(prediction.image_name).parent.name
        assert table["classes"][columns["top"][position]] == prediction.name
        assert columns["confidence"][position] == pytest.approx(prediction.confidence, rel=1e-3)
        assert columns["margin"][position] == pytest.approx(
            prediction.ranking[0].score - prediction.ranking[1].score, rel=1e-3, abs=1e-6
        )
    assert len(table["pictured"]) == 2
    assert "2 of 6 images have a picture" in page.text


@pytest.mark.parametrize("count", [0, 1])
def test_a_page_without_pictures_opens_with_none(
    count: int, bench: Bench, image_folder: Folder, tmp_path: Path
) -> None:
    with EvaluationFiles(report=tmp_path / "page.html", report_images=count) as files:
        bench.run(image_folder("data", cat=1, car=1), "clip,abs", observer=files)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ("/9j/" in text, "Highlights" in text) == (count > 0, count > 0)  # as every JPEG file begins in base64


def test_a_wrong_winner_is_compared_with_the_true_class(bench: Bench, image_folder: Folder, tmp_path: Path) -> None:
    with EvaluationFiles(report=tmp_path / "page.html") as files:
        bench.run(image_folder("data", cat=3, car=3, cup=3), "abs", observer=files)
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    table = page.table
    ranks = table["methods"][0]["ranks"]
    assert {rank == 1 for rank in ranks} == {True, False}
    assert max(ranks) == 3  # else the true class is the second anyway
    for position, rank in enumerate(ranks):
        why = page.details(position)["why"]
        truth = table["classes"][table["truth"][position]]
        assert (why["winner"] == truth) is (rank == 1)
        assert (why["other"] == truth) is why["otherIsTrue"] is (rank != 1)
        assert [group[0] for group in why["groups"]] == [why["winner"], why["other"]]


@pytest.mark.slow
def test_several_evaluations_have_a_page_each(
    bench: Bench, image_folder: Folder, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    data = image_folder("data", cat=1, car=1)
    with EvaluationFiles(report=tmp_path / "pages", command=["abs", "--token", "secret"]) as files:
        results = bench.run(data, models=small_clips, observer=files)
    pages = sorted((tmp_path / "pages").iterdir())
    assert [page.name[:3] for page in pages] == ["01-", "02-", "ind"]
    index = Page(pages[2].read_text(encoding="utf-8"))
    links = [link["href"] for link in index.all("a")]
    # both have the same images: it opens with one of the first
    assert links[1:] == [page.name for page in pages[:2]]
    assert links[0].startswith(f"{pages[0].name}#image-")
    assert all(record.details.weights.name in index.text for record in results)
    assert all("<html" in page.read_text() and "secret" not in page.read_text() for page in pages)
    assert all('href="index.html"' in page.read_text() for page in pages[:2])
    with pytest.raises(UsageError, match="2 combinations"), EvaluationFiles(report=tmp_path / "page.html") as one:
        bench.run(data, models=small_clips, observer=one)


@pytest.mark.parametrize("kind", ["texts", "table", "report"])
def test_a_file_that_cannot_be_written_stops_the_run_before_it_begins(
    bench: Bench, image_folder: Folder, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"), EvaluationFiles(**{kind: tmp_path / "file" / "x"}) as files:
        bench.run(image_folder("data", cat=1), observer=files, results=bench.results)
    assert not (bench.store.root / "features").exists()


def test_a_run_that_stops_leaves_no_table(bench: Bench, image_folder: Folder, tmp_path: Path) -> None:
    data = image_folder("data", cat=2)
    (data / "cat" / "01.png").write_bytes(b"no image")
    with pytest.raises(ImageError), EvaluationFiles(table=tmp_path / "r.csv", texts=tmp_path / "t.jsonl") as files:
        bench.run(data, "clip", observer=files)
    assert not (tmp_path / "r.csv").exists()
    assert not (tmp_path / "t.jsonl").exists()
