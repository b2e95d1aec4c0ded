"""Class names that are no words: what folders, tables and exports call classes, translated or counted. Pure.

A class name is a prompt: a model is asked for "a photo of a n02123045" as readily as for "a photo of a tabby cat", and
gives no sign that it means nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from abs_core.label_set import ClassLabel, fold, wordnet_class
from abs_core.remarks import MAX_EXAMPLES, Remark
from abs_core.text import JOINERS, valid_unicode

__all__ = [
    "PREFERRED_SPLITS",
    "is_not_a_class",
    "is_split",
    "is_system_folder",
    "name_remarks",
    "split_key",
    "split_keys",
    "translated_names",
]

_SPLITS = {
    "train": ("train", "training", "trainval"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation", "holdout"),
    "test": ("test", "testing"),
    "pred": ("pred", "prediction", "predictions", "unlabeled", "unlabelled"),
}
#: What ``split_key`` gives, that which an evaluation wants last.
PREFERRED_SPLITS = ("pred", "train", "validation", "test")
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_FILLERS = frozenset({"image", "images", "img", "imgs", "set", "data", "dataset", "seg", "split", "folder"})
_NOT_CLASSES = frozenset(
    {"annotation", "annotations", "annots", "bbox", "bboxes", "images", "imgs", "jpegimages", "labels"}
    | {"labeltxt", "masks", "trimaps", "segmentations", "groundtruth", "imagesets", "metadata", "docs"}
    | {"segmentationclass", "segmentationobject"}
    | {"devkit", "checkpoints"}
)
_SYSTEM = frozenset(
    {"@eadir", "macosx", "lost+found", "$recycle.bin", "system_volume_information", "recycler", "#recycle"}
    | {"@recycle", "@__thumb", "@sharebin", "@recently-snapshot", "#snapshot", "found.000", "pycache"}
    | {"thumbs.db", "desktop.ini", "network_trash_folder", "temporary_items"}
)
# what is longer is no name, and some of the patterns below would take long
_MAX_MATCHED = 200


def split_key(name: str) -> str:
    """Which split a folder's name stands for: ``train``, ``validation``, ``test``, ``pred``; empty if for none.

    ``Training_set``, ``val2017`` and ``seg_test`` are splits, ``train station`` is none.
    """
    words = _words(name)
    splits = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    return splits.pop() if len(splits) == 1 and all(word in _SPLIT_OF or word in _FILLERS for word in words) else ""


def split_keys(names: Sequence[str]) -> dict[str, str]:
    """Which split each of the folders that lie side by side stands for, for those that stand for one.

    A word that all of them have may name the data set: ``asl_alphabet_train`` beside ``asl_alphabet_test``,
    ``cars_train`` beside ``cars_test``. Alone, such a name may be that of a class (``toy_train``).
    """
    found = {name: key for name in names if (key := split_key(name))}
    words = {name: _words(name) for name in names if name not in found}
    if len(words) > 1:
        common = set.intersection(*map(set, words.values())) - set(_SPLIT_OF)
        rest = {name: split_key(" ".join(word for word in text if word not in common)) for name, text in words.items()}
        if common and all(rest.values()) and len(set(rest.values())) > 1:
            found |= rest
    return found


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", name.casefold()) if word]


def is_split(name: str) -> bool:
    """Whether a folder's name is that of a split."""
    return bool(split_key(name))


def is_not_a_class(name: str) -> bool:
    """Whether a folder's name is that of something that lies beside the classes, such as ``annotations``."""
    return name.casefold() in _NOT_CLASSES


def is_system_folder(name: str) -> bool:
    """Whether a folder is one that operating systems and storage devices put into a user's folders."""
    return fold(name).replace(" ", "_").strip("_") in _SYSTEM or name.casefold().startswith(".trash")


def translated_names(classes: Sequence[ClassLabel]) -> tuple[tuple[ClassLabel, ...], tuple[Remark, ...]]:
    """The classes with names that are words where the names say which, and what was translated and what was not.

    WordNet ids become the names of ImageNet (``n02123045``), also before a name (``n02085620-Chihuahua``); running
    numbers before names are left out (``001.Black_footed_Albatross``). Ids stay as they are.

    Args:
        classes: whose names come from folders or tables.
    """
    known = tuple(map(_wordnet_name, classes))
    result = _without_running_numbers(known)
    remarks = (
        _remark(_changed(classes, known), "WordNet id is read as a name", "WordNet ids are read as names", ""),
        _remark(_changed(known, result), "class name is", "class names are", " used without running numbers"),
    )
    return result, (*filter(None, remarks), *name_remarks(result))


def _changed(before: Sequence[ClassLabel], after: Sequence[ClassLabel]) -> list[str]:
    return [f"{old.name}: {new.name}" for old, new in zip(before, after, strict=True) if old.name != new.name]


_WORDNET = re.compile(r"([nvar]\d{8})(?:[\s_.-]+(.*\w.*))?", re.IGNORECASE | re.DOTALL)


def _wordnet_name(label: ClassLabel) -> ClassLabel:
    match = _WORDNET.fullmatch(label.name[:_MAX_MATCHED])
    if match is None:
        return label
    if match[2]:
        return replace(label, name=match[2].replace("_", " ").strip(), aliases=(*label.aliases, match[1]))
    known = wordnet_class(match[1])
    if known is None:
        return label
    return replace(label, name=known.name, note=label.note or known.note, aliases=(*label.aliases, *known.aliases))


_NUMBERED = re.compile(r"(\d+)(?:[._-]\s*|\s+)([^\W\d].*)", re.DOTALL)


def _without_running_numbers(classes: tuple[ClassLabel, ...]) -> tuple[ClassLabel, ...]:
    """``001.Bobolink``, ``002.Crow``: only if all names are so, with different numbers and different words."""
    matches = [match for label in classes if (match := _NUMBERED.fullmatch(label.name[:_MAX_MATCHED]))]
    numbers = [match[1] for match in matches]
    names = [match[2].replace("_", " ").strip() for match in matches]
    padded = len(set(map(len, numbers))) == 1 and len(numbers[0]) > 1
    running = sorted(map(int, numbers)) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    if (
        len(matches) < max(2, len(classes))
        or not (padded or (running and len(numbers) > 2))
        or min(len(set(map(int, numbers))), len(set(map(fold, names)))) < len(classes)
    ):
        return classes
    return tuple(replace(label, name=name) for label, name in zip(classes, names, strict=True))


_MISSING = frozenset({"nan", "none", "null", "nil", "na", "n/a", "<na>", "nat", "undefined", "missing", "#n/a"})
_REST = frozenset(
    {"other", "others", "unknown", "misc", "miscellaneous", "background", "background google", "clutter", "rest"}
    | {"unclassified", "unsorted", "uncategorized", "unlabeled", "unlabelled", "no class", "no label", "not sure"}
)
_EXTENSIONS = frozenset(
    {"jpg", "jpeg", "png", "gif", "bmp", "tif", "tiff", "webp", "heic", "avif", "db", "ini", "txt", "csv"}
    | {"tsv", "xls", "xlsx", "json", "jsonl", "xml", "yml", "yaml", "zip", "tar", "gz", "tgz", "rar", "7z"}
    | {"py", "ipynb", "md", "html", "parquet", "npy", "npz", "pt", "pth", "pkl", "mat", "h5", "mp4", "pdf"}
)
_CODE = re.compile(
    r"(?=.*\d)(?=.*[a-f])[0-9a-f]{8,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|q\d{2,}|/?m[/._]0\w+"
    r"|(?:class|label|category|cls|synset|target|id|folder|group)[\s_.-]*\d+",
    re.IGNORECASE,
)
_ESCAPED = re.compile(
    r"%[0-9a-f]{2}|&(?:#\d+|#x[0-9a-f]+|[a-z]{2,8});|\\[ux][0-9a-f]{2}|\ufffd|Ã[\x80-\xbf]|â€"
    r"|<[a-z/][^<>]*>|^([\"']).*\1$",
    re.IGNORECASE,
)
# what cameras call their folders (DCF): 100CANON, 101MEDIA, 102_PANA
_CAMERA = re.compile(r"[1-9][0-9]{2}[A-Z0-9_ ]{5}")
_COPY = re.compile(
    r".+[\s_]-[\s_]copy(?:[\s_]\(\d+\))?|.+[\s_]copy(?:[\s_]\d+)?|.+[\s_]\(\d+\)|(?:new|untitled)[\s_]folder.*",
    re.IGNORECASE,
)


def _is_hidden(name: str) -> bool:
    return any(unicodedata.category(char) in ("Cc", "Cf", "Co", "Zl", "Zp") and char not in JOINERS for char in name)


def _mixes_alphabets(name: str) -> bool:
    """A letter that only looks like one of another alphabet makes another word."""
    return {"LATIN", "CYRILLIC"} <= {unicodedata.name(char, "").partition(" ")[0] for char in name if char.isalpha()}


_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)

#: What a name is taken for: the first that fits, with what is said of one name and of several.
_KINDS: tuple[tuple[Callable[[str], object], str, str], ...] = (
    (_NUMBER.fullmatch, "is a number", "are numbers"),
    (_WORDNET.fullmatch, "is a WordNet id that ImageNet lacks", "are WordNet ids that ImageNet lacks"),
    (lambda name: fold(name) in _MISSING, "is a missing value", "are missing values"),
    (lambda name: not any(map(str.isalpha, name)), "has no letter", "have no letter"),
    (lambda name: len(name) == 1 and unicodedata.name(name, "").startswith("LATIN"), "is one letter", "are one letter"),
    (_is_hidden, "has hidden characters", "have hidden characters"),
    (_mixes_alphabets, "mixes Latin and Cyrillic letters", "mix Latin and Cyrillic letters"),
    (_ESCAPED.search, "has escaped or garbled characters", "have escaped or garbled characters"),
    (re.compile("[|;]").search, "holds several labels", "hold several labels"),
    (is_system_folder, "is a system folder", "are system folders"),
    (
        lambda name: "." in name[1:] and name.rpartition(".")[2].casefold() in _EXTENSIONS,
        "is the name of a file",
        "are names of files",
    ),
    (lambda name: fold(name) in _REST, "stands for the rest", "stand for the rest"),
    (is_not_a_class, "is not a class but goes with a data set", "are not classes but go with a data set"),
    (lambda name: fold(name) in {"yes", "no", "true", "false"}, "is an answer", "are answers"),
    (_CODE.fullmatch, "is a code", "are codes"),
    (_CAMERA.fullmatch, "is that of a camera's folder", "are those of a camera's folders"),
    (_COPY.fullmatch, "is that of a copied or new folder", "are those of copied or new folders"),
)
#: The same for what single names may be and most names of a data set are not.
_MOSTLY: tuple[tuple[Callable[[str], object], str], ...] = (
    (is_split, "are names of splits"),
    (re.compile(r"[a-z]{1,2}[\s_-]?\d+", re.IGNORECASE).fullmatch, "are codes"),
    (re.compile(r"(?!.*\s).*[a-z][A-Z]").match, "run words together"),
    (re.compile(r"\d+[\s._-]+[^\W\d]").match, "begin with numbers"),
    (re.compile(r".*_|\w+(?:[.+]\w+)+$").match, "have other characters for spaces"),
)
_WORDS_ONLY = "; a model knows words only"


def name_remarks(classes: Iterable[ClassLabel]) -> tuple[Remark, ...]:
    """What is said of class names that are no words, or nearly those of another class.

    Args:
        classes: of a data set or a label set.
    """
    labels = list(classes)
    kinds: dict[tuple[str, str], list[str]] = {}
    plain: list[str] = []
    for name in (label.name[:_MAX_MATCHED] for label in labels):
        for matches, singular, plural in _KINDS:
            if matches(name):
                kinds.setdefault((singular, plural), []).append(name)
                break
        else:
            plain.append(name)
    labels_within = _labels_within(plain)
    if labels_within:
        kinds.setdefault(("holds several labels", "hold several labels"), []).extend(labels_within)
    remarks = [
        _remark(names, f"class name {singular}", f"class names {plural}", _WORDS_ONLY)
        for (singular, plural), names in kinds.items()
    ]
    for matches, plural in _MOSTLY:
        names = [name for name in plain if matches(name)]
        if len(names) > 1 and 2 * len(names) >= len(labels):
            remarks.append(_remark(names, "", f"class names {plural}", _WORDS_ONLY))
    remarks.append(
        _remark(_near_pairs(labels), "pair of classes has", "pairs of classes have", " nearly the same name")
    )
    return tuple(filter(None, remarks))


def _labels_within(names: Sequence[str]) -> list[str]:
    """Names that list others: ``cat,dog`` where there is a class ``cat``."""
    known = {fold(name) for name in names}
    return [name for name in names if "," in name and any(fold(part.strip()) in known for part in name.split(","))]


def _near_pairs(labels: Sequence[ClassLabel]) -> list[str]:
    """Classes whose names differ in case, spaces, hyphens, accents or a plural, and that no notes tell apart."""
    first: dict[str, ClassLabel] = {}
    pairs = []
    for label in labels:
        other = first.setdefault(_near_key(label.name), label)
        if other is not label and not (label.note and other.note and label.note != other.note):
            pairs.append(f"{other.name!r} and {label.name!r}")
    return pairs


_LATIN_MARKS = re.compile("[\u0300-\u036f]")


def _near_key(name: str) -> str:
    visible = "".join(char for char in name if unicodedata.category(char) not in ("Cc", "Cf"))
    key = _LATIN_MARKS.sub("", unicodedata.normalize("NFKD", re.sub(r"[\s_-]+", "", fold(visible))))
    return key[:-1] if len(key) > 3 and key.endswith("s") and not key.endswith("ss") else key


def _remark(examples: Sequence[str], singular: str, plural: str, consequence: str) -> Remark | None:
    """A remark on the examples; None if there are none."""
    if not examples:
        return None
    kind = f"{singular if len(examples) == 1 else plural}{consequence}"
    return Remark(kind, len(examples), tuple(map(valid_unicode, examples[:MAX_EXAMPLES])))
