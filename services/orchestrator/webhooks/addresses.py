"""Which addresses on the network a webhook may go to: those of the public internet, and nothing that only looks like one.

`ipaddress.is_global` is not enough: Python 3.11 says it of 224.0.0.1, of 6to4 and of NAT64 addresses that lead to 127.0.0.1.
So what is refused stands here, after IANA's special-purpose registries (RFC 6890), and what wraps another address is unwrapped.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

ALLOWED_PORTS = (443, 8443)

_V4 = {
    "0.0.0.0/8": "this host",
    "10.0.0.0/8": "a private network",
    "100.64.0.0/10": "a carrier's network",
    "127.0.0.0/8": "this machine",
    "168.63.129.16/32": "a cloud's own service",
    "169.254.0.0/16": "link-local, where clouds keep their secrets",
    "172.16.0.0/12": "a private network",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "a private network",
    "198.18.0.0/15": "benchmarks",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_V6 = {
    "2001::/23": "IETF protocols, Teredo among them",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "3fff::/20": "documentation",
}
_REFUSED_V4 = [(IPv4Network(net), why) for net, why in _V4.items()]
_REFUSED_V6 = [(IPv6Network(net), why) for net, why in _V6.items()]
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def address_fault(address: str) -> str | None:
    """Return why no webhook goes to an IP address, or None where one may."""
    try:
        found = ip_address(address)
    except ValueError:
        return f"{address} is no IP address"
    why = _of_v4(found) if isinstance(found, IPv4Address) else _of_v6(found)
    return f"{address} is not on the public internet: {why}" if why else None


def _of_v4(address: IPv4Address) -> str | None:
    return next((why for net, why in _REFUSED_V4 if address in net), None)


def _of_v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "it names an interface of this machine"
    if address.ipv4_mapped is not None:
        return _of_v4(address.ipv4_mapped)
    if address in _NAT64:  # how a network without IPv4 reaches the rest
        return _of_v4(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _UNICAST:
        return "no global unicast address"
    return next((why for net, why in _REFUSED_V6 if address in net), None)


def url_fault(url: str, *, private: bool) -> str | None:
    """Return what is wrong with a webhook's URL before anybody looks its host up, or None.

    `private` lets plain HTTP and any port through, for a receiver beside Perigee.
    """
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in url) or "\\" in url:
        return "it holds a blank, a backslash or a control character"
    if not url.isascii():
        return "it holds characters beyond ASCII: write a host as xn--…, a path with %…"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"it cannot be read: {error}"
    if not host:
        return "it names no host: https://crm.example/hooks/perigee, say"
    if parts.username is not None or parts.password is not None:
        return "it holds a user name: put what opens the door into the path, or check the signature"
    if "%" in host:
        return "its host names an interface"
    if parts.scheme not in ("http", "https"):
        return "it has to begin with https://"
    return None if private else _fault_outside(parts, port)


def _fault_outside(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme != "https":
        return "it has to begin with https://"
    if port not in (None, *ALLOWED_PORTS):
        return f"port {port}: webhooks go to {' or '.join(map(str, ALLOWED_PORTS))}"
    return None
