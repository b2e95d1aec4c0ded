"""A guess at the language of a sentence in Latin script, by its function words. Pure.

Enough to see that a model answered in another language; no more is claimed. Sentences with few function words pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

__all__ = ["LANGUAGES", "Language", "other_language"]

Language = Literal["en", "de", "fr", "es", "it", "pt", "nl", "any"]
LANGUAGES: tuple[str, ...] = get_args(Language)

_FUNCTION_WORDS = {
    "en": "a an and are as at by for from has have in is it its of often on or that the this to which with",
    "de": "auf aus bei das dem den der des die ein eine einem einen einer ist mit nicht oder sich sind und von zu zum",
    "fr": "au aux avec ce cette dans de des du elle en est et il la le les ou par pour qui son sont sur un une",
    "es": "al como con de del el en es está la las lo los o para por que se su sus un una y",
    "it": "al che con da del della delle di e gli i il in la le lo nel o per più sono su un una è",
    "pt": "ao as com da das de do dos e em na no o os ou para por que se sua são um uma é",
    "nl": "aan als dat de die een en het in is met naar of om op te uit van voor wordt zijn",
}
_WORDS = {code: frozenset(text.split()) for code, text in _FUNCTION_WORDS.items()}


def other_language(words: Sequence[str], expected: str) -> str:
    """The language that ``words`` seem to be in where it is not ``expected``; empty where nothing speaks for one.

    Args:
        words: folded, in order; names already taken out.
        expected: a code of ``LANGUAGES`` other than "any".
    """
    counts = {code: sum(word in known for word in words) for code, known in _WORDS.items()}
    likeliest = max(counts, key=lambda code: (counts[code], code == expected))
    if counts[likeliest] >= 2 and counts[likeliest] > 2 * counts[expected]:
        return f"its function words are those of {likeliest!r}, not of {expected!r}"
    return ""
