"""Class names in texts: singular and plural."""

from __future__ import annotations

import pytest

from abs_core.labels import ClassLabel, shipped_label_set, shipped_label_sets
from abs_descriptions.generation.naming import NameMatcher, names_with, own_aliases


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("brush", "brushes"),
        ("toothbrush", "toothbrushes"),
        ("starfish", "starfishes"),
        ("goldfish", "goldfish"),
        ("church", "churches"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("glass", "glasses"),
        ("pony", "ponies"),
        ("wolf", "wolves"),
        ("knife", "knives"),
        ("tomato", "tomatoes"),
        ("ox", "oxen"),
        ("cat", "cats"),
    ],
)
def test_a_name_is_found_in_singular_and_plural_whichever_it_is_in(singular: str, plural: str) -> None:
    for name in (singular, plural):
        matcher = NameMatcher(name)
        for word in (singular, plural):
            assert matcher(f"Two old {word} lie here."), (name, word)
            assert matcher.mask(f"two {word} here") == ["two", "{}", "here"]


@pytest.mark.parametrize(("name", "word"), [("brush", "bru"), ("glass", "glas"), ("gas", "ga"), ("cat", "catsup")])
def test_what_is_no_plural_is_not_found(name: str, word: str) -> None:
    assert not NameMatcher(name)(f"Two old {word} lie here.")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # accents, apostrophes, hyphens, camel case, numbers in front
        ("tiramisu", "Tiramisù is cut into layered squares."),
        ("piñata", "Two pinatas hang from a branch."),
        ("jack-o'-lantern", "A jack o’ lantern grins."),
        ("bird's nest", "Birds’ nests are cups of twigs."),
        ("merry-go-round", "A merry go round has painted horses."),
        ("001.Black_footed_Albatross", "A black-footed albatross has a dusky bill."),
        ("HandstandWalking", "A man is handstand walking."),
        # spelling and numbers
        ("jewelry shop", "A jewellery shop has bright windows."),
        ("theatre", "A theater has red seats."),
        ("aeroplane", "An airplane has two wings."),
        ("gray wolf", "Grey wolves have bushy tails."),
        ("four-poster", "A 4 poster stands in the room."),
        ("2 wheeler", "A two-wheeler leans on a wall."),
        ("Saint Bernard", "A St. Bernard has a broad head."),
        ("archaelogical excavation", "An archaeological excavation has trenches."),
        ("mac & cheese", "Mac and cheese fills a bowl."),
        ("moulding", "A white molding runs along the ceiling."),
        ("ATM", "An automated teller machine has a screen."),
        ("SUV", "Sport utility vehicles have tall bodies."),
        ("compact disc player", "A CD player has a round lid."),
        ("train station platform", "The platform of a train station is grey."),
        # the words of label sets
        ("Ford F-150 Regular Cab 2012", "The Ford F150 has a tall grille."),
        ("Ford F-150 Regular Cab 2012", "A 2012 Ford F-150 has an open bed."),
        ("Audi S4 Sedan 2012", "The 2012 Audi S4 Sedan is silver."),
        ("Audi S4 Sedan 2012", "The Audi S4 has four rings on its grille."),
        ("swimming pool outdoor", "An outdoor swimming pool is blue."),
        ("church (indoor)", "A church has rows of pews."),
        ("sparrow, house", "A house sparrow has a grey crown."),
        ("couch, sofa", "A sofa has soft cushions."),
        ("gas mask or respirator", "A respirator covers the mouth."),
        ("F-16A/B", "An F-16 has a bubble canopy."),
        # aliases and clipped names
        ("television", "A TV is a flat black panel."),
        ("Labrador retriever", "Labradors have thick tails."),
        ("bird of paradise", "Birds of paradise have long plumes."),
        # actions
        ("riding a horse", "A girl rides a brown horse."),
        ("Horse Riding", "A man is riding a horse."),
        ("riding a horse", "A horse is ridden by a girl."),
        ("Playing Guitar", "A man plays an acoustic guitar."),
        ("brushing teeth", "A child brushes her teeth."),
        ("Basketball Dunk", "A player dunks a basketball."),
        ("Throw Discus", "An athlete throws the discus."),
        ("Writing On Board", "A teacher writes on a white board."),
        ("jumping", "A boy jumps over a fence."),
    ],
)
def test_a_name_is_found_as_people_write_it(name: str, text: str) -> None:
    assert NameMatcher(name)(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("acorn", "A corn has yellow kernels."),
        ("cabin", "A cab in the street is yellow."),
        ("boat house", "A house boat lies in the canal."),
        ("crane, bird", "A bird has a long neck."),
        ("mouse, computer", "A computer has a black screen."),
        ("apse, indoor", "An indoor pool is blue."),
        ("field wild", "A field is green."),
        ("church indoor", "An outdoor church has a spire."),
        ("bus interior", "A bus station has benches."),
        ("church outdoor", "The interior of a church has pews."),
        ("church indoor", "The outside of the church has a spire."),
        ("Ford F-150 Regular Cab 2012", "The Ford F-150 Extended Cab has small doors."),
        ("Acura TL Sedan 2012", "The Acura TL Type-S has a spoiler."),
        ("Ford F-150 Regular Cab 2012", "The 2007 Ford F-150 Regular Cab is red."),
        ("riding a horse", "A rider sits upright on a horse."),
        ("riding a horse", "A horse stands by, and a boy rides a bike."),
        ("wash basin", "A man washes his hands in a basin."),
        ("brushing teeth", "A brush lies beside false teeth."),
        ("jumping", "The jumps of a show ring are painted."),
        ("building", "A man builds a wall."),
        ("photograph", "A photogram shows a shadow."),
        ("orange", "Oranzes are no fruit."),
    ],
)
def test_what_is_not_the_name_is_not_found(name: str, text: str) -> None:
    assert not NameMatcher(name)(text)


def test_a_name_within_the_name_of_another_class_is_no_mention() -> None:
    classes = [ClassLabel(str(at), name) for at, name in enumerate(("field", "corn field", "corn", "museum indoor"))]
    longer = names_with(classes)
    assert longer["0"] == ("corn field",)
    matcher = NameMatcher("field", others=longer["0"])
    assert not matcher("A corn field has tall rows.")
    assert matcher("A corn field is a field of green rows.")
    assert matcher.masked("A corn field is a field.") == "a corn field is a {}."


def test_aliases_are_names_too() -> None:
    matcher = NameMatcher("Felis catus", aliases=("cat", "house cat"))
    assert matcher("Two cats sleep.")
    assert not matcher("Two dogs sleep.")


@pytest.mark.parametrize("name", [name for name in shipped_label_sets() if name != "imagenet"])
def test_no_class_of_a_shipped_set_is_taken_for_another(name: str) -> None:
    """A sentence about a class names no other one, unless its name has all the words of the other's name."""
    classes = shipped_label_set(name).classes[::3]
    longer = names_with(classes)
    matchers = {label.id: NameMatcher(label.name, others=longer.get(label.id, ())) for label in classes}
    for label in classes:
        text = f"A {label.name.lower()} has a long grey body with round marks."
        assert matchers[label.id](text), label.name
        taken = [
            other.name
            for other in classes
            if other.id != label.id and other.name.casefold() != label.name.casefold() and matchers[other.id](text)
        ]
        assert taken == [], label.name


def test_an_alias_stands_for_its_class_unless_another_class_has_it() -> None:
    classes = (
        ClassLabel("hockey", "ice hockey arena", aliases=("arena", "ice rink")),
        ClassLabel("rodeo", "rodeo arena", aliases=("arena",)),
        ClassLabel("newt", "newt", aliases=("eft", "Newts")),
    )
    assert own_aliases(classes) == {"hockey": ("ice rink",), "rodeo": (), "newt": ("eft", "Newts")}
    newt, hockey = (NameMatcher(label.name, own_aliases(classes)[label.id]) for label in (classes[2], classes[0]))
    assert newt("An eft has orange skin.")
    assert hockey("The ice rink lies under bright lamps.")
    assert not hockey("The arena has rows of seats.")
