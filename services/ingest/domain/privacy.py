"""Personal data on its way in: addresses of machines are shortened or left out, those of people are written one way."""

import ipaddress
import re
from typing import Any, Literal

from libs.common.link_tokens import LINK_PARAMETER
from services.ingest.domain.json_body import normalise_escapes

_PARAMETER = LINK_PARAMETER.encode()
_WORD = (
    rb"(?:[\w.~=-]|\\+u00(?:3d|2[de]|5f)|%(?:25)*(?:2[DE]|3[0-9D]|[46][1-9A-F]|5[0-9AF]|7[0-9AE]))*"
)
"""A token, whose characters somebody may have encoded."""
_TOKEN = re.compile(
    rb"""(?:(["?&;\#]|\\u00(?:26|3f|23|3b))(?:(?-i:%b)(?:=|\\+u003d|%%(?:25)*3D)%b(?:&amp;|&|\\+u0026)?)+"""
    rb"""|(%%(?P<n>(?:25)*)(?:3F|26|23|3B|22))(?:(?-i:%b)%%(?P=n)3D%b(?:%%(?P=n)26)?)+)(?=(?P<end>")?)"""
    % (_PARAMETER, _WORD, _PARAMETER, _WORD),
    re.IGNORECASE,
)
"""What is before a token, it or several, each with the mark behind it, whether the text ends there.

Either as it is in an address, whose marks may be numbers in a text that is JSON itself, or in an address that is a parameter of
another one, encoded as often: what is behind it belongs to the outer one.
"""
IpRule = Literal["drop", "truncate"]
_PHONE = re.compile(r"\+?\(?[0-9][0-9 ().\-/\u00a0\u2009\u202f]{4,30}")
_TRUNK = re.compile(r"(?<=[0-9 \u00a0])\(0\)")
"""The nought that is dialled inside a country only."""
_NO_DIGIT = re.compile(r"[^0-9]")


def truncate_ip(address: str) -> str | None:
    """Return the network of an IP address (IPv4 /24, IPv6 /48), which no longer names a household; None for no address."""
    try:
        ip = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    # From the number: an IPv6 scope ("%eth0") may be any text, and is of no use to anybody else.
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Address(int(ip) >> 8 << 8))
    return str(ipaddress.IPv6Address(int(ip) >> 80 << 80))


def strip_link_tokens(raw: bytes) -> bytes:
    """Return JSON, unescaped, without the tokens in its addresses: they say who somebody is, and are for the door alone.

    Our own tracker takes them out before; other libraries, and mail providers that tell of a click, send addresses as they are.
    """
    raw = normalise_escapes(raw)
    return raw if raw.find(_PARAMETER) < 0 else _TOKEN.sub(_cut, raw)


def _cut(found: re.Match[bytes]) -> bytes:
    plain, encoded, at_end = found.group(1), found.group(2), found.group("end") is not None
    return encoded or (b"" if at_end and plain in (b"?", b"&") else plain)


def normalise_traits(given: dict[str, Any]) -> dict[str, Any]:
    """Return traits with `email` in lower case and `phone` as digits behind a plus or not, so that equal ones are equal.

    What does not look like one is left as it is.
    """
    if "email" not in given and "phone" not in given:
        return given
    found = dict(given)
    if isinstance(found.get("email"), str):
        found["email"] = found["email"].strip().lower()
    if isinstance(found.get("phone"), str) and _PHONE.fullmatch(found["phone"].strip()):
        found["phone"] = _phone(found["phone"].strip())
    return found


def _phone(text: str) -> str:
    """Return the digits; `00` before a country's code is a plus (ITU-T E.123, E.164)."""
    abroad = text.startswith(("+", "00"))
    digits = _NO_DIGIT.sub("", _TRUNK.sub("", text) if abroad else text)
    return f"+{digits.removeprefix('00')}" if abroad else digits
