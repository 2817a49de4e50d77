"""Personal data of messages: IP addresses, link tokens, e-mail addresses and phone numbers."""

import ipaddress
import re
from typing import Any, Literal

from libs.common.link_tokens import LINK_PARAMETER
from services.ingest.domain.json_body import normalise_escapes

_PARAMETER = LINK_PARAMETER.encode()
_WORD = (
    rb"(?:[\w.~=-]|\\+u00(?:3d|2[de]|5f)|%(?:25)*(?:2[DE]|3[0-9D]|[46][1-9A-F]|5[0-9AF]|7[0-9AE]))*"
)
"""A token; its characters may be encoded."""
_TOKEN = re.compile(
    rb"""(?:(["?&;\#]|\\u00(?:26|3f|23|3b))(?:(?-i:%b)(?:=|\\+u003d|%%(?:25)*3D)%b(?:&amp;|&|\\+u0026)?)+"""
    rb"""|(%%(?P<n>(?:25)*)(?:3F|26|23|3B|22))(?:(?-i:%b)%%(?P=n)3D%b(?:%%(?P=n)26)?)+)(?=(?P<end>")?)"""
    % (_PARAMETER, _WORD, _PARAMETER, _WORD),
    re.IGNORECASE,
)
"""Separator before a token, the tokens with their separators, and whether the text ends there.

The token is in an address, whose separators may be numbered escapes inside a text that is JSON
itself, or in an address that is a parameter of another one, percent-encoded once or more: then the
rest belongs to the outer address.
"""
IpRule = Literal["drop", "truncate"]
_PHONE = re.compile(r"\+?\(?[0-9][0-9 ().\-/\u00a0\u2009\u202f]{4,30}")
_TRUNK = re.compile(r"(?<=[0-9 \u00a0])\(0\)")
"""The trunk prefix, which is dialled inside a country only."""
_NO_DIGIT = re.compile(r"[^0-9]")


def truncate_ip(address: str) -> str | None:
    """Return the network of an IP address (IPv4 /24, IPv6 /48), None for any other text."""
    try:
        ip = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    # From the number: an IPv6 scope ("%eth0") may be any text and is local to its machine.
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Address(int(ip) >> 8 << 8))
    return str(ipaddress.IPv6Address(int(ip) >> 80 << 80))


def strip_link_tokens(raw: bytes) -> bytes:
    """Return JSON with normalised escapes and without the link tokens in its addresses.

    A token names a contact, and only ingest may see it. Our own tracker removes tokens; other
    libraries, and mail providers that report a click, send whole addresses.
    """
    if raw.find(b"\\") >= 0:
        raw = normalise_escapes(raw)
    elif raw.find(b"=") < 0 and raw.find(b"%") < 0:
        return raw  # one of these follows a token's name; searching one byte is ten times as fast
    return raw if raw.find(_PARAMETER) < 0 else _TOKEN.sub(_cut, raw)


def _cut(match: re.Match[bytes]) -> bytes:
    plain, encoded, at_end = match.group(1), match.group(2), match.group("end") is not None
    return encoded or (b"" if at_end and plain in (b"?", b"&") else plain)


def normalise_traits(given: dict[str, Any]) -> dict[str, Any]:
    """Return traits with `email` in lower case and `phone` as digits, with a leading plus or not.

    A phone number of another form stays unchanged.
    """
    if "email" not in given and "phone" not in given:
        return given
    traits = dict(given)
    if isinstance(traits.get("email"), str):
        traits["email"] = traits["email"].strip().lower()
    if isinstance(traits.get("phone"), str) and _PHONE.fullmatch(traits["phone"].strip()):
        traits["phone"] = _phone(traits["phone"].strip())
    return traits


def _phone(text: str) -> str:
    """Return the digits; `00` before a country code becomes a plus (ITU-T E.123, E.164)."""
    abroad = text.startswith(("+", "00"))
    digits = _NO_DIGIT.sub("", _TRUNK.sub("", text) if abroad else text)
    return f"+{digits.removeprefix('00')}" if abroad else digits
