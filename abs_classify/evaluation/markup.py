"""Text from outside in Markdown, LaTeX and CSV: it shows as it is, and is never read as markup or as a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from abs_core.text import printable, visible_cell

__all__ = ["csv_text", "latex_cell", "latex_preamble", "latex_table", "markdown_cell", "markdown_table"]

# characters of a cell of Markdown, where each may take six
_CELL = 120

# what stays as it is in Markdown, whatever surrounds it
_PLAIN = re.compile(
    r"(?:[^\W_]|[ ,.'();+=?±-]|:(?= )|%(?=[ \]),;.]|$)|(?<=[^\W_])[_/](?=[^\W_])|(?<![^ ])~(?![^ ])|<(?=\d)"
    r"|\[(?=[+-]?\d)|(?<=[\d%])\](?= |$))*"
)
_WWW = re.compile(r"www\.", re.IGNORECASE)

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # \textquotedbl is not in LaTeX's default encoding
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    "…": r"\ldots{}",
    "−": "$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


# what pdfLaTeX sets with the encoding T1, as tried with pdfTeX
_PDFLATEX = re.compile(r"(?:[\x00-\u017f–—‘’“”‑€™•†‡](?<![ĦħĸĿŀŉŦŧſ]))*")


def markdown_cell(text: str, limit: int = _CELL) -> str:
    """Text that shows in Markdown as it is, also in a table: unusual words as code, by character references."""
    shown = printable(text, limit)
    if _is_plain(shown):
        return shown
    # a word is judged with the space that follows it
    parts = groupby(shown.split(" "), key=lambda word: _is_plain(f"{word} "))
    return " ".join(" ".join(words) if plain else _code(" ".join(words)) for plain, words in parts)


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text)) and not _WWW.search(text)


def _code(text: str) -> str:
    return f"<code>{''.join(map(_reference, text))}</code>"


def _reference(char: str) -> str:
    return f"&#{ord(char)};" if char.isascii() and not (char.isalnum() or char in " ,'()") else char


def markdown_table(header: Sequence[str], body: Iterable[Sequence[str]], names: int) -> list[str]:
    """Lines of a table, escaped: the first ``names`` columns to the left, numbers to the right."""
    rule = "|" + "|".join(":--" if place < names else "--:" for place in range(len(header))) + "|"
    header_row, *rows = (f"| {' | '.join(map(markdown_cell, line))} |" for line in [header, *body])
    return [header_row, rule, *rows]


def latex_cell(text: str) -> str:
    """Text that LaTeX sets as it is; a number below zero gets a true minus sign."""
    shown = re.sub(r"(?<![\w.-])-(?=\d)", "\x00", printable(text))
    shown = "".join("$-$" if char == "\x00" else _LATEX.get(char, char) for char in shown)
    shown = re.sub("-(?=-)|'(?=')", r"\g<0>{}", shown)
    # the end of a row would take a bracket behind it for its option
    return f"{{}}{shown}" if shown.startswith(("[", "*")) else shown


def latex_preamble(text: str) -> list[str]:
    """What a document needs for an escaped text, as comments: packages, and for other scripts another engine."""
    lines = [r"% \usepackage{booktabs}"]
    if not text.isascii():
        lines.append(r"% \usepackage[T1]{fontenc}")
    if not _PDFLATEX.fullmatch(text):
        lines.append("% pdfLaTeX lacks characters of these names: use XeLaTeX or LuaLaTeX, with a font for them")
    return lines


def latex_table(
    header: Sequence[str],
    body: Iterable[Sequence[str]],
    names: int,
    caption: Sequence[str],
    label: str,
    rules: Iterable[int] = (),
) -> list[str]:
    """Lines of a ``table`` with the rules of booktabs, escaped.

    Args:
        header, body, names: as in ``markdown_table``.
        caption: what becomes its sentences.
        label: of the table.
        rules: numbers of rows that get a rule above.
    """
    lines = [" & ".join(map(latex_cell, line)).rstrip() + r" \\" for line in body]
    for place in sorted(rules, reverse=True):
        lines.insert(place, r"\midrule")
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_cell('. '.join(map(_sentence, caption)))}.}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{'l' * names}{'r' * (len(header) - names)}}}",
        r"\toprule",
        " & ".join(latex_cell(name.strip()) for name in header) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _sentence(note: str) -> str:
    """With a capital, unless it begins with a symbol such as p."""
    return note[:1].upper() + note[1:] if note[1:2].isalpha() else note


def csv_text(header: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """Rows under a header, with numbers as they are; no spreadsheet runs a text, and hidden characters are escapes."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in [header, *body]:
        writer.writerow([visible_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return stream.getvalue()
