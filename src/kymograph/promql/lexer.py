"""Text of a query to tokens: names, numbers, durations, strings and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from kymograph.errors import QueryError

_UNITS = {"ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
_UNITS |= {"d": 86_400 * 10**6, "w": 7 * 86_400 * 10**6, "y": 365 * 86_400 * 10**6}
_SCALES = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SCALES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

_TOKEN = re.compile(
    r"""(?P<space>(?:\s+|\#[^\n]*)+)
    |(?P<duration>(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdwy]))+(?![0-9A-Za-z_.]))
    |(?P<number>(?:0[xX][0-9a-fA-F_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)
        (?P<scale>[KMGT]i?)?(?![0-9A-Za-z_.]))
    |(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<sign>==|!=|<=|>=|=~|!~|[-+*/%^<>=(){}\[\],:@])""",
    re.VERBOSE | re.DOTALL,
)
_OCTAL = re.compile(r"0[0-7_]+")
# by the quote around them: the other one is not escaped
_ESCAPES = {
    quote: re.compile(
        r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtv\\" + quote + r"]))|\\"
    )
    for quote in "'\""
}
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}

TokenKind = Literal["name", "number", "duration", "string", "sign", "end"]


class ParseError(QueryError):
    """The query cannot be parsed, or its types do not fit. Raised before anything is read.

    Attributes:
        position: characters from the start of the query.
    """

    def __init__(self, message: str, text: str, position: int) -> None:
        super().__init__(f"{place(text, position)}: parse error: {message}")
        self.position = position


def place(text: str, position: int) -> str:
    """`line:column` of a position, both from 1; columns are bytes, as to Prometheus."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return f"{text.count(chr(10), 0, position) + 1}:{len(line.encode('utf-8', 'surrogatepass')) + 1}"


@dataclass(frozen=True, slots=True)
class Token:
    """Attributes: text is the unescaped value of a string; value is the number, or the µs of a duration."""

    kind: TokenKind
    text: str
    position: int
    value: float = 0.0


def tokens(text: str) -> list[Token]:
    """All tokens, the last of kind "end".

    Raises:
        ParseError: a character, number or string that is none.
    """
    found: list[Token] = []
    at = brackets = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if brackets and text[at] == ":":  # in [5m:1m] it is no part of a name
            found.append(Token("sign", ":", at))
            at += 1
            continue
        if match is None:
            raise ParseError(_problem(text, at), text, at)
        if match.lastgroup != "space":
            found.append(_token(match, text, at))
            if match.group() in "[]":
                brackets = max(0, brackets + (1 if match.group() == "[" else -1))
        at = match.end()
    found.append(Token("end", "", len(text)))
    return found


def _problem(text: str, at: int) -> str:
    if text[at] in "\"'`":
        return "unterminated quoted string" if text[at] != "`" else "unterminated raw string"
    if text[at] == "!":
        return f"unexpected character after '!': {text[at + 1]!r}" if at + 1 < len(text) else "unexpected end of input"
    if text[at].isdigit() or text[at] == ".":
        word = re.match(r"[0-9A-Za-z_.]+", text[at:])
        return f'bad number or duration syntax: "{word.group() if word else text[at]}"'
    return f"unexpected character: {text[at]!r}"


def _token(match: re.Match[str], text: str, at: int) -> Token:
    raw = match.group()
    if match["duration"] is not None:
        return Token("duration", raw, at, _duration(raw, text, at))
    if match["number"] is not None:
        return Token("number", raw, at, _number(raw, match["scale"] or "", text, at))
    if match["string"] is not None:
        return Token("string", _unquoted(raw, text, at), at)
    if match["name"] is not None:
        return Token("name", raw, at)
    return Token("sign", raw, at)


def _duration(raw: str, text: str, at: int) -> float:
    parts = re.findall(r"([0-9]+)(?:\.([0-9]+))?(ms|[smhdwy])", raw)
    units = [unit for *_, unit in parts]
    if units != [unit for unit in reversed(_UNITS) if unit in units]:
        raise ParseError(f'not a valid duration string: "{raw}"', text, at)
    micros = 0
    for whole, part, unit in parts:
        micros += int(whole) * _UNITS[unit] + int(part or 0) * _UNITS[unit] // 10 ** len(part)
    if micros >= 2**62:
        raise ParseError("duration out of range", text, at)
    return micros


def _number(raw: str, scale: str, text: str, at: int) -> float:
    digits = raw.removesuffix(scale)
    try:
        # as Go reads integers: 0x1F is hexadecimal and 017 octal, but 0.17 and 09 are what they look like
        base = 16 if digits[:2] in ("0x", "0X") else 8 if _OCTAL.fullmatch(digits) else 0
        number = float(int(digits, base)) if base else float(digits)
    except (ValueError, OverflowError):
        raise ParseError(f'bad number or duration syntax: "{raw}"', text, at) from None
    return number * _SCALES.get(scale, 1)


def _escape_problem(match: re.Match[str]) -> str:
    after = match.string[match.end() : match.end() + 1].encode("latin-1").decode("utf-8", "replace")
    if match.group() != "\\" or not after or after in "xuU01234567":
        return "escape sequence is an invalid Unicode code point" if after in "uU" else "illegal escape sequence"
    return f"unknown escape sequence U+{ord(after):04X} '{after}'"


def _unquoted(raw: str, text: str, at: int) -> str:
    if raw[0] == "`":
        return raw[1:-1]
    if "\\" not in raw:
        return raw[1:-1]

    def byte(match: re.Match[str]) -> str:
        hexadecimal, octal, short, long, simple = match.groups()
        if simple:
            return chr(_SIMPLE[simple])
        if short or long:
            code = int(short or long, 16)
            if code < 0x110000 and not 0xD800 <= code < 0xE000:
                return chr(code).encode().decode("latin-1")
        elif hexadecimal or (octal and int(octal, 8) < 256):
            return chr(int(hexadecimal, 16) if hexadecimal else int(octal, 8))
        raise ParseError(_escape_problem(match), text, at)

    # as bytes one by one, for \xc3\xa9 is é; what is no UTF-8 stays visible as lone surrogates
    plain = raw[1:-1].encode().decode("latin-1")
    return _ESCAPES[raw[0]].sub(byte, plain).encode("latin-1").decode("utf-8", "surrogateescape")
