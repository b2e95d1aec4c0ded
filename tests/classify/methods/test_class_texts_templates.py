"""CLIP template sets: the shipped ones, and what a file must be."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest

from abs_classify.methods.class_texts import read_template_set
from abs_classify.methods.names import template_set_names
from abs_core.errors import PromptError, StorageError, UnknownNameError

GOOD = {"id": "mine", "version": 1, "source": "me", "templates": ["a {}."]}


def write(path: Path, **changes: object) -> Path:
    import yaml

    content = {key: value for key, value in (GOOD | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_shipped_sets_and_their_sizes() -> None:
    sizes = {name: len(read_template_set(name).templates) for name in template_set_names()}
    assert sizes == {
        "aircraft": 2,
        "cars": 8,
        "cifar": 18,
        "cub": 1,
        "dtd": 8,
        "flowers": 1,
        "food": 1,
        "imagenet-80": 80,
        "pets": 1,
        "places": 2,
        "plain": 8,
        "single": 1,
    }


@pytest.mark.parametrize("name", template_set_names())
def test_a_shipped_set_is_sound(name: str) -> None:
    shipped = read_template_set(name)
    assert shipped.id == name
    assert len(set(shipped.templates)) == len(shipped.templates)
    assert shipped.source


def test_the_80_are_the_published_ones() -> None:
    assert read_template_set("imagenet-80").templates == tuple(t("{}") for t in open_clip.OPENAI_IMAGENET_TEMPLATES)


def test_the_plain_prompt() -> None:
    assert read_template_set("single").templates == ("a photo of a {}.",)
    assert read_template_set("dtd").templates[0] == "a photo of a {} texture."


def test_the_digest_is_that_of_the_templates(tmp_path: Path) -> None:
    one = read_template_set(write(tmp_path / "one.yaml"))
    same = read_template_set(write(tmp_path / "two.yml", id="other", version=2, source="you"))
    other = read_template_set(write(tmp_path / "three.yaml", templates=["the {}."]))
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": []}, "templates: "),
        ({"templates": ["a photo."]}, "exactly one {} and no other brace: 'a photo.'"),
        ({"templates": ["{} and {}"]}, "exactly one {}"),
        ({"templates": ["{} {name}"]}, "exactly one {}"),
        ({"templates": ["{0}"]}, "exactly one {}"),
        ({"templates": "a {}."}, "templates: "),
        ({"templates": [1]}, "templates.0: "),
        ({"id": "Not An Id"}, "id: "),
        ({"version": 0}, "version: "),
        ({"version": "1"}, "version: "),
        ({"source": None}, "source: missing"),
        ({"note": "x"}, "note: an unknown key"),
    ],
)
def test_a_file_that_is_no_template_set(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write(tmp_path / "set.yaml", **changes)
    with pytest.raises(PromptError) as caught:
        read_template_set(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b"- a\n- b\n", b"{ not yaml", b"!!python/object/apply:os.getcwd []\n", b"\xff\xfe\x00", b"[" * 1_000],
)
def test_hostile_or_broken_yaml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.yaml"
    path.write_bytes(content)
    with pytest.raises(PromptError, match=r"set\.yaml"):
        read_template_set(path)


def test_an_oversized_file(tmp_path: Path) -> None:
    path = tmp_path / "set.yaml"
    path.write_bytes(b"#" * 100_001)
    with pytest.raises(PromptError, match="larger than 100,000 bytes"):
        read_template_set(path)


def test_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown template set 'imagenet' .*; valid: imagenet-80, aircraft"):
        read_template_set("imagenet")
    with pytest.raises(UnknownNameError):
        read_template_set("../llm/anything")
    with pytest.raises(StorageError, match="cannot read"):
        read_template_set(tmp_path / "absent.yaml")
    assert read_template_set(str(write(tmp_path / "set.yaml"))).id == "mine"


def test_lines_of_a_text_file_are_a_set_too(tmp_path: Path) -> None:
    path = tmp_path / "zeroshot_classification_templates.txt"
    path.write_text("\ufeffa photo of a {c}.\n\n  the {} \r\n", encoding="utf-8")
    found = read_template_set(str(path))
    assert found.templates == ("a photo of a {}.", "the {}")
    assert found.id == "zeroshot-classification-templates"
    path.write_text("a photo.\n")
    with pytest.raises(PromptError, match=r"exactly one \{\} and no other brace: 'a photo.'"):
        read_template_set(path)
    path.write_text("\n")
    with pytest.raises(PromptError, match="templates: "):
        read_template_set(path)
    path.write_bytes(b"caf\xe9 {}")
    with pytest.raises(PromptError, match="is not UTF-8"):
        read_template_set(path)
