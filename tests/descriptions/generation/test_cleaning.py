"""Cleaning: what is accepted, what is rejected and why. No model."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_descriptions.bundles import text_problem
from abs_descriptions.generation.cleaning import CleanedText, CleaningRules, RejectionReason, clean, description_key
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.providers.base import FinishReason
from abs_descriptions.generation.sentences import split_sentences, words


def judge(
    text: str, name: str = "rocket", finish: FinishReason = "stop", rules: CleaningRules | None = None
) -> CleanedText:
    return clean(text, finish_reason=finish, matcher=NameMatcher(name), name=name, rules=rules or CleaningRules())


def reasons(cleaned: CleanedText) -> list[RejectionReason]:
    return [one.reason for one in cleaned.rejected]


SENTENCE = "A rocket is a tall white cylinder with fins."


@pytest.mark.parametrize(
    "raw",
    [
        SENTENCE,
        f"  {SENTENCE}\n",
        "A rocket is a tall white cylinder with fins",
        f'"{SENTENCE}"',
        f"“{SENTENCE}”",
        f"'{SENTENCE}'",
        f"«{SENTENCE}»",
        f"1. {SENTENCE}",
        f"1) {SENTENCE}",
        f"(1) {SENTENCE}",
        f"- {SENTENCE}",
        f"* {SENTENCE}",
        f"• {SENTENCE}",
        f"> {SENTENCE}",
        f"## {SENTENCE}",
        f"Caption: {SENTENCE}",
        f"Short description: {SENTENCE}",
        f"Sentence 1: {SENTENCE}",
        f"**Caption:** {SENTENCE}",
        f'1. **"{SENTENCE}"**',
        "A **rocket** is a *tall* `white` cylinder with fins.",
        "A [rocket](https://example.org/rocket) is a tall white cylinder with fins.",
        f"```\n{SENTENCE}\n```",
        f"Sure, a{SENTENCE[1:]}",
        f"Sure! Here is a sentence about it: {SENTENCE}",
        f"好的，{SENTENCE}",
        f"当然可以！{SENTENCE}",
        f"Claro, {SENTENCE}",
        f"Certainly, here's one: {SENTENCE}",
        f"Here is a description of a rocket:\n\n{SENTENCE}",
        f"\u200b{SENTENCE}\u00ad",
        "A\u00a0rocket is a tall  white cylinder\twith fins.",
    ],
)
def test_markup_and_openings_are_stripped(raw: str) -> None:
    assert judge(raw).accepted == (SENTENCE,)


@pytest.mark.parametrize(
    ("raw", "finish", "reason"),
    [
        ("A rocket is a tall white cylinder with", "length", RejectionReason.CUT_OFF),
        ("A rocket is a tall white cylinder with fins,", "stop", RejectionReason.CUT_OFF),
        ("A rocket is a tall white cylinder with...", "stop", RejectionReason.CUT_OFF),
        ("A tall white cylinder with four fins.", "stop", RejectionReason.NO_CLASS_NAME),
        ("Rocketry is the art of tall white cylinders.", "stop", RejectionReason.NO_CLASS_NAME),
        ("I hope this helps you to describe a rocket.", "stop", RejectionReason.CHATTY),
        ("Let me know if the rocket needs more words.", "stop", RejectionReason.CHATTY),
        ("Would you like to hear more about the rocket?", "stop", RejectionReason.CHATTY),
        ("I think that a rocket is tall and white.", "stop", RejectionReason.CHATTY),
        ("The object you are describing is a rocket.", "stop", RejectionReason.CHATTY),
        ("This sentence describes a rocket that is tall and white.", "stop", RejectionReason.CHATTY),
        ("I'm sorry, but I cannot describe a rocket without a picture.", "stop", RejectionReason.REFUSAL),
        ("As an AI language model, I have never seen a rocket.", "stop", RejectionReason.REFUSAL),
        ("A tall rocket.", "stop", RejectionReason.TOO_SHORT),
        ("**", "stop", RejectionReason.TOO_SHORT),
        ("A rocket is tall tall tall and white.", "stop", RejectionReason.LOOP),
        ("A rocket is a kind of tube that is a kind of tube with fins.", "stop", RejectionReason.LOOP),
        ("A rocket is a tube, is a tube, is a tube with fins.", "stop", RejectionReason.LOOP),
        (
            "Eine rocket ist ein hoher weißer Zylinder mit den Flossen und der Spitze.",
            "stop",
            RejectionReason.OTHER_LANGUAGE,
        ),
        (
            "La rocket est un grand cylindre blanc avec des ailettes dans le ciel.",
            "stop",
            RejectionReason.OTHER_LANGUAGE,
        ),
        ("rocket 是一个高大的白色圆柱体，带有尾翼。", "stop", RejectionReason.OTHER_LANGUAGE),
        ("Это rocket, высокий белый цилиндр с плавниками.", "stop", RejectionReason.OTHER_LANGUAGE),
        ("A rocket " + " ".join(f"and part{number}" for number in range(40)) + ".", "stop", RejectionReason.TOO_LONG),
    ],
)
def test_each_reason_of_rejection(raw: str, finish: FinishReason, reason: RejectionReason) -> None:
    cleaned = judge(raw, finish=finish)
    assert cleaned.accepted == ()
    assert reasons(cleaned) == [reason]


@pytest.mark.parametrize(
    "text",
    [
        # three words three times, and one word three times in a row
        "A rocket has red tail fins below, red tail fins above and red tail fins behind.",
        "A rocket is very very very tall and white.",
        "A rocket with white paint on top, and a flag with white paint on it.",
    ],
)
def test_the_least_that_is_a_loop(text: str) -> None:
    assert reasons(judge(text)) == [RejectionReason.LOOP]


@pytest.mark.parametrize(
    "text",
    [
        "A rocket has red tail fins below, while red tail fins above are rare.",
        "A rocket is very very tall and very white.",
        "A rocket has red fins below, red fins above, red fins behind and red fins at the top.",
    ],
)
def test_repetition_below_a_loop_is_kept(text: str) -> None:
    assert judge(text).accepted == (text,)


def test_a_cut_completion_keeps_its_whole_sentences() -> None:
    cleaned = judge(f"{SENTENCE} Each rocket has a nose cone. The rocket is often", finish="length")
    assert cleaned.accepted == (SENTENCE, "Each rocket has a nose cone.")
    assert [(one.text, one.reason) for one in cleaned.rejected] == [("The rocket is often", RejectionReason.CUT_OFF)]


def test_a_completion_that_was_cut_just_after_a_full_stop_loses_nothing() -> None:
    assert judge(SENTENCE, finish="length") == CleanedText((SENTENCE,), ())


def test_a_list_gives_one_description_a_line() -> None:
    raw = f"Here are three:\n1. {SENTENCE}\n2. Rockets stand upright on a concrete pad.\n3. Too short."
    cleaned = judge(raw)
    assert cleaned.accepted == (SENTENCE, "Rockets stand upright on a concrete pad.")
    assert reasons(cleaned) == [RejectionReason.TOO_SHORT]


def test_duplicates_are_seen_within_and_across_completions() -> None:
    matcher = NameMatcher("rocket")
    seen = {description_key("The Rocket is a tall, white cylinder with fins", matcher)}
    cleaned = clean(
        f"{SENTENCE} Rockets stand tall on a pad. A rocket stands tall on a pad. Rockets stand tall on the pad!",
        finish_reason="stop",
        matcher=matcher,
        name="rocket",
        rules=CleaningRules(),
        seen=seen,
    )
    assert cleaned.accepted == ("Rockets stand tall on a pad.", "A rocket stands tall on a pad.")
    assert reasons(cleaned) == [RejectionReason.DUPLICATE, RejectionReason.DUPLICATE]


def test_an_example_with_another_name_in_it_is_a_duplicate() -> None:
    shown = description_key("A lighthouse is a tall white tower.", NameMatcher("lighthouse"))
    assert shown == description_key("The rocket is a tall white tower!", NameMatcher("rocket"))


def test_a_missing_name_is_prefixed_where_that_is_wanted() -> None:
    rules = CleaningRules(naming="prefix")
    assert judge("It has four white fins below.", "Brick_wall", rules=rules).accepted == (
        "Brick_wall: It has four white fins below.",
    )
    assert judge(SENTENCE, rules=rules).accepted == (SENTENCE,)


def test_the_token_limit_comes_from_outside() -> None:
    rules = CleaningRules(count_tokens=lambda text: len(text), token_limit=len(SENTENCE) - 1)
    cleaned = judge(SENTENCE, rules=rules)
    assert reasons(cleaned) == [RejectionReason.TOO_LONG]
    assert cleaned.rejected[0].detail == f"{len(SENTENCE)} tokens, the limit is {len(SENTENCE) - 1}"
    assert judge(SENTENCE, rules=CleaningRules(count_tokens=len, token_limit=len(SENTENCE))).accepted == (SENTENCE,)


def test_phrases_are_lines_that_need_no_name() -> None:
    raw = "Here are some features:\n- four white fins\n- a pointed nose.\n- four white fins\n- exhaust"
    rules = CleaningRules(kind="phrase")
    cleaned = judge(raw, rules=rules)
    assert cleaned.accepted == ("four white fins", "a pointed nose", "exhaust")
    assert reasons(cleaned) == [RejectionReason.DUPLICATE]
    assert reasons(judge("- fins\n- a pointed no", finish="length", rules=rules)) == [RejectionReason.CUT_OFF]


def test_a_phrase_keeps_the_label_that_says_what_it_is_about() -> None:
    raw = (
        "- Color: bright white\n- **Shape:** tall and slim\n- Nose: bright red\n- Colors: red\n- Texture - smooth metal"
    )
    assert judge(raw, rules=CleaningRules(kind="phrase")).accepted == (
        "bright white",
        "tall and slim",
        "Nose: bright red",
        "Colors: red",
        "smooth metal",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rocket", "Two ROCKETS stand here."),
        ("rocket", "The rocket's fins are red."),
        ("rocket", "The rocket’s fins are red."),
        ("church", "Churches have spires."),
        ("butterfly", "Butterflies have wings."),
        ("shelf", "Shelves hold books."),
        ("knife", "Knives are sharp."),
        ("mouse", "Grey mice run about."),
        ("mailman", "Two mailmen wear blue."),
        ("sunglasses", "A sunglass lens is dark."),
        ("scissors", "The scissors are steel."),
        ("brick wall", "Brick-walls are red."),
        ("brick_wall", "This brick wall is red."),
        ("T-shirt", "A white tshirt or t shirt."),
        ("hot dog", "A hotdog in a bun."),
        ("hotdog", "Hot dogs in buns."),
        ("crane (bird)", "Cranes have long necks."),
        ("great white shark, white shark", "A great white shark is grey."),
        ("St. Bernard", "St Bernards are big."),
        ("C++", "A page of c++ code."),
        ("café", "Two cafés stand side by side."),
        ("東京タワー", "夜の東京タワーは赤い。"),
        ("猫", "白い猫がいる。"),
        ("قطة", "القطة صغيرة."),
        ("👩\u200d🚀", "Here is 👩\u200d🚀 in a suit."),
    ],
)
def test_a_name_is_found_in_its_forms(name: str, text: str) -> None:
    assert NameMatcher(name)(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cat", "A caterpillar on a catalogue."),
        ("ant", "An elephant, a plant, an antler."),
        ("bus", "Busy businessmen in suits."),
        ("car", "A carpet and a card."),
        ("brick wall", "A wall of brick."),
        ("crane (bird)", "A bird with a long neck."),
        ("glass", "A pair of glasswort."),
    ],
)
def test_a_name_is_not_found_in_other_words(name: str, text: str) -> None:
    assert not NameMatcher(name)(text)


@pytest.mark.parametrize(
    "text",
    [
        "Great white sharks have grey backs and white bellies.",
        "The following sea of great white sharks is grey below.",
        "No great white shark is known to have an artificial reef as home.",
        "I-beams of steel hold the cage of the great white shark.",
        "A great white shark is about 4.5 m long, i.e. as long as a car.",
        "At approx. 5 m the great white shark is a big fish in the U.S. and Dr. Smith's pool.",
    ],
)
def test_a_good_text_is_not_rejected(text: str) -> None:
    assert judge(text, "great white shark").accepted == (text,)


def test_other_languages_are_welcome_where_they_are_expected() -> None:
    german = "Eine Rakete ist ein hoher weißer Zylinder mit vier Flossen und einer Spitze."
    assert judge(german, "Rakete", rules=CleaningRules(language="de")).accepted == (german,)
    assert judge(SENTENCE, rules=CleaningRules(language="de")).rejected[0].reason is RejectionReason.OTHER_LANGUAGE
    chinese = "火箭是一个高大的白色圆柱体，带有四个尾翼。"
    assert judge(chinese, "火箭", rules=CleaningRules(language="any")).accepted == (chinese,)
    assert judge("A 東京タワー is a red lattice tower at night.", "東京タワー").accepted


def test_sentences_end_where_their_script_says() -> None:
    assert split_sentences("It is 3.5 m, e.g. a van. Is it? Yes! 赤い。高い！ هل هي؟ نعم. end") == [
        "It is 3.5 m, e.g. a van.", "Is it?", "Yes!", "赤い。", "高い！", "هل هي؟", "نعم. end",
    ]  # fmt: skip


def test_words_of_all_scripts() -> None:
    assert words("Don't stop, Größe-2 हिन्दी 猫がいる ｗｉｄｅ") == [
        "don't", "stop", "grösse", "2", "हिन्दी", "猫", "が", "い", "る", "wide",
    ]  # fmt: skip


@given(st.text(max_size=400), st.text(min_size=1, max_size=30), st.sampled_from(["stop", "length"]), st.booleans())
def test_whatever_a_model_writes_each_piece_is_kept_or_rejected(
    text: str, name: str, finish: FinishReason, phrases: bool
) -> None:
    rules = CleaningRules(kind="phrase" if phrases else "sentence", min_words=1, language="any", naming="prefix")
    cleaned = clean(text, finish_reason=finish, matcher=NameMatcher(name), name=name, rules=rules)
    assert cleaned.accepted or cleaned.rejected
    for one in cleaned.accepted:
        assert text_problem(one) is None
        assert unicodedata.is_normalized("NFC", one)
    matcher = NameMatcher(name)
    keys = [description_key(one, matcher) for one in cleaned.accepted]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "*" * 50_000,
            "1. " * 30_000,
            '"' * 50_000,
            "a " * 50_000,
            "here is " * 10_000,
            "(1)" * 20_000,
            "猫" * 50_000,
        ),
        *("?" * 100_000 + "x", "." * 100_000 + "x", "A rocket " + ", " * 12_000, "A rocket is white. " * 1_000),
        *("| a |\n" * 2_000, "<p>" * 7_000, "<script>" * 2_000, "&amp;" * 5_000, "\\text{" * 3_000, "$a" * 12_000),
        *("[a](" * 6_000, "![" * 12_000, "[1," * 7_000, "https://" * 3_000, " #tag" * 5_000, "</s>" * 6_000),
        *(
            "User:\n" * 3_000,
            "Note: " * 3_000,
            "(12 words) " * 2_000,
            "unlike a rocket, " * 1_000,
            "e\u0301" * 12_000,
        ),
    ],
)
def test_hostile_completions_take_no_time(text: str) -> None:
    for rules in (CleaningRules(), CleaningRules(kind="phrase", naming="prefix")):
        start = time.process_time()
        judge(text, finish="length", rules=rules)
        # about a second or less; quadratic time would be minutes
        assert time.process_time() - start < 10
