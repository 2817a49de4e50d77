"""Personal data on its way in: addresses of machines are shortened or left out, those of people are written one way."""

import ipaddress
import re
from typing import Any, Literal

from libs.common.links import PARAMETER

_TOKEN = re.compile(rf"(^|[?&;]|%3F|%26){PARAMETER}(?:=|%3D)[\w.~-]*(?:&amp;|&|%26)?", re.IGNORECASE)
IpRule = Literal["drop", "truncate"]
_PHONE = re.compile(r"\+?[0-9][0-9 ().\-/]{4,30}")
_NO_DIGIT = re.compile(r"[^0-9]")


def shortened(address: str) -> str | None:
    """Return the network of an IP address (IPv4 /24, IPv6 /48), which no longer names a household; None for no address."""
    try:
        ip = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    bits = 24 if ip.version == 4 else 48
    return str(ipaddress.ip_network(f"{ip}/{bits}", strict=False).network_address)


def without_tokens(given: dict[str, Any]) -> dict[str, Any]:
    """Return what is told without the tokens in its addresses: they say who somebody is, and are for the door alone.

    Our own tracker takes them out before; other libraries, and mail providers that tell of a click, send addresses as they are.
    """
    held = [name for name, value in given.items() if isinstance(value, str) and PARAMETER in value]
    if not held:
        return given
    return {**given, **{name: _without_token(given[name]) for name in held}}


def _without_token(address: str) -> str:
    found = _TOKEN.sub(r"\1", address)
    return found.rstrip("?&") if found != address else address


def traits_of(given: dict[str, Any]) -> dict[str, Any]:
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
    digits = _NO_DIGIT.sub("", text)
    if text.startswith("+"):
        return f"+{digits}"
    return f"+{digits[2:]}" if digits.startswith("00") else digits
