"""The judge of new sentences: halves, confused pairs, and gains that are those of evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import described
from support import colour

from abs_classify import ImageJudge, evaluate
from abs_classify.evaluation.confusions import split_in_halves
from abs_core.descriptions import Description, Descriptions, LabelSpace
from abs_core.errors import DatasetError, ImageError, UsageError


@pytest.fixture(scope="module")
def judge(small_clips: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ImageJudge]:
    """Judges with a small model, attention of its own, and two views of each kind."""
    cache = tmp_path_factory.mktemp("cache")

    def opened(space: LabelSpace, **settings: Any) -> ImageJudge:
        return ImageJudge.open(
            space, **{"model": small_clips[0], "attention": "self", "views": 2, "cache": cache, **settings}
        )

    return opened


SPACE = described("pets", "ant", "bee", "cat")


def extended(**texts: str) -> Descriptions:
    assert SPACE.descriptions is not None
    return {
        class_id: [*items, *([Description(texts[class_id])] if class_id in texts else [])]
        for class_id, items in SPACE.descriptions.items()
    }


def test_halves_have_half_of_every_class_and_copies_stay_together() -> None:
    ids = [f"{number % 40}" for number in range(50)]
    labels = [(number % 40) // 8 for number in range(50)]
    first, second = split_in_halves(ids, labels, 0)
    assert sorted([*first, *second]) == list(range(50))
    assert not {ids[position] for position in first} & {ids[position] for position in second}
    for half in (first, second):
        assert set(Counter({ids[at]: labels[at] for at in half}.values()).values()) == {4}
    order = list(reversed(range(50)))
    shuffled, _ = split_in_halves([ids[at] for at in order], [labels[at] for at in order], 0)
    assert {ids[order[at]] for at in shuffled} == {ids[at] for at in first}
    assert split_in_halves(ids, labels, 1) != (first, second)


def test_classes_with_an_odd_number_of_images_leave_halves_of_one_size() -> None:
    first, second = split_in_halves([str(number) for number in range(21)], [number // 3 for number in range(21)], 0)
    assert (len(first), len(second)) == (11, 10)
    assert split_in_halves(["a", "b"], [0, 1], 0) == ([0], [1])


@pytest.mark.parametrize("method", ["abs", "cupl"])
def test_confusions_and_gains_are_those_of_evaluations(
    judge: Callable[..., ImageJudge], image_folder: Callable[..., Path], small_clips: tuple[str, str], method: str
) -> None:
    root = image_folder("three", ant=6, bee=6, cat=6)
    settings: dict[str, Any] = {"method": method, "views": 2 if method == "abs" else None}
    one = judge(SPACE, dataset=f"imagefolder:{root}", **settings)
    new = [
        extended(ant="An ant of bright blue."),
        extended(bee="A bee in the dark.", cat="A cat is a cat."),
        extended(),
    ]
    new[2] = {**new[2], "cat": [*new[2]["cat"], Description("A cat."), Description("a photo of a bee")]}
    spaces = [replace(SPACE, descriptions=descriptions) for descriptions in (SPACE.descriptions, *new)]
    records = evaluate(
        f"imagefolder:{root}", small_clips[0], method, descriptions=spaces, attention="self", views=settings["views"]
    )
    labels = [list(record.right) for record in records]
    ids = [image.id for image in one._images["choice"]]
    names = sorted(root.rglob("*.png"))
    for half in ("choice", "test"):
        place = [names.index(Path(image.name)) for image in one._images[half]]  # type: ignore[index]
        assert one.image_ids(half) == [image.id for image in one._images[half]]  # type: ignore[arg-type, index]
        gains = one.gains(SPACE.descriptions or {}, new, half)  # type: ignore[arg-type]
        for number, gain in enumerate(gains, 1):
            pairs = [(labels[number][at], labels[0][at]) for at in place]
            assert (gain.won, gain.lost) == (pairs.count((True, False)), pairs.count((False, True)))
            assert gain.images == len(place) == 9
            assert gain.interval.low <= gain.points <= gain.interval.high
    wrong = sum(not labels[0][names.index(Path(image.name))] for image in one._images["choice"])
    confusions = one.confusions()
    assert sum(entry.images for entry in confusions) == wrong
    assert [entry.images for entry in confusions] == sorted((entry.images for entry in confusions), reverse=True)
    assert all(entry.first_as_second >= entry.second_as_first for entry in confusions)
    assert one.facts()["choice_images"] == len(ids) == 9


def test_without_labels_pairs_come_from_images_that_waver_and_no_gain_is_measured(
    judge: Callable[..., ImageJudge], tmp_path: Path
) -> None:
    for number in range(5):
        colour(number).save(tmp_path / f"{number}.png")
    one = judge(SPACE, images=tmp_path)
    assert not one.has_truth
    assert 0 < sum(entry.images for entry in one.confusions()) <= 5
    assert one.facts()["images"] == 5
    with pytest.raises(UsageError, match="without true classes"):
        one.gains(SPACE.descriptions or {}, [extended(ant="An ant.")], "choice")


def test_an_image_that_cannot_be_read_stops_or_is_named(
    judge: Callable[..., ImageJudge], image_folder: Callable[..., Path]
) -> None:
    root = image_folder("bad", ant=4, bee=4)
    (root / "ant" / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        judge(SPACE, dataset=f"imagefolder:{root}").confusions()
    one = judge(SPACE, dataset=f"imagefolder:{root}", on_error="skip")
    gains = [one.gains(SPACE.descriptions or {}, [extended(ant="An ant.")], half)[0] for half in ("choice", "test")]
    assert sum(gain.images for gain in gains) == 8
    assert [Path(name).name for name in one.skipped] == ["bad.png"]


def test_a_half_without_an_image_that_can_be_read_is_an_error(
    judge: Callable[..., ImageJudge], image_folder: Callable[..., Path]
) -> None:
    root = image_folder("two", ant=1, bee=1)
    (root / "bee" / "00.png").write_bytes(colour(1).tobytes())
    with pytest.raises(ImageError, match="none of the 1 images of one half"):
        judge(SPACE, dataset=f"imagefolder:{root}", on_error="skip").confusions()


def test_what_has_no_answer_is_refused(judge: Callable[..., ImageJudge], image_folder: Callable[..., Path]) -> None:
    root = image_folder("pets", ant=2, dog=1)
    with pytest.raises(DatasetError, match="'dog'"):
        judge(SPACE, dataset=f"imagefolder:{root}")
    good = f"imagefolder:{image_folder('good', ant=2)}"
    with pytest.raises(UsageError, match="the images are not given"):
        judge(SPACE)
    with pytest.raises(UsageError, match="both given"):
        judge(SPACE, dataset=good, images=root)
    with pytest.raises(UsageError, match=r"'clip' does not tell.*Choose one of"):
        judge(SPACE, dataset=good, method="clip", views=None)
    with pytest.raises(UsageError, match="views must be a number"):
        judge(SPACE, dataset=good, views="adaptive")
    with pytest.raises(UsageError, match="has one class"):
        judge(described("one", "ant"), dataset=good)
    single = image_folder("single", bee=1)
    with pytest.raises(UsageError, match="two different images at least, got 1"):
        judge(SPACE, dataset=f"imagefolder:{single}").confusions()
