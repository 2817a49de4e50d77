"""Address rules of webhooks: only public internet addresses are allowed.

`ipaddress.is_global` is not enough: in Python 3.11 it is true of 224.0.0.1 and of 6to4 and NAT64
addresses that lead to 127.0.0.1. So the refused networks are listed here, after IANA's
special-purpose registries (RFC 6890), and an address that embeds another one is unwrapped.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

ALLOWED_PORTS = (443, 8443)

_V4 = {
    "0.0.0.0/8": "this host",
    "10.0.0.0/8": "a private network",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "this machine",
    "168.63.129.16/32": "a cloud platform service",
    "169.254.0.0/16": "link-local, used by cloud metadata services",
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
    "2001::/23": "IETF protocol assignments, including Teredo",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "3fff::/20": "documentation",
}
_REFUSED_V4 = [(IPv4Network(network), label) for network, label in _V4.items()]
_REFUSED_V6 = [(IPv6Network(network), label) for network, label in _V6.items()]
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def address_fault(address: str) -> str | None:
    """Return the reason why webhooks to an IP address are refused, or None if they are allowed."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return f"{address} is not an IP address"
    label = _fault_v4(parsed) if isinstance(parsed, IPv4Address) else _fault_v6(parsed)
    return f"{address} is not on the public internet: {label}" if label else None


def _fault_v4(address: IPv4Address) -> str | None:
    return next((label for network, label in _REFUSED_V4 if address in network), None)


def _fault_v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "it names an interface of this machine"
    if address.ipv4_mapped is not None:
        return _fault_v4(address.ipv4_mapped)
    if address in _NAT64:  # an IPv6-only network reaches IPv4 hosts this way
        return _fault_v4(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _UNICAST:
        return "not a global unicast address"
    return next((label for network, label in _REFUSED_V6 if address in network), None)


def url_fault(url: str, *, private: bool) -> str | None:
    """Return the fault of a webhook URL as written, or None. The host is not resolved.

    `private` allows plain HTTP and any port, for a receiver on the same network as Perigee.
    """
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in url) or "\\" in url:
        return "it contains a space, a backslash or a control character"
    if not url.isascii():
        return (
            "it contains non-ASCII characters: write the host in punycode (xn--…), the path with %…"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"it is not a valid URL: {error}"
    if not host:
        return "it has no host; example: https://crm.example/hooks/perigee"
    if parts.username is not None or parts.password is not None:
        return "it contains a user name: put a token into the path, or verify the signature"
    if "%" in host:
        return "its host names a network interface"
    if parts.scheme not in ("http", "https"):
        return "it must begin with https://"
    return None if private else _public_url_fault(parts, port)


def _public_url_fault(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme != "https":
        return "it must begin with https://"
    if port not in (None, *ALLOWED_PORTS):
        return f"port {port} is not allowed: use {' or '.join(map(str, ALLOWED_PORTS))}"
    return None
