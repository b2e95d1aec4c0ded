"""The items of the arrays in a large JSON object, one at a time: memory is bounded by one item."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

__all__ = ["array_items"]

_decoder = json.JSONDecoder()

# bytes that are read at a time, and characters of one value
_STEP, _MAX_VALUE = 1 << 18, 1 << 22
_SPACE = " \t\r\n"


def array_items(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The items of the arrays that are values of a JSON object, each with its key, in their order.

    Other values are passed over. What follows the object is not read.

    Args:
        stream: the file.

    Raises:
        ValueError: it is not such an object, is no UTF-8, or has an item of more than four million characters.
    """
    reader = _JsonReader(stream)
    reader.expect("{")
    if reader.next_is("}"):
        return
    while True:
        key = reader.value()
        if not isinstance(key, str):
            raise ValueError("a key must be a string")
        reader.expect(":")
        if not reader.next_is("["):
            reader.value()
        elif not reader.next_is("]"):
            yield key, reader.value()
            while reader.next_is(","):
                yield key, reader.value()
            reader.expect("]")
        if not reader.next_is(","):
            reader.expect("}")
            return


class _JsonReader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._position, self._is_whole = "", 0, False

    def next_is(self, character: str) -> bool:
        """Whether this is the next character, which is passed over then."""
        while True:
            while self._position < len(self._text) and self._text[self._position] in _SPACE:
                self._position += 1
            if self._position < len(self._text):
                break
            if not self._read(_STEP):
                return False
        if self._text[self._position] != character:
            return False
        self._position += 1
        return True

    def expect(self, character: str) -> None:
        """Pass over this character.

        Raises:
            ValueError: another one is next.
        """
        if not self.next_is(character):
            raise ValueError(f"{character!r} is missing")

    def value(self) -> Any:
        """The next value.

        Raises:
            ValueError: there is none, or it is too large.
        """
        self.next_is("\0")  # spaces before it
        step = _STEP
        while True:
            try:
                value, end = _decoder.raw_decode(self._text, self._position)
                # a number may go on in what was not read
                if end - self._position <= _MAX_VALUE and (end < len(self._text) or self._is_whole):
                    self._position = end
                    return value
            except ValueError:
                if self._is_whole:
                    raise
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            if self._is_whole or len(self._text) - self._position > _MAX_VALUE:
                raise ValueError(f"a value has more than {_MAX_VALUE} characters")
            self._read(step)
            step *= 2

    def _read(self, size: int) -> bool:
        """Read on; False at the end of the file."""
        data = self._stream.read(size)
        self._text = self._text[self._position :] + self._decode(data, not data)
        self._position = 0
        self._is_whole = self._is_whole or not data
        return bool(data)
