"""One line of Influx line protocol, read character by character: escapes, quotes, every type, every fault.

Source: the InfluxData "Line protocol" reference. `wire.influx` reads plain lines many at a time and leaves the others to
this module; the two agree on every line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Type = Literal["float64", "int64", "uint64", "bool", "string"]
Value = float | int | bool | str
Tags = tuple[tuple[str, str], ...]

MAX_NAME = 255
MAX_VALUE = 65_535

_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(rb"[+-]?[0-9]+")
_TIME = re.compile(rb"-?[0-9]{1,19}")
TRUE = frozenset({b"t", b"T", b"true", b"True", b"TRUE"})
FALSE = frozenset({b"f", b"F", b"false", b"False", b"FALSE"})
# a run that ends before the first of these that no backslash precedes
_UNTIL_SPACE_OR_COMMA = re.compile(rb"(?:\\.|[^\\ ,]|\\$)*+", re.DOTALL)
_UNTIL_SPACE = re.compile(rb"(?:\\.|[^\\ ]|\\$)*+", re.DOTALL)
_KEY = re.compile(rb"(?:\\.|[^\\ ,=]|\\$)*+", re.DOTALL)
_STRING = re.compile(rb'"((?:\\.|[^\\"])*+)"', re.DOTALL)


class Unterminated(ValueError):
    """A text value without its closing quote: it may go on in the next line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One point: the raw bytes of measurement and tags, (name, type, value) of each field, and the time as written."""

    prefix: bytes
    fields: tuple[tuple[str, Type, Value], ...]
    time: int | None


def read_line(line: bytes) -> Line:
    """Take one line apart; it is not empty and no comment.

    Raises:
        ValueError: what is wrong with it, in words that go on after "line 3 ".
    """
    line = line.lstrip(b" \t")
    found = _UNTIL_SPACE.match(line)
    assert found is not None
    prefix, at = found[0], found.end()
    at = _spaces(line, at)
    if at == len(line):
        raise ValueError("has no fields")
    fields, at = _fields(line, at)
    at = _spaces(line, at)
    stamp = line[at:].rstrip(b" ")
    if stamp and not _TIME.fullmatch(stamp):
        raise ValueError(f"has a time that is no number: {_short(stamp)}")
    read_prefix(prefix)
    return Line(prefix, fields, int(stamp) if stamp else None)


def read_prefix(prefix: bytes) -> tuple[str, Tags]:
    """Measurement, and the tags sorted by key, of the raw bytes before the first space.

    Raises:
        ValueError: as `read_line`.
    """
    found = _UNTIL_SPACE_OR_COMMA.match(prefix)
    assert found is not None
    measurement, at = _name("measurement", _unescape(found[0], b", ")), found.end()
    tags: dict[str, str] = {}
    while at < len(prefix):
        key_at = _KEY.match(prefix, at + 1)
        assert key_at is not None
        if prefix[key_at.end() : key_at.end() + 1] != b"=":
            raise ValueError(f"has a tag without a value: {_short(prefix[at + 1 :])}")
        value_at = _KEY.match(prefix, key_at.end() + 1)
        assert value_at is not None
        at = value_at.end()
        if at < len(prefix) and prefix[at : at + 1] != b",":
            raise ValueError(f"has a tag with a second '=': {_short(prefix[key_at.start() :])}")
        key = _name("tag", _unescape(key_at[0], b",= "))
        value = _text(_unescape(value_at[0], b",= "))
        if not value:
            raise ValueError(f"has the tag {key!r} without a value")
        if "\0" in value:
            raise ValueError(f"has a NUL in the tag {key!r}")
        if len(value) > MAX_VALUE:
            raise ValueError(f"has a value of the tag {key!r} with more than {MAX_VALUE:,} characters")
        if key in tags:
            raise ValueError(f"has the tag {key!r} twice")
        tags[key] = value
    return measurement, tuple(sorted(tags.items()))


def _fields(line: bytes, at: int) -> tuple[tuple[tuple[str, Type, Value], ...], int]:
    fields: dict[str, tuple[str, Type, Value]] = {}
    while True:
        key_at = _KEY.match(line, at)
        assert key_at is not None
        if line[key_at.end() : key_at.end() + 1] != b"=":
            raise ValueError(f"has a field without a value: {_short(line[at:])}")
        name = _name("field", _unescape(key_at[0], b",= "))
        at = key_at.end() + 1
        if line[at : at + 1] == b'"':
            quoted = _STRING.match(line, at)
            if quoted is None:
                raise Unterminated(f"has a text without a closing quote in the field {name!r}")
            fresh: tuple[str, Type, Value] = (name, "string", _text(_unescape(quoted[1], b'"\\')))
            at = quoted.end()
        else:
            value_at = _UNTIL_SPACE_OR_COMMA.match(line, at)
            assert value_at is not None
            fresh = (name, *_scalar(name, value_at[0]))
            at = value_at.end()
        if name in fields:
            raise ValueError(f"has the field {name!r} twice")
        fields[name] = fresh
        follows = line[at : at + 1]
        if follows == b",":
            at += 1
            continue
        if follows not in (b"", b" "):
            raise ValueError(f"goes on after the field {name!r}: {_short(line[at:])}")
        return tuple(fields.values()), at


def _scalar(name: str, text: bytes) -> tuple[Type, Value]:
    if text in TRUE:
        return "bool", True
    if text in FALSE:
        return "bool", False
    last = text[-1:]
    if last in (b"i", b"u") and _INTEGER.fullmatch(text[:-1]):
        # a number of more digits than any 64-bit one is not worth converting
        number = int(text[:-1]) if len(text) < 64 else 2**64
        if last == b"i" and -(2**63) <= number < 2**63:
            return "int64", number
        if last == b"u" and 0 <= number < 2**64:
            return "uint64", number
        raise ValueError(f"has a field {name!r} out of the range of 64 bits: {_short(text)}")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"has a field {name!r} out of the range of a float: {_short(text)}")
        return "float64", value
    raise ValueError(f"has a field {name!r} that is no number, text or truth: {_short(text)}")


def _spaces(line: bytes, at: int) -> int:
    while line[at : at + 1] == b" ":
        at += 1
    return at


def _unescape(text: bytes, special: bytes) -> bytes:
    """Without the backslashes before the special characters; before any other one a backslash is itself."""
    if b"\\" not in text:
        return text
    return re.sub(rb"\\([" + re.escape(special) + rb"])", rb"\1", text)


def _name(what: str, text: bytes) -> str:
    name = _text(text)
    if not name or len(name) > MAX_NAME or "\0" in name or name == "__name__":
        raise ValueError(f"has a {what} that cannot be called {_short(text)}")
    return name


def _text(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ValueError(f"is not UTF-8: {_short(text)}") from None


def _short(text: bytes) -> str:
    shown = text.decode("utf-8", "replace")
    return repr(shown if len(shown) <= 80 else shown[:77] + "...")
