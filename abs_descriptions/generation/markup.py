"""The lines of a completion, or the texts of JSON in it, as plain text, with what their markup says of them. Pure.

Takes off what models put around their words: special tokens, HTML, LaTeX, Markdown, tables, citations. Every pattern
takes time linear in the text, because a reply may be anything.

Models put JSON in code fences, after "Here it is:", with trailing commas, single quotes or comments, one object a line,
with keys of their own, and are cut off in the middle. A strict parser would lose the texts of all of these, which are
paid for. The reader here never fails: it takes each string that is not a key, in one pass.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from abs_descriptions.generation.sentences import tidy

__all__ = ["Line", "TextPart", "plain_lines", "split_structured"]

_START = re.compile(
    r"[\[{](?=\s*(?://[^\n]{0,200}\n\s*|#[^\n]{0,200}\n\s*)?(?:[\"'“‘`]|[\[{]\s*[\"'“‘{\[\w]|\w{1,40}\s?:\s*[\"'“\[{]))"
)
_CLOSING = {'"': '"”', "“": '”"', "'": "'’", "‘": "’'", "`": "`"}
# A quote within a text is not followed by one of these.
_AFTER_STRING = re.compile(r"[^\S\n]*(?:[,:\]};]|\n|//|#|\Z)|[^\S\n]+[\"“]|\s*\Z")
_BARE = re.compile(r"[^,:\[\]{}\"“\n]+")
_SPACE = re.compile(r"[\s,;]+")
_KEY_END = re.compile(r"\s*:")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_JSON_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

# How many of the keys around a text are looked at.
_DEPTH = 10

# Keys of what describes no image.
_META = frozenset(
    "analysis author category class classlabel classname confidence count date error explanation family genus id index "  # noqa: SIM905
    "item keywords kind label lang language length model name notes note number object prompt query question rationale "
    "reasoning role score scientificname source sources species status subject success tags thinking thought thoughts "
    "timestamp title tokens topic type url version wordcount words".split()
)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a completion.

    Args:
        text: prose, or one text of a JSON value.
        key: the key of the text; empty for prose and in lists.
        is_value: it stands in JSON.
        is_cut: the completion ends within the text.
    """

    text: str
    key: str = ""
    is_value: bool = False
    is_cut: bool = False


def split_structured(text: str) -> Iterator[TextPart]:
    """Prose and the texts of JSON values, in the order of ``text``."""
    position = 0
    while (start := _START.search(text, position)) is not None:
        values, end = _read(text, start.start())
        yield TextPart(text[position : start.start()])
        yield from values
        position = end
    yield TextPart(text[position:])


def _read(text: str, position: int) -> tuple[list[TextPart], int]:
    """The texts of the JSON value at ``position``, and the position after it."""
    values, keys = list[TextPart](), list[str]()
    key = ""
    while position < len(text):
        char = text[position]
        if char in "[{":
            keys.append(key)
            key, position = "", position + 1
        elif char in "]}":
            position, key = position + 1, ""
            keys.pop()
            if not keys:
                break
        elif char in _CLOSING:
            string, position, is_closed = _string(text, position)
            colon = _KEY_END.match(text, position) if is_closed else None
            if colon is None:
                values += _value(string, [*keys[-_DEPTH:], key], is_cut=not is_closed)
                key = key if text[position : position + 1] == "\n" else ""
            else:
                key, position = string, colon.end()
        else:
            key, position = _other(text, position, key, keys, values)
    return values, position


def _other(text: str, position: int, key: str, keys: list[str], values: list[TextPart]) -> tuple[str, int]:
    """Skip what is no string: a separator, a comment, a number, or a text or key without quotes."""
    if text.startswith(("//", "#"), position):
        end = text.find("\n", position)
        return key, len(text) if end < 0 else end
    space = _SPACE.match(text, position)
    if space is not None:
        return "" if "," in space.group() else key, space.end()
    bare = _BARE.match(text, position)
    if bare is None:
        return key, position + 1
    if text[bare.end() : bare.end() + 1] == ":":
        return bare.group().strip(), bare.end() + 1
    if len(bare.group().split()) > 2:
        values += _value(bare.group().strip(), [*keys[-_DEPTH:], key], is_cut=bare.end() == len(text))
    return key, bare.end()


def _value(string: str, keys: list[str], *, is_cut: bool) -> list[TextPart]:
    if any(re.sub(r"[\W_]", "", key.casefold()) in _META for key in keys):
        return []
    named = [key for key in keys if key]
    return [TextPart(string, named[-1] if named else "", True, is_cut)]


def _string(text: str, position: int) -> tuple[str, int, bool]:
    """The string that begins at ``position``, the position after it, and whether its end was found."""
    closing, at = _CLOSING[text[position]], position + 1
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 2
            continue
        if char in closing and _AFTER_STRING.match(text, at + 1):
            return _unescape(text[position + 1 : at]), at + 1, True
        at += 1
    return _unescape(text[position + 1 :]), len(text), False


def _unescape(string: str) -> str:
    if "\\" not in string:
        return string

    def plain(escape: re.Match[str]) -> str:
        code = escape[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        return _JSON_ESCAPES.get(code, code if code in "\"'/\\“”" else escape[0])

    # Characters beyond the first plane are written as two escapes.
    return _ESCAPE.sub(plain, string).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# A turn of somebody else, or the end of the model's own, as special tokens say it, or as words at the start of a line.
_TURN = re.compile(
    r"<[|｜](?:im_end|eot_id|eom_id|end|endoftext|end_of_text|return|end_of_turn|eos|user|END_OF_TURN_TOKEN|"
    r"end▁of▁sentence|User|observation)[|｜]>|</s>|<end_of_turn>|<eos>|<\|im_start\|>\s?user|"
    r"<\|start_header_id\|>\s?user|<start_of_turn>\s?user|\[INST\]|\[\|(?:user|endofturn)\|\]|"
    r"^[#*\s]{0,6}(?:User|Human|Instruction|Question|Q)[*\s]{0,3}[:：](?!\S{0,3}//)",
    re.MULTILINE,
)
_ASSISTANT = re.compile(
    r"<\|im_start\|>\s?assistant|<\|start_header_id\|>\s?assistant\s?<\|end_header_id\|>|<start_of_turn>\s?model|"
    r"<\|start\|>\s?assistant|^[#*\s]{0,6}(?:Assistant|AI|Model|ASSISTANT)[*\s]{0,3}[:：]",
    re.MULTILINE,
)
_TOKEN = re.compile(
    r"<[|｜][\w▁/ -]{1,40}[|｜]>|</?s>|<(?:bos|eos|pad|unk|mask|sep|cls|unused\d{1,4})>|<0x[0-9A-F]{2}>|\[/?INST\]|"
    r"<</?SYS>>|</?(?:start|end)_of_turn>|\[(?:PAD|UNK|CLS|SEP|MASK|EOS|BOS)\]|\[\|[a-z]{1,20}\|\]"
)

_MAX_TURNS = 20
# A line break that was escaped once too often, outside of LaTeX and of JSON strings.
_WRITTEN_BREAK = re.compile(r"(?<![\\\w\"])\\n(?![a-z])|(?<=[.!?])\\n(?![a-z])")

_HIDDEN_TAGS = ("script", "style", "svg", "title", "head", "summary")
_INLINE = "a|abbr|b|bdi|big|cite|code|del|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|tt|u|var|wbr"
_SUPERSCRIPT = re.compile(r"<sup\b[^<>]{0,100}>[^<]{0,20}</sup\s?>", re.IGNORECASE)
_ITEM_TAG = re.compile(r"<li\b[^<>]{0,300}>", re.IGNORECASE)
_HEADING_TAG = re.compile(r"<h[1-6]\b[^<>]{0,300}>", re.IGNORECASE)
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]{{0,300}})?/?>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][\w:-]{0,40}(?:\s[^<>]{0,300})?/?>")

_COMMANDS = {
    "times": "×", "approx": "about ", "sim": "about ", "circ": "°", "degree": "°", "pm": "±", "cdot": "·", "leq": "≤",
    "geq": "≥", "le": "≤", "ge": "≥", "rightarrow": "→", "to": "→", "quad": " ", "qquad": " ", "ldots": "...",
    "dots": "...", "item": "\n- ", "newline": "\n", "par": "\n", "centering": "", "textdegree": "°", "Delta": "Δ",
    "alpha": "α", "beta": "β", "mu": "µ", "left": "", "right": "",
}  # fmt: skip
_COMMAND = re.compile(r"\\([a-zA-Z]{2,20})(?![a-zA-Z])\s?")
_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|normal)?|math(?:rm|bf|it|sf|tt)|emph|underline|mbox|boxed|operatorname|caption|"
    r"(?:sub){0,2}section\*?|paragraph)\s?\{([^{}]{0,2000})\}"
)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[^{}\n]{0,40}\}(?:\[[^\]\n]{0,40}\])?")
_MATH = re.compile(r"(?<!\\)\$\$?(?=[^\s$])([^$\n]{1,200}?)(?<=[^\s$\\])\$\$?(?!\d)")
_IS_MATH = re.compile(r"[\\^_{]|^[\d.,×x°%+\- ]{1,20}[a-zA-Z°%]{0,3}$")

_CITATION = re.compile(
    r"[ \u00a0]?(?:\^?\[(?:\^?\d{1,3}(?:\s?[,;–-]\s?\^?\d{1,3}){0,10}|\^\w{1,20}|citation needed|source|sources|ref|"
    r"\d{1,3}†[^\]\n]{0,80})\]\^?(?!\()|【[^】\n]{0,100}】|(?<=[\w.,;!?)])[¹²³⁰⁴-⁹]{1,4}(?=[\s.,;!?)]|$))",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"^\s{0,8}(?:[-*•]\s)?\[\^?\w{1,20}\](?::\s?\S|\s?<?https?://)")
_IMAGE = re.compile(r"!\[[^\]\n]{0,300}\]\([^)\n]{0,800}\)")
_CITED_LINK = re.compile(
    r"[ ]?\(\s?\[[^\]\n]{1,200}\]\([^)\s]{1,800}\)(?:[,;]\s?\[[^\]\n]{1,200}\]\([^)\s]{1,800}\)){0,5}\s?\)"
)
_LINK = re.compile(r"\[([^\]\[\n]{1,300})\]\((?:[^()\s]|\([^()\s]{0,100}\)){1,800}(?:\s\"[^\"\n]{0,200}\")?\)")
_STRONG = re.compile(r"(\*{1,3}|(?<!\w)_{1,3}|~~|==|`{1,2})(?=[^\s*_`])([^*`\n]{1,600}?)(?<=[^\s*`])\1(?![\w*])")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|>~&%$\"'])")

_BULLET = re.compile(
    r"^(?:[-*+•–—▪◦●○■□▸►▶➤➢✓✔✅☑➡→⇒·>‣∙|]{1,3}\s+|\[[ xX]\]\s+|#{1,6}\s+|"
    r"\(?\d{1,3}(?:[.):\]]|\\\.)(?=\s|[^\W\d])\s*|\(?[a-zA-Z][.)]\s+|\(?(?:i{1,3}|iv|vi{0,3}|ix)[.)]\s+|"
    r"[\d#*]\ufe0f?\u20e3\s*|[①-⓿❶-➓]\s*)",
)
# A list item or an assignment of a program: a text in quotes, and nothing else.
_QUOTED_CODE = re.compile(r"^(?:[a-zA-Z_][\w.]{0,30}\s?[=(]\s?)?([\"“'].{1,2000}[\"”'])[,;)]{0,3}$")
_INLINE_NUMBER = re.compile(r"(?<=[\w.!?;,]) (?=\(?\d{1,2}[.)] [A-Z\"“*])")
_FENCE = re.compile(r"^\s{0,8}(?:```|~~~)[\w+.-]{0,20}\s*$")
_RULE = re.compile(r"^[\s>]{0,8}(?:(?:-\s?){3,200}|(?:\*\s?){3,200}|(?:_\s?){3,200}|(?:=\s?){3,200}|(?:—\s?){2,100})$")
_SEPARATOR = re.compile(r"^[\s|:+=-]{3,2000}$")
_BOLD_START = re.compile(
    r"^(?P<mark>\*\*\*|\*\*|__|\*|`)(?P<label>[^*_`\n]{1,100}?)(?P=mark)(?P<colon>\s?[:：—–-])?\s*(?=\S|$)"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a completion.

    Args:
        text: without markup and bullets; not empty.
        label: bold words in front, or the key of a JSON or table value; they are not part of ``text``.
        joint: what stood between the label and the text.
        kind: "heading" for a title, "value" for a value of JSON or a table, "item" of a list, "text" for all else.
        is_cut: the completion ends within it.
    """

    text: str
    label: str = ""
    kind: Literal["heading", "value", "item", "text"] = "text"
    is_cut: bool = False
    joint: str = ": "


def plain_lines(completion: str) -> list[Line]:
    """The lines of an answer in order.

    Args:
        completion: without reasoning.
    """
    text = _own_turn(_WRITTEN_BREAK.sub("\n", completion))
    lines = list[Line]()
    for part in split_structured(text):
        found = list(_lines(tidy(_without_html(_without_latex(part.text)))))
        if part.is_value:
            found = [replace(line, label=line.label or part.key.replace("_", " "), kind="value") for line in found]
        if part.is_cut and found:
            found[-1] = replace(found[-1], is_cut=True)
        lines += found
    return lines


def _own_turn(text: str) -> str:
    """The first turn of the model, without special tokens."""
    if text.count("Ġ") > 1 or text.count("▁") > 2:
        # tokens that were joined instead of decoded
        text = text.replace("Ġ", " ").replace("Ċ", "\n").replace("▁", " ")
    start = 0
    for turn in islice(_TURN.finditer(text), _MAX_TURNS):
        own = _TOKEN.sub("", _ASSISTANT.sub("", text[start : turn.start()]))
        if own.strip():
            return own
        # A question that the model repeats is no answer.
        answer = _ASSISTANT.search(text, turn.end())
        start = max(start, answer.end() if answer else turn.end())
    return _TOKEN.sub("", _ASSISTANT.sub("", text[start:]))


def _without_latex(text: str) -> str:
    if "$" in text or "\\" in text:
        text = _MATH.sub(lambda math: math[1] if _IS_MATH.search(math[1]) else math[0], text)
    if "\\" not in text:
        return text
    text = _ENVIRONMENT.sub("\n", text)
    for _ in range(3):
        text = _WRAPPED.sub(r"\1", text)
    text = re.sub(r"\\[dt]?frac\{([^{}]{0,40})\}\{([^{}]{0,40})\}", r"\1/\2", text)
    text = re.sub(r"\^\{?\\circ\}?|\\degree", "°", text)
    text = _COMMAND.sub(lambda command: _COMMANDS.get(command[1], command[0]), text)
    text = re.sub(r"\\[,;:! ]", " ", text)
    return re.sub(r"\\[()\[\]](?!\()", "", text)


def _without_html(text: str) -> str:
    if "&" in text:
        text = html.unescape(text)
    if "<" not in text:
        return text
    for name in _HIDDEN_TAGS:
        text = _without_element(text, f"<{name}", f"</{name}>")
    text = _without_element(text, "<!--", "-->")
    text = _HEADING_TAG.sub("\n# ", _ITEM_TAG.sub("\n- ", _SUPERSCRIPT.sub("", text)))
    return _TAG.sub("\n", _INLINE_TAG.sub("", text))


def _without_element(text: str, opening: str, closing: str) -> str:
    kept, position, lower = list[str](), 0, text.lower()
    while (start := lower.find(opening, position)) >= 0:
        end = lower.find(closing, start)
        if end < 0 or (opening[1].isalpha() and lower[start + len(opening) : start + len(opening) + 1].isalpha()):
            break
        kept.append(text[position:start])
        position = end + len(closing)
    return "".join([*kept, text[position:]])


def _lines(text: str) -> Iterator[Line]:
    rows = [part for row in text.split("\n") for part in _items(row)]
    is_table = False
    for number, row in enumerate(rows):
        following = rows[number + 1] if number + 1 < len(rows) else ""
        if not row.strip() or _FENCE.match(row) or _REFERENCE.match(row):
            is_table = False
            continue
        cells = _cells(row)
        begins = row.lstrip().startswith("|") and row.count("|") > 1
        if cells and (is_table or begins or _is_separator(following) or _is_separator(row)):
            if not is_table and _is_separator(following):
                is_table = True
            elif not _is_separator(row):
                is_table = True
                yield from _row_lines(cells)
            continue
        is_table = False
        if _RULE.match(row):
            continue
        is_title = bool(re.fullmatch(r"\s{0,3}(?:={3,200}|-{3,200})\s*", following)) and row.strip()[-1:] not in ".!?:|"
        line = _line(row.strip(), is_title=is_title)
        if line is not None:
            yield line


def _items(row: str) -> list[str]:
    """A row, or the items of a numbered list that is written in one row."""
    return _INLINE_NUMBER.split(row) if re.match(r"\s{0,4}\(?1[.)]\s", row) and "2" in row else [row]


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")] if "|" in row else []


def _is_separator(row: str) -> bool:
    return "-" in row and "|" in row and _SEPARATOR.match(row) is not None


def _row_lines(cells: list[str]) -> Iterator[Line]:
    """The cells of a row; the first one is the label of the others."""
    plain = [line.text if (line := _line(cell)) else "" for cell in cells]
    label = plain[0] if len(plain) > 1 else ""
    for text in filter(None, plain[1:] or plain):
        yield Line(text, label, "value")
    if label and len(label.split()) > 4:
        yield Line(label, "", "value")


def _line(row: str, *, is_title: bool = False) -> Line | None:
    text, kind, label, joint = row, "text", "", ": "
    for _ in range(4):
        text = _without_symbols(text)
        bullet = _BULLET.match(text)
        if bullet is None:
            break
        kind = "heading" if bullet.group().lstrip().startswith("#") and "\u20e3" not in bullet.group() else "item"
        text = text[bullet.end() :]
    text = text.replace("```", "")
    text = _LINK.sub(r"\1", _IMAGE.sub("", _CITED_LINK.sub("", text)))
    text = _CITATION.sub("", text)
    bold = _BOLD_START.match(text)
    if bold is not None and kind != "heading":
        label, rest = bold["label"].strip(), text[bold.end() :]
        inner = label.endswith((":", "：", ".", "—", "–"))
        if not rest.strip():
            if label.rstrip("\"”’')")[-1:] not in (".", "!", "?", "。"):
                kind = "heading" if kind == "text" and bold["mark"] in ("**", "***", "__") else kind
            label = ""
        elif (inner or bold["colon"]) and label[-1:] != ".":
            dash = (bold["colon"] or "").strip()
            text, label, joint = rest, label.rstrip(":：—– "), f" {dash} " if dash in ("-", "–", "—") else joint
        else:
            label = ""
    text = " ".join(_unmarked(text).split())
    text = re.sub(r"(?<=\w) ([.,;!?])(?=\s|$)", r"\1", _without_symbols(text))
    text = _QUOTED_CODE.sub(r"\1", text.rstrip("_"))
    text = re.sub(r"(?:\s#[^\W\d]\w{1,50}){1,30}$", "", text)
    if not text or re.fullmatch(r"(?:#\w{1,50}\s?){1,30}", text):
        return None
    return Line(text, _unmarked(label), "heading" if is_title else kind, joint=joint)  # type: ignore[arg-type]


def _unmarked(text: str) -> str:
    """Without emphasis, however nested, and what is left of it where it is not closed."""
    for _ in range(3):
        text, count = _STRONG.subn(r"\2", text)
        if not count:
            break
    text = _ESCAPED.sub(r"\1", text.replace("**", "").replace("__", ""))
    return text.strip("`~ ").removeprefix("*").removesuffix("*") if not text.startswith("* ") else text


def _without_symbols(text: str) -> str:
    """Without pictures in front and at the end."""
    start, end = 0, len(text)
    while start < end and _is_picture(text[start]):
        start += 1
    while end > start and _is_picture(text[end - 1]):
        end -= 1
    return text[start:end].strip()


def _is_picture(char: str) -> bool:
    return (
        char in " \u200d\ufe0f\u2764"
        or "\U0001f000" <= char <= "\U0001faff"
        or "\u2600" <= char <= "\u27bf"
        or char in "⭐⬛⬜🟢"
    )
