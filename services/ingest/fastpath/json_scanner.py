"""Where JSON values end in bytes, strictly: what is not JSON, or what may not go on as it is written, ends nowhere.

That is what a store might not take (NUL, halves of surrogate pairs, numbers that decoders read differently), and the name of a
link's token, however its letters are written: whoever cuts tokens has to look at it.

Written for mypyc: with native integers, without closures. Bytes have a NUL behind them, so no look goes beyond the end.
"""

from typing import Final

from mypy_extensions import i64

NOWHERE: Final = -1
LONGEST_NUMBER: Final = 17
"""Characters of a number that every decoder reads alike."""
_TAB: Final = 9
_NEWLINE: Final = 10
_RETURN: Final = 13
_SPACE: Final = 32
_QUOTE: Final = 34
_COMMA: Final = 44
_MINUS: Final = 45
_POINT: Final = 46
_ZERO: Final = 48
_NINE: Final = 57
_COLON: Final = 58
_P: Final = 112
_G: Final = 103
_T: Final = 116
"""The name of a link's token (libs.common.link_tokens.PARAMETER), letter by letter."""
_U: Final = 117
_BRACKET: Final = 91
_BACKSLASH: Final = 92
_END_BRACKET: Final = 93
_BRACE: Final = 123
_END_BRACE: Final = 125


class MemberHandler:
    """Who is told of an object's members."""

    def member(self, data: bytes, name: i64, name_end: i64, value: i64, end: i64) -> bool:
        """Take a member: where its name, without quotes, and its value stand. Return whether to go on."""
        raise NotImplementedError


def after_space(data: bytes, at: i64) -> i64:
    """Return where the next character stands that is no space."""
    while True:
        c: i64 = data[at]
        if c != _SPACE and c != _NEWLINE and c != _RETURN and c != _TAB:  # noqa: PLR1714
            return at
        at += 1


def value_end(data: bytes, at: i64, levels: i64) -> i64:
    """Return where the value ends that begins at a place and has at most so many levels, or NOWHERE."""
    c: i64 = data[at]
    if c == _QUOTE:
        return string_end(data, at)
    if c == _MINUS or _ZERO <= c <= _NINE:
        return _number_end(data, at)
    if c == _BRACE:
        return object_end(data, at, levels, None)
    if c == _BRACKET:
        return _array_end(data, at, levels)
    for word in (b"null", b"true", b"false"):
        if data.startswith(word, at):
            return at + len(word)
    return NOWHERE


def object_end(data: bytes, at: i64, levels: i64, members: MemberHandler | None) -> i64:
    """Return where the object ends that begins at a place, or NOWHERE, also where `members` do not go on."""
    if levels == 0 or data[at] != _BRACE:
        return NOWHERE
    at = after_space(data, at + 1)
    if data[at] == _END_BRACE:
        return at + 1
    while True:
        name_end = string_end(data, at)
        if name_end < 0:
            return NOWHERE
        value = after_space(data, name_end)
        if data[value] != _COLON:
            return NOWHERE
        value = after_space(data, value + 1)
        end = value_end(data, value, levels - 1)
        if end < 0 or (
            members is not None and not members.member(data, at + 1, name_end - 1, value, end)
        ):
            return NOWHERE
        at = after_space(data, end)
        c: i64 = data[at]
        if c == _END_BRACE:
            return at + 1
        if c != _COMMA:
            return NOWHERE
        at = after_space(data, at + 1)


def _array_end(data: bytes, at: i64, levels: i64) -> i64:
    if levels == 0:
        return NOWHERE
    at = after_space(data, at + 1)
    if data[at] == _END_BRACKET:
        return at + 1
    while True:
        end = value_end(data, at, levels - 1)
        if end < 0:
            return NOWHERE
        at = after_space(data, end)
        c: i64 = data[at]
        if c == _END_BRACKET:
            return at + 1
        if c != _COMMA:
            return NOWHERE
        at = after_space(data, at + 1)


def string_end(data: bytes, at: i64) -> i64:
    """Return where the text ends that begins, with its quote, at a place, or NOWHERE."""
    if data[at] != _QUOTE:
        return NOWHERE
    at += 1
    while True:
        c: i64 = data[at]
        if c > _BACKSLASH:  # first, since most are small letters
            if c == _P and data[at + 1] == _G and data[at + 2] == _T:
                return NOWHERE
            at += 1
        elif c == _QUOTE:
            return at + 1
        elif c == _BACKSLASH:
            at = _escape_end(data, at + 1)
            if at < 0:
                return NOWHERE
        elif c < _SPACE:
            return NOWHERE
        else:
            at += 1


def is_plain(data: bytes, at: i64, end: i64) -> bool:
    """Return whether a text has no escape between two places."""
    while at < end:
        if data[at] == _BACKSLASH:
            return False
        at += 1
    return True


def _escape_end(data: bytes, at: i64) -> i64:
    """Return where an escape ends, or NOWHERE; surrogates, NUL and what might hide a token's name are left to others."""
    c: i64 = data[at]
    if c != _U:
        return at + 1 if _is_short(c) else NOWHERE
    code: i64 = 0
    last = at + 4
    while at < last:
        at += 1
        digit = _hexadecimal(data[at])
        if digit < 0:
            return NOWHERE
        code = code * 16 + digit
    if code in (0, _P, _G, _T) or 0xD800 <= code < 0xE000:
        return NOWHERE
    return at + 1


def _is_short(c: i64) -> bool:
    """Return whether a letter behind a backslash stands for one character: quote, backslash, slash, b, f, n, r, t."""
    return c == 34 or c == 92 or c == 47 or c == 98 or c == 102 or c == 110 or c == 114 or c == 116  # noqa: PLR1714


def _hexadecimal(c: i64) -> i64:
    if 48 <= c <= 57:
        return c - 48
    if 65 <= c <= 70:
        return c - 55
    return c - 87 if 97 <= c <= 102 else NOWHERE


def _number_end(data: bytes, at: i64) -> i64:
    """Return where a number without an exponent ends, or NOWHERE."""
    begin = at
    if data[at] == _MINUS:
        at += 1
    first: i64 = data[at]
    whole = _digits_end(data, at)
    if whole == at or (first == _ZERO and whole != at + 1):
        return NOWHERE
    at = whole
    if data[at] == _POINT:
        at = _digits_end(data, at + 1)
        if at == whole + 1:
            return NOWHERE
    c: i64 = data[at]
    return NOWHERE if at - begin > LONGEST_NUMBER or c == 101 or c == 69 else at  # noqa: PLR1714


def _digits_end(data: bytes, at: i64) -> i64:
    while True:
        c: i64 = data[at]
        if c < _ZERO or c > _NINE:
            return at
        at += 1
