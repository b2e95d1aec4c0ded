"""Split a completion into descriptions and rejected pieces. Pure.

Every sentence or phrase of an answer is either accepted or rejected with a ``RejectionReason``. Markup, numbering,
quotes and labels such as "Caption:" are stripped and are no reason for a rejection. ``reasoning`` finds the answer in
what the model wrote, ``markup`` its lines, ``naming`` the class in them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Literal

from abs_descriptions.generation.markup import Line, plain_lines
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.providers.base import FinishReason
from abs_descriptions.generation.reasoning import final_answer
from abs_descriptions.generation.sentences import (
    foreign_share,
    other_language,
    split_sentences,
    tidy,
    word_set,
    words,
)

__all__ = ["CleanedText", "CleaningRules", "RejectedText", "RejectionReason", "clean", "description_key"]

_DOUBLE = '"“”«»„「」『』'
_QUOTES = _DOUBLE + "'‘’`"

# Labels in front of a description, which say nothing of it.
_LABEL = re.compile(
    r"^(?:(?:the |my )?(?:short(?:er)?|long(?:er)?|brief|concise|detailed|simple|visual|image|photo|picture|"
    r"one-sentence|"
    r"single-sentence|final|revised|improved|updated|possible|sample|overall|general|english|summary|alt|draft|"
    r"generated|"
    r"suggested|polished|alternative|class|object|key|main|distinctive|default|text)[ -]){0,3}"
    r"(?:captions?|descriptions?|answer|response|sentences?|output|examples?|assistant|version|option|variant|"
    r"variation|"
    r"alternative|choice|text|alt[ -]text|translation|english|result|summary|reply|final|revised|paraphrase|visual|"
    r"overall|"
    r"in summary|to summari[sz]e|to sum up|in short|in conclusion|a|翻译|描述|回答|答案|答|beschreibung|antwort|"
    r"respuesta)"
    r"(?: (?:sentence|of (?:the |an? )?[\w -]{1,40}|in english))?"
    r"\s*(?:#?\d{1,3}|[A-Z])?\s*(?:\([^()\n]{1,40}\))?\s*[:：]\s*",
    re.IGNORECASE,
)
_NUMBERED_LABEL = re.compile(
    r"^(?:option|variant|variation|version|alternative|choice|example|sentence|description|caption|feature|answer|"
    r"prompt|style|idea|take|#|no\.|part|detail|image|photo|picture|view|item|point|trait|attempt|draft)\s*"
    r"(?:#?\d{1,3}|[A-Z])\s*(?:\([^()\n]{1,40}\))?\s*[:：.)–—-]\s+",
    re.IGNORECASE,
)

# What a phrase is about, where its words say so themselves: "Color: bright red", but not "Eyes: red".
_ASPECT = re.compile(
    r"^(?:overall |general |body )?(?:colou?rs?|colou?ration|shapes?|forms?|sizes?|textures?|patterns?|materials?|"
    r"appearance)\s?(?:[:：]\s*|\s[–—-]\s)(?=\S+[\s,/-]+\S)",
    re.IGNORECASE,
)

# What these labels announce is no description.
_ASIDE = re.compile(
    r"^[\W_]{0,3}(?:(?:please |side ?|foot|fun |interesting |quick |additional |key |important |image |my |a |some )?"
    r"(?:notes?|remarks?|disclaimer|facts?|trivia|tips?|comments?|caveat)|keywords?|tags?|hashtags?|sources?|"
    r"references?|"
    r"citations?|further reading|see also|(?:word|character|token|sentence) count|words|characters|length|tone|style|"
    r"explanation|rationale|reasoning|justification|analysis|thoughts?|thinking|why (?:this|it) works|confidence|score|"
    r"question|prompt|task|class(?: ?name)?|category|label|title|name|scientific name|etymology|origins?|history|usage|"
    r"pronunciation|language|created|author|photo credit|credit|n\.?b\.?|p\.?s\.?|edit|warning|step \d{1,2}|step)"
    r"\s*(?:\([^()\n]{1,40}\))?\s*[:：]",
    re.IGNORECASE,
)

_OPENING = re.compile(
    r"^(?:(?:(?:好的?|当然(?:可以)?|没问题|はい|もちろん(?:です)?|네|물론(?:입니다|이죠)?|claro|"
    r"por supuesto|bien s[uû]r|natürlich|gerne?|certo|конечно|"
    r"yes|sure|certainly|of course|absolutely|ok|okay|great|alright|all right|definitely|gladly|got it|"
    r"understood|well|ah|oh|hm+|no problem|happy to(?: help)?|with pleasure|right|voil[aà]|"
    r"here (?:you|it|we|i)(?: go(?:es)?| are| is)?|here goes)"
    r"(?: thing)?(?:\s?[,.!:，。！：、]|\s[–—-])\s*){1,3})?"
    r"(?:(?:here(?:['’]?s| is| are| you go)|below (?:is|are)|the following|this is|these are)\b[^:.!?]{0,120}:\s*)?",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"^(?:in (?:summary|short|conclusion|essence|other words|brief|a nutshell)|to (?:summari[sz]e|sum up|conclude)|"
    r"overall|"
    r"(?:so,? )?basically|essentially|simply put|so),\s+",
    re.IGNORECASE,
)

_COUNT = re.compile(
    r"[\s,]{0,4}(?:[\[(*]{1,2}|[–—-]{1,2}\s|\s-\s|\|\s?)\s?(?:word count\s?:?|total\s?:?|approx(?:imately|\.)?|about|"
    r"around|"
    r"~|≈|exactly|=)?\s?(?:word count\s?:?\s?)?\d{1,3}[ -](?:words?|characters?|chars|tokens?)\b[^\n]{0,40}$",
    re.IGNORECASE,
)

_REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:sorry|unable|not able|afraid|not sure|not familiar|just an?|only an?)|i apologi[sz]e|"
    r"my apologies|"
    r"i (?:cannot|can['’]?t|can not|could ?n['’]?t|won['’]?t|don['’]?t|do not|am not|was not|wasn['’]?t|need more)|"
    r"i(?:['’]ve| have) no|as an? (?:ai|artificial intelligence|large language|language)|"
    r"unable to (?:describe|provide|assist|help|answer|identify|see|view)|(?:can ?not|can['’]t) (?:assist|help|"
    r"provide|comply)|"
    r"no image (?:was|is|has been)|against my (?:guidelines|programming)|content policy)\b",
    re.IGNORECASE,
)

# Searched for in the text with the class name masked, so that a "please touch sign" may be described.
_CHATTY = re.compile(
    r"^(?:sure|certainly|of course|absolutely|okay|great|yes|no|hello|hi|thanks|got it|understood)\s?[,.!:]|"
    r"^(?:here(?:['’]s| is| are) (?:a|an|the|some|my|your|one|another|three|two|\d)|(?:the following|below) (?:is|are)|"
    r"the following [a-z ]{1,40} (?:is|are|was|were)\b|let me|let['’]s|please|thank|note(?: that|:)|remember|imagine|"
    r"picture (?:a|an|the|this|yourself)|did you know|there you (?:have|go)|unfortunately|"
    r"it (?:depends|seems|appears|sounds|looks like you)\b|depending on|"
    r"there (?:is no such|are (?:several|many|different|various|two|multiple) (?:types|kinds|meanings|"
    r"ways|interpretations))|if you|whether you|when you (?:said|say|mean)|step \d|first, (?:i|let|we)|next, (?:i|we)|"
    r"i(?=\s)|i['’][a-z]+|we(?=\s)(?! see\b)|we['’][a-z]+|my(?=\s)|our(?=\s))|"
    r"\b(?:i hope|hope (?:this|that|it|these) helps?|let me know|feel free|you asked|you (?:mean|meant|want|need)\b|"
    r"you(?:['’]d| would) like|would you|do you|could you|can you|your (?:question|request|image|prompt|needs|query|"
    r"input)|"
    r"the (?:user|question|prompt)\b|the word count|"
    r"(?:this|these|the|each|both|all|above|following|generated|my) (?:short |brief |visual |above |single |"
    r"one-sentence |two |"
    r"three |generated |four |five )*(?:sentences?|descriptions?|captions?|responses?|answers?|paragraphs?|"
    r"bullet points|"
    r"versions?)\b|is described|this makes|these (?:features|details|characteristics|elements|traits|descriptions|"
    r"visual)|language model|"
    r"as requested|as an ai|\bai[- ](?:generated|written)|generated by|(?:we|i) (?:should|need|must|could|will|can|"
    r"might|would|"
    r"want|think|believe|assume)|i['’](?:ll|d|ve|m)|(?:should|must) (?:mention|describe|include|write|be named|say|"
    r"avoid|"
    r"focus)|let['’]s|"
    r"several meanings|multiple meanings|different meanings|"
    r"(?:may|can|could|might) (?:also )?refer to|in this context|(?:you['’]re|you are|you were) (?:"
    r"referring|asking|looking|"
    r"talking|describing|thinking|seeking|after\b)"
    r"|more context|happy to help|(?:she|he) (?:wrote|said|says)|any (?:questions|other)|thought for|step by step)\b|https?://|www\.|"
    r"\b(?:word|term|name|phrase) [\"“'‘*]?\{\}|^here, [\"“'‘]|hard to describe|"
    r"without (?:an?|the|any) (?:image|picture|photo)\b|"
    r"wikipedia|^(?:describe|see (?:the|also)|done|complete)\b|^\W?\d+ (?:words|characters)\b",
    re.IGNORECASE,
)

# Words of what a picture does not show. They count against a sentence only if it says nothing that is seen.
_UNSEEN = re.compile(
    r"\b(?:national|cultur\w+|tradition\w*|religio\w+|sacred|fortune|ancient|histor\w+|discovered|known (?:as|for)|"
    r"famous|popular\w*|beloved|favou?rite|iconic|must-have|essential|vital|important|play(?:s|ed)? an?|considered|"
    r"regarded|used (?:by|to|for|in|as)|designed to|helps? |allows?|serves? as|delicious|tasty|flavou?r\w*|"
    r"taste\w*|smell\w*|aroma\w*|sounds?|song|nutri\w+|health\w*|perfect for|great for|ideal for|enjoy\w*|"
    r"feeds? (?:on|mainly|primarily)|"
    r"diet|eats?|eaten|hunts?|prey\w*|predators?|mates?|breeds? |lays?|active|social|prides?|herds?|"
    r"lives? (?:up|for|in|about)|weighs?|"
    r"vulnerable|conservation|population|individuals|native to|found in|inhabit\w*|species|family|belongs? to|"
    r"gastropods?|mammals?|reptiles?|amphibians?|crustaceans?|invertebrates?|scientific\w*|intelligen\w+|loyal|"
    r"friendly|"
    r"gentle|aggressive|dangerous|fast|quickly|sluggish|speed|expensive|cheap|costs?|worth|million|billion|"
    r"percent|sport|olympic\w*|game|tells? the time|measure\w*|type of|kind of|world|country|countries|africa|"
    r"asia|europe|america\w*|united states|china|japan\w*|india\w*|scotland|england|france|germany|italy|requires?|"
    r"involves?|depends?|can be \w+ or|practice|compan(?:y|ies)|brands?|"
    r"manufactur\w+|tuned|played|means|fascinating|amazing|wonderful|remarkable|interesting|patient\w*|hunters?|nests?|"
    r"colon(?:y|ies)|calls?|croaks?|barks|howls?|noise|noisy|loud\w*|confused with|mistaken for|protected|may vary)\b",
    re.IGNORECASE,
)
# These count more.
_PAST = re.compile(
    r"\b(?:symbol\w*|mytholog\w+|folklore|legend\w*|good luck|centur(?:y|ies)|(?:hundreds|thousands|millions) of years|"
    r"invent(?:ed|ion)|originat\w+|dates? back|was introduced|were brought|brought to|domesticated|entered service|"
    r"founded|"
    r"first (?:flew|built|made|appeared|used|described|produced|released|introduced)|named after|comes from|"
    r"derived from|"
    r"calories|protein|vitamins?|endangered|extinct|lifespan|hibernat\w+|migrat\w+|nocturnal|genus|genera|"
    r"mate for life)\b",
    re.IGNORECASE,
)
_SEEN = re.compile(
    r"\b(?:(?:[a-z]+-)?(?:colou?r|strip|spot(?:s|ted|less)|shape|pattern|curv|round|point(?:ed|y)|gloss|shin[ey]|"
    r"feather|"
    r"fur\b|furry|hair|edge|corner|cylind|triang|rectang|squar|circular|circle|dome|spiral|oval|wing|tail|beak|bill\b|"
    r"leg(?:s|ged)\b|neck|face|eyes?\b|ears?\b|nose|snout|hump|muzzle|teeth|horn|paw|claw|hoof|hooves|fin(?:s|ned)?\b|scale|"
    r"shell|skin|coat|mane|petal|lea(?:f|ves)\b|stem|trunk|bark|branch|wheel|window|door|roof|wall|tower|handle|blade|"
    r"button|screen|lens|strap|sleeve|collar|crust|slice|layer|surface|smooth|rough|wrinkl|fold|ridge|groove|lines?\b|"
    r"lined|dots?\b|dotted|band(?:s|ed)?\b|bright|dark|pale|transparen|translucen|opaque|texture)\w*|"
    r"(?:black|white|gr[ea]y|red|green|blue|yellow|orange|brown|pink|purple|violet|golden|silver|silvery|beige|"
    r"cream|tan|"
    r"buff|tawny|amber|bronze|turquoise|crimson|scarlet|ivory|tall|short|long|wide|narrow|broad|thin|thick|slim|"
    r"slender|"
    r"flat|small|large|big|huge|tiny|massive|low|high|deep|shallow|straight|crooked|upright|vertical\w*|horizontal\w*|"
    r"diagonal\w*|steep|wooden|metal|metallic|steel|brass|iron|glass|plastic|leather|stone|brick|concrete|woven|"
    r"knitted|"
    r"fabric|cloth|paper|heads?|bod(?:y|ies)|chest|belly|feet|foot|arms?|fingers?|seen|visible|shows?|looks?|appears?|"
    r"stands?|standing|hangs?|hanging|lies|lying|sits?|sitting|covered|surrounded|beside|behind|beneath|above|"
    r"rows?)\b)",
    re.IGNORECASE,
)
# "A heron is a bird."
_GENUS = re.compile(r"^(?:an?\s|the\s)?\{\} (?:is|are) (?:an?\s|the\s)?(?:\w+\s){0,2}\w+\W*$")
_COMPARED = re.compile(
    r"^(?:unlike|compared (?:to|with)|in contrast (?:to|with)|similar to|not to be confused with)\b[^,]{0,80},"
)

_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "۔", "।", "॥")
_OPEN_END = word_set(
    "a an the and or but with of in on its their to at by for from that which whose is are has have as into than such "
    "while where when very more most"
)
_ARTICLES = frozenset(("a", "an", "the"))
_FOREIGN_LIMIT = 0.3

# Servers may send anything; no model writes more than this when asked for a sentence.
_MAX_COMPLETION = 100_000
_MAX_REASONING = 2_000_000


class RejectionReason(StrEnum):
    """Why a piece of a completion is not kept as a description."""

    CUT_OFF = "cut off"
    NO_CLASS_NAME = "no class name"
    HEADING = "heading"
    CHATTY = "chatty"
    LOOP = "loop"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    OTHER_LANGUAGE = "another language"
    DUPLICATE = "duplicate"
    REFUSAL = "refusal"
    OTHER_NAME = "names another class"
    """It names the class that it is to be told from, so that it would draw in the images of that class."""
    SAID_OF_BOTH = "said of both classes"
    """With the names exchanged it is a description of the class that it is to be told from. Given by ``rewriting``."""
    NOT_VISUAL = "not visual"
    """It says nothing that a picture shows: history, use, behaviour, opinion."""
    SURPLUS = "surplus"
    """Well-formed, but the class has enough descriptions."""
    NEAR_DUPLICATE = "near duplicate"
    """This and the following three are given by ``filtering``."""
    OFF_TOPIC = "off topic"
    OTHER_CLASS = "nearer to another class"
    UNUSED = "unused by the images"
    NO_GAIN = "no gain on the images"
    """Given by ``rewriting``."""


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """What a description must fulfil.

    Args:
        kind: "sentence", or "phrase": one descriptor per line, which need not name the class.
        language: the expected ``Language``, or "any".
        naming: for a sentence that does not name its class, "require" rejects it, "prefix" puts the name and a colon
            before it.
        min_words: minimum of a sentence; a phrase needs one word.
        max_words: maximum of a sentence; a phrase may have 20 words.
        count_tokens: counts the tokens of a text as the image-text model does; None counts none.
        token_limit: texts with more tokens are too long; None sets no limit.
    """

    kind: Literal["sentence", "phrase"] = "sentence"
    language: str = "en"
    naming: Literal["require", "prefix"] = "require"
    min_words: int = 5
    max_words: int = 60
    count_tokens: Callable[[str], int] | None = field(default=None, compare=False)
    token_limit: int | None = None


@dataclass(frozen=True, slots=True)
class RejectedText:
    """A piece of a completion, why it is rejected, and details (may be empty)."""

    text: str
    reason: RejectionReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CleanedText:
    """The pieces of a completion, in the order of the text. Accepted texts are NFC, on one line, stripped."""

    accepted: tuple[str, ...]
    rejected: tuple[RejectedText, ...]
    has_reasoning: bool = False
    """The completion contains reasoning beside the answer; none of it is among the pieces."""


def clean(
    completion: str,
    *,
    finish_reason: FinishReason,
    matcher: NameMatcher,
    name: str,
    rules: CleaningRules,
    seen: AbstractSet[str] = frozenset(),
    unwanted: NameMatcher | None = None,
) -> CleanedText:
    """Split a completion and check every piece.

    Args:
        completion: the text of the model.
        finish_reason: "length" if it was cut off; its last piece then counts only if it ends like a sentence.
        matcher: finds the class name.
        name: the class name, for ``naming="prefix"``.
        rules: what a description must fulfil.
        seen: ``description_key`` of the descriptions that the class has already, and of the examples in the prompt.
        unwanted: finds the name of another class that a description must not have; None for none.
    """
    accepted: list[str] = []
    rejected: list[RejectedText] = []
    keys = set(seen)
    answer = final_answer(completion[:_MAX_REASONING], finish_reason)
    for piece in _pieces(answer.text[:_MAX_COMPLETION], matcher, rules, finish_reason):
        text, problem = _check(piece, matcher, name, rules)
        key = description_key(text, matcher)
        if problem is None and key in keys:
            problem = (RejectionReason.DUPLICATE, "")
        if problem is None and unwanted is not None and unwanted(text):
            problem = (RejectionReason.OTHER_NAME, "")
        if problem is not None:
            rejected.append(RejectedText(text, *problem))
            continue
        keys.add(key)
        accepted.append(text)
    if not accepted and not rejected:
        reason = RejectionReason.CUT_OFF if answer.is_cut else RejectionReason.TOO_SHORT
        detail = "reasoning without an answer" if answer.has_reasoning else ""
        rejected.append(RejectedText(tidy(completion[:_MAX_COMPLETION]), reason, detail))
    return CleanedText(tuple(accepted), tuple(rejected), answer.has_reasoning)


def description_key(text: str, matcher: NameMatcher) -> str:
    """Equal for duplicates: the words without articles, with the class name masked."""
    return " ".join(word for word in matcher.mask(text) if word not in _ARTICLES)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence or phrase: its text, whether it was cut off, and why it is no description, as far as its line says."""

    text: str
    is_cut: bool = False
    problem: RejectionReason | None = None


def _pieces(completion: str, matcher: NameMatcher, rules: CleaningRules, finish_reason: FinishReason) -> list[_Piece]:
    """The sentences or phrases of a completion."""
    lines = plain_lines(completion)
    pieces = list[_Piece]()
    for number, line in enumerate(lines):
        # A cut reply is cut in its last line; a JSON value is cut if the text ends within it.
        may_be_cut = line.is_cut or (finish_reason == "length" and number == len(lines) - 1 and line.kind != "value")
        if rules.kind == "sentence":
            pieces += _sentences(line, matcher, rules, may_be_cut=may_be_cut)
        else:
            pieces += _phrases(line, is_alone=len(lines) == 1, may_be_cut=may_be_cut)
    return pieces


def _sentences(line: Line, matcher: NameMatcher, rules: CleaningRules, *, may_be_cut: bool) -> Iterator[_Piece]:
    if _ASIDE.match(f"{line.label or line.text}:" if line.label else line.text) and not matcher(line.label):
        yield _Piece(line.text, problem=RejectionReason.CHATTY)
        return
    if line.kind == "heading" and not line.text.endswith(_ENDS):
        yield _Piece(line.text, problem=RejectionReason.HEADING)
        return
    text = _without_label(line, matcher, rules)
    parts = split_sentences(_COUNT.sub("", text))
    for number, part in enumerate(parts, 1):
        piece = _polished(_CONNECTIVE.sub("", _without_opening(_unquote(part))))
        if not any(char.isalnum() for char in piece):
            continue
        ended = piece.endswith(_ENDS) and not piece.endswith(("...", "…"))
        is_last = number == len(parts)
        yield _Piece(
            piece, (may_be_cut and is_last and not ended) or piece.endswith((",", "...", "…", "-", "–", "—", ";"))
        )


def _phrases(line: Line, *, is_alone: bool, may_be_cut: bool) -> Iterator[_Piece]:
    if line.kind == "heading" or _ASIDE.match(f"{line.label}:" if line.label else line.text):
        yield _Piece(line.text, problem=RejectionReason.HEADING if line.kind == "heading" else RejectionReason.CHATTY)
        return
    text = _LABEL.sub("", _NUMBERED_LABEL.sub("", _without_opening(_COUNT.sub("", line.text))), count=1)
    text = _ASPECT.sub("", text)
    listed = [part.strip() for part in re.split(r"[,;]", text)]
    if is_alone and len(listed) > 2 and all(len(part.split()) > 1 for part in listed):
        parts = [part.removeprefix("and ") for part in listed]
    else:
        # A value of one word says nothing without its key.
        has_label = line.label and (line.kind != "value" or len(text.split()) == 1)
        has_label = has_label and not _ASPECT.match(f"{line.label}: {text}")
        parts = [f"{line.label}: {text}" if has_label else text]
    for number, part in enumerate(parts, 1):
        phrase = _unquote(part.rstrip(" .;,"))
        if any(char.isalnum() for char in phrase):
            is_cut = (may_be_cut and number == len(parts)) or part.endswith((",", "...", "…", "-", "–"))
            yield _Piece(phrase, is_cut and not line.text.endswith("."))


def _without_label(line: Line, matcher: NameMatcher, rules: CleaningRules) -> str:
    """The text of a line without words in front that only announce it."""
    text = _without_opening(line.text)
    text = _LABEL.sub("", _NUMBERED_LABEL.sub("", text, count=1), count=1)
    text = _without_opening(_unquote(text) if text != line.text else text)
    if line.label and line.kind != "value" and not _LABEL.match(f"{line.label}:") and not matcher(text):
        # "Crane: a tall bird" names the class with its label alone.
        return f"{line.label}{line.joint}{text}" if matcher(line.label) else text
    label = re.match(r"([^:.!?;–—]{1,60}?)(?:\s?[:：]\s+|\s[–—-]\s)(?=[\"“'‘(]?[A-Z\d])", text)
    if label is not None and len(label[1].split()) <= 6:
        rest = text[label.end() :]
        if matcher(rest) and len(words(rest)) >= rules.min_words:
            return rest
    return text


def _without_opening(line: str) -> str:
    rest = re.sub(r"^[\[(][^\])\n]{1,60}[\])]\s+(?=[A-Z])", "", _OPENING.sub("", line, count=1), count=1)
    return line if rest == line else rest[:1].upper() + rest[1:]


def _polished(piece: str) -> str:
    """Without brackets around the whole, without spaces before punctuation, with a capital."""
    if piece.startswith("(") and piece.endswith((")", ").")) and piece.count("(") == 1:
        piece = piece.rstrip(".").removesuffix(")").removeprefix("(").strip()
    piece = _unquote(piece)
    return piece[:1].upper() + piece[1:] if piece[:1].islower() and piece[1:2] in (" ", "") else piece


def _unquote(piece: str) -> str:
    """Without quotes around the whole, and without a double quote whose counterpart is in another piece."""
    text = piece.strip()
    inner = text[1:-1]
    if len(text) > 2 and text[0] in _QUOTES and text[-1] in _QUOTES and not any(mark in inner for mark in _DOUBLE):
        return inner.strip()
    if sum(text.count(mark) for mark in _DOUBLE) % 2:
        text = text[1:] if text[0] in _DOUBLE else text[:-1] if text[-1] in _DOUBLE else text
    return text.strip()


def _check(
    piece: _Piece, matcher: NameMatcher, name: str, rules: CleaningRules
) -> tuple[str, tuple[RejectionReason, str] | None]:
    """The text as it would be kept, and why it is rejected, if it is."""
    text = piece.text
    word_count = len(words(text))
    sentence = rules.kind == "sentence"
    masked = matcher.masked(text)
    problem = piece.problem or _talk(text, masked, rules)
    if problem is not None:
        return text, (problem, "")
    if piece.is_cut or (sentence and _is_open(text, masked)):
        return text, (RejectionReason.CUT_OFF, "")
    if word_count < (rules.min_words if sentence else 1):
        return text, (RejectionReason.TOO_SHORT, f"{word_count} words")
    foreign = _foreign(text, matcher, name, rules)
    if foreign:
        return text, (RejectionReason.OTHER_LANGUAGE, foreign)
    if _loops(matcher.mask(text)):
        return text, (RejectionReason.LOOP, "")
    text = text if not sentence or text.endswith(_ENDS) else f"{text}."
    if sentence and ("{}" not in masked or _is_comparison(masked)) and not matcher(_after_comparison(text, masked)):
        if rules.naming == "require":
            return text, (RejectionReason.NO_CLASS_NAME, "")
        text = f"{' '.join(tidy(name).split())}: {text}"
    if sentence and rules.language in ("en", "any") and _shows_nothing(masked):
        return text, (RejectionReason.NOT_VISUAL, "")
    return text, _length_problem(text, word_count, rules)


def _talk(text: str, masked: str, rules: CleaningRules) -> RejectionReason | None:
    """Whether a piece speaks to the reader or of itself instead of describing."""
    if _REFUSAL.search(text):
        return RejectionReason.REFUSAL
    ending = _ending(text)
    if any(mark in ending for mark in "?？؟") or ending.rstrip("*_)\"'” ").endswith((":", "：", "=")):
        return RejectionReason.CHATTY
    if _CHATTY.search(masked) or (rules.kind == "sentence" and _is_list_of_words(text)):
        return RejectionReason.CHATTY
    return RejectionReason.HEADING if rules.kind == "sentence" and _is_title(text) else None


def _shows_nothing(masked: str) -> bool:
    seen = len(set(islice((match.group() for match in _SEEN.finditer(masked)), 10)))
    if seen > 1:
        return False
    is_unseen = _UNSEEN.search(masked) or _GENUS.match(masked)
    return _PAST.search(masked) is not None or (seen == 0 and is_unseen is not None)


def _ending(text: str) -> str:
    """What stands after the last word."""
    end = len(text)
    while end and not (text[end - 1].isalnum() or text[end - 1] == "_"):
        end -= 1
    return text[end:]


def _is_list_of_words(text: str) -> bool:
    """Whether a text is a list of keywords."""
    parts = text.rstrip(".").split(",")
    return len(parts) > 3 and all(len(part.split()) < 3 for part in parts)


def _is_title(text: str) -> bool:
    """Whether a text is set like a title: no end, and capitals throughout."""
    if text.endswith(_ENDS):
        return False
    long = [word for word in text.split() if len(word) > 3 and word[0].isalpha()]
    return len(long) > 1 and sum(word[0].isupper() for word in long) > 0.7 * len(long)


def _is_open(text: str, masked: str) -> bool:
    """Whether a sentence without an end breaks off."""
    return not text.endswith(_ENDS) and bool(found := words(masked)) and found[-1] in _OPEN_END and masked[-1].isalpha()


def _is_comparison(masked: str) -> bool:
    return _COMPARED.match(masked) is not None


def _after_comparison(text: str, masked: str) -> str:
    """What follows "Unlike a crane,"; the whole text if it does not begin so."""
    return text[text.find(",") + 1 :] if _is_comparison(masked) else text


def _foreign(piece: str, matcher: NameMatcher, name: str, rules: CleaningRules) -> str:
    if rules.language == "any":
        return ""
    share = foreign_share(piece, name)
    if share > _FOREIGN_LIMIT:
        return f"{share:.0%} of its letters are of another script"
    return other_language(matcher.mask(piece), rules.language)


def _length_problem(text: str, count: int, rules: CleaningRules) -> tuple[RejectionReason, str] | None:
    limit = rules.max_words if rules.kind == "sentence" else 20
    if count > limit:
        return RejectionReason.TOO_LONG, f"{count} words, the limit is {limit}"
    if rules.count_tokens is not None and rules.token_limit is not None:
        tokens = rules.count_tokens(text)
        if tokens > rules.token_limit:
            return RejectionReason.TOO_LONG, f"{tokens} tokens, the limit is {rules.token_limit}"
    return None


def _loops(text_words: list[str]) -> bool:
    """Whether words repeat as in the output of a model that is stuck: one word three times in a row, a sequence of four
    words twice, or of three words three times; in scripts without spaces a word is a character, and sequences are
    twice as long."""
    triples = zip(text_words, text_words[1:], text_words[2:], strict=False)
    if any(first == second == third for first, second, third in triples):
        return True
    characters = sum(len(word) == 1 and not word.isascii() for word in text_words) > len(text_words) / 2
    longer, shorter = (8, 6) if characters else (4, 3)
    return _max_repeats(text_words, longer) >= 2 or _max_repeats(text_words, shorter) >= 3


def _max_repeats(text_words: list[str], length: int) -> int:
    """How often the most frequent sequence of ``length`` words occurs."""
    sequences = (tuple(text_words[start : start + length]) for start in range(len(text_words) - length + 1))
    return max(Counter(sequences).values(), default=0)
