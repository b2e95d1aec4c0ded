"""The shipped label sets: aliases are other names, each with a source, and name what they should."""

from __future__ import annotations

import json

import pytest

from abs_core.files import data_folder
from abs_core.label_set import fold, shipped_label_set, shipped_label_sets


@pytest.mark.parametrize("name", shipped_label_sets())
def test_every_alias_is_another_name_and_has_a_source(name: str) -> None:
    content = json.loads((data_folder() / "labels" / f"{name}.json").read_text(encoding="utf-8"))
    sources = content.get("alias_sources", {})
    used = set()
    for entry in content["classes"]:
        aliases = entry.get("aliases", {})
        used |= set(aliases.values())
        folded = [fold(alias) for alias in aliases]
        assert fold(entry["name"]) not in folded
        assert len(set(folded)) == len(folded)
    assert used == set(sources)
    assert all(len(source) > 20 for source in sources.values())


def test_an_alias_that_is_the_name_of_another_class_is_told_apart_by_its_capital() -> None:
    """Torchvision's Cardigan is a dog, its cardigan a garment; no other alias is a name."""
    labels = shipped_label_set("imagenet")
    names = {fold(label.name) for label in labels.classes}
    shared = [alias for label in labels.classes for alias in label.aliases if fold(alias) in names]
    assert shared == ["Cardigan"]
    assert labels.resolve("cardigan").id == "n02963159"
