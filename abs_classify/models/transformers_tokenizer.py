"""The tokenizer beside a transformers model, by the package ``tokenizers`` alone: no code of a folder runs.

It gives the ids that transformers' own tokenizer gives with ``padding="max_length"`` and ``truncation=True``.
"""

from __future__ import annotations

import os
import re
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abs_classify.models.tokenizer_files import check_tokenizer, check_tokenizer_options
from abs_classify.models.transformers_configs import TransformersShape
from abs_classify.models.weights import read_json
from abs_core.errors import ModelError, WeightsError
from abs_core.extras import require
from abs_core.text import quoted

__all__ = ["AbsentTokenizer", "FolderTokenizer", "load_tokenizer", "tokenizer_remarks"]

_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# as many texts as are in memory as token objects at once
_TEXTS_AT_ONCE = 1000


class FolderTokenizer:
    """Texts to ids, cut and filled up to the context length.

    Args:
        tokenizer: of the package ``tokenizers``; neither cuts nor fills up.
        context_length: tokens of a text, special ones included.
        vocab_size: of the model; larger ids are an error.
        pad_id: the token that texts are filled up with.
        clean: applied to a text first.
        name: names the tokenizer in errors.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        context_length: int,
        vocab_size: int,
        pad_id: int,
        clean: Callable[[str], str] | None,
        name: str,
    ) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.context_length = context_length
        self._tokenizer, self._vocab_size, self._pad_id, self._name = tokenizer, vocab_size, pad_id, name
        self._clean = clean or str
        self._special = int(tokenizer.num_special_tokens_to_add(False))
        if self._special >= context_length:
            raise ModelError(
                f"the tokenizer {name!r} adds {self._special} special tokens, and a text may have {context_length}",
                remedy="Use the tokenizer that was published with the model",
            )

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """n texts to int64 [n, context_length].

        Raises:
            ModelError: a token that the model does not have.
        """
        rows: list[list[int]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = [self._clean(text) for text in texts[start : start + _TEXTS_AT_ONCE]]
            with self._one_line():
                encodings = self._tokenizer.encode_batch(part, add_special_tokens=False)
                rows += [self._cut(encoding) for encoding in encodings]
        ids = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.context_length)
        if len(ids) and int(ids.max()) >= self._vocab_size:
            row, column = (ids >= self._vocab_size).nonzero()[0].tolist()
            raise ModelError(
                f"the tokenizer {self._name!r} gives the text {quoted(texts[row])} the token {int(ids[row, column])}, "
                f"and the model has {self._vocab_size} tokens",
                remedy="Use the tokenizer that was published with the model",
            )
        return ids

    def _cut(self, encoding: Any) -> list[int]:
        encoding.truncate(self.context_length - self._special)
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        return ids + [self._pad_id] * (self.context_length - len(ids))

    def count(self, text: str) -> int:
        """How many tokens the whole text has before any cutting, special tokens included."""
        with self._one_line():
            return len(self._tokenizer.encode(self._clean(text)).ids)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # a panic of its Rust code is no Exception
            if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
                raise
            raise ModelError(
                f"the tokenizer {self._name!r} fails: {_first_line(error)}",
                remedy="Use the tokenizer that was published with the model",
            ) from error


class AbsentTokenizer:
    """In the place of a tokenizer that is not there: images can be encoded, texts cannot.

    Args:
        folder: where it should be.
        context_length: tokens of a text.
    """

    def __init__(self, folder: Path, context_length: int) -> None:
        self.context_length = context_length
        self._folder = folder

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """No ids; only no texts have some.

        Raises:
            WeightsError: says which files are missing.
        """
        if not texts:
            return torch.zeros(0, self.context_length, dtype=torch.int64)
        raise WeightsError(
            f"there is no tokenizer.json in {str(self._folder)!r}, so no text can be encoded",
            remedy="Copy the tokenizer's files there; one with a spiece.model alone is converted by loading it with "
            "transformers' AutoTokenizer and saving it with save_pretrained",
        )

    def count(self, text: str) -> int:
        """Never returns, like the call."""
        return len(self([text]))


def tokenizer_remarks(tokenizer: Callable[[list[str]], Tensor], shape: TransformersShape) -> tuple[str, ...]:
    """What is odd about the tokenizer of a model, for people."""
    if shape.kind != "clip" or not isinstance(tokenizer, FolderTokenizer):
        return ()
    text = "a photo"
    ids, last = tokenizer([text])[0], tokenizer.count(text) - 1
    end = ids.argmax() if shape.eos_id is None else (ids == shape.eos_id).int().argmax()
    if int(end) == last:
        return ()
    wanted = "the largest token" if shape.eos_id is None else f"token {shape.eos_id}"
    return (f"the tokenizer ends no text with {wanted}, whose feature the model takes for the text's",)


def load_tokenizer(folder: Path, shape: TransformersShape) -> FolderTokenizer | AbsentTokenizer | None:
    """The tokenizer beside a transformers model.

    Args:
        folder: of the model.
        shape: of the model.

    Returns:
        What refuses every text where there is none; None where the model has OpenAI's vocabulary, which open_clip's own
        tokenizer has too.

    Raises:
        WeightsError: its files are damaged or could take for ever.
        ModelError: it cannot be this model's.
        MissingExtraError: the package ``tokenizers`` is not installed.
    """
    check_tokenizer_options(folder)
    if (folder / "tokenizer.json").is_file():
        path, tokenizer = folder / "tokenizer.json", _read(folder / "tokenizer.json")
    elif shape.kind == "clip" and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        path, tokenizer = folder / "vocab.json", _build_byte_pairs(folder)
    elif shape.has_openai_vocabulary:
        return None
    else:
        return AbsentTokenizer(folder, shape.context_length)
    return FolderTokenizer(
        tokenizer,
        context_length=shape.context_length,
        vocab_size=shape.vocab_size,
        pad_id=_pad_id(folder, tokenizer, shape),
        clean=_cleaning(folder, shape),
        name=str(path),
    )


def _read(path: Path) -> Any:
    tokenizers = require("tokenizers", extra="embedded", purpose="to read the tokenizer of a transformers model")
    check_tokenizer(path)

    def build() -> Any:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        # some faults show at the first text
        tokenizer.encode("a photo of a dog")
        return tokenizer

    return _guarded(path, build)


@contextmanager
def _silent_errors() -> Iterator[None]:
    """Inside the block nothing reaches stderr: a panic of Rust code prints its stack before anyone can catch it."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _guarded(path: Path, build: Callable[[], Any]) -> Any:
    try:
        with _silent_errors():
            return build()
    except BaseException as error:  # a panic of its Rust code is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        raise WeightsError(
            f"{str(path)!r} is not a readable tokenizer: {_first_line(error)}", remedy="Fetch the file again"
        ) from error


def _first_line(error: BaseException) -> str:
    return quoted((str(error).strip().splitlines() or [type(error).__name__])[0], 160)


def _build_byte_pairs(folder: Path) -> Any:
    """CLIP's tokenizer from its vocabulary and merges, as transformers builds it."""
    tokenizers = require("tokenizers", extra="embedded", purpose="to read the tokenizer of a transformers model")
    from tokenizers import models, normalizers, pre_tokenizers, processors

    start, end = "<|startoftext|>", "<|endoftext|>"

    def build() -> Any:
        model = models.BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token=end,
        )
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        words = pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), behavior="removed", invert=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        ids = {token: tokenizer.token_to_id(token) for token in (start, end)}
        if None in ids.values():
            raise ValueError(f"the vocabulary lacks {start} or {end}")
        tokenizer.add_special_tokens([start, end])
        tokenizer.post_processor = processors.RobertaProcessing((end, ids[end]), (start, ids[start]), False, False)
        return tokenizer

    return _guarded(folder / "vocab.json", build)


def _pad_id(folder: Path, tokenizer: Any, shape: TransformersShape) -> int:
    """The padding token of the tokenizer's files; nothing depends on CLIP's, which follows the end of a text."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        token = read_json(path).get("pad_token") if path.is_file() else None
        content = token.get("content") if isinstance(token, dict) else token
        number = tokenizer.token_to_id(content) if isinstance(content, str) else None
        if number is not None:
            return int(number)
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    return 0 if shape.pad_id is None else shape.pad_id


def _cleaning(folder: Path, shape: TransformersShape) -> Callable[[str], str] | None:
    """What transformers' Python class for SigLIP does to a text; other classes leave all to ``tokenizer.json``."""
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    if shape.kind != "siglip" or config.get("tokenizer_class") != "SiglipTokenizer":
        return None
    lower = config.get("do_lower_case", True) is not False
    return lambda text: _canonical(text.lower() if lower else text)


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _canonical(text: str) -> str:
    return re.sub(r"\s+", " ", text.translate(_NO_PUNCTUATION)).strip()
