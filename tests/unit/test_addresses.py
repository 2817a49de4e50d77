"""Webhook addresses: internal networks are refused, as literals and after DNS resolution."""

import asyncio

import pytest

from libs.common.clock import SystemClock
from services.orchestrator.webhooks.addresses import address_fault, url_fault
from services.orchestrator.webhooks.http_client import (
    AddressNotAllowed,
    DnsResolver,
    GuardedNetworkBackend,
    WebhookClient,
)

INTERNAL_ADDRESSES = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.254 127.0.0.1
127.0.0.53 127.255.255.254 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1
172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1
198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 :: ::1
::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 64:ff9b:1::127.0.0.1 100::1
2001::1 2001:0:7f00:1:: 2001:2::1 2001:10::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::1 3fff::1
5f00::1 fc00::1 fd00:ec2::254 fd12:3456::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
::ffff:192.168.1.1 not-an-address 1.2.3
""".split()  # noqa: SIM905
PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "2606:4700::1111",
]
PUBLIC_ADDRESSES += ["2a00:1450:4001::5", "::ffff:8.8.8.8", "64:ff9b::808:808"]

INVALID_URLS = [
    "http://crm.example/hook",
    "ftp://crm.example/hook",
    "file:///etc/passwd",
    "gopher://crm.example/",
    "//crm.example/hook",
    "https://",
    "https:///hook",
    "https://user@crm.example/",
    "https://user:pass@crm.example/",
    "https://crm.example:80/",
    "https://crm.example:22/",
    "https://crm.example:6379/",
    "https://crm.example:0/",
    "https://crm.example:99999/",
    "https://crm.example:443x/",
    "https://[fe80::1%25eth0]/",
    "https://[::1",
    "https://crm.example/\r\nHost: other",
    "https://crm.example/ hook",
    "https://crm.example\\@127.0.0.1/",
    "https://crm.example\t/",
    "https://bücher.example/",
    "https://１２７.０.０.１/",
    "https://127。0。0。1/",
    "HTTP://127.0.0.1/",
    "javascript:alert(1)",
    "",
]
NUMERIC_HOSTS = [
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "0",
    "localhost",
]


def test_suite_has_sixty_hostile_addresses():
    assert len(set(INTERNAL_ADDRESSES)) + len(set(INVALID_URLS)) + len(NUMERIC_HOSTS) >= 60


@pytest.mark.parametrize("address", INTERNAL_ADDRESSES)
def test_internal_address_is_refused(address):
    assert address_fault(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_address_is_allowed(address):
    assert address_fault(address) is None


@pytest.mark.parametrize("url", INVALID_URLS)
async def test_invalid_url_is_refused_before_resolution(url):
    resolved_hosts = []

    async def resolve(host, port):
        resolved_hosts.append(host)
        return ["1.1.1.1"]

    assert url_fault(url, private=False)

    answer = await WebhookClient(SystemClock(), private=False, resolve=resolve).post(url, [], b"{}")

    assert (answer.status, resolved_hosts) == (None, [])


@pytest.mark.parametrize(
    "url", ["https://crm.example/hook?x=1", "https://crm.example:8443/", "https://CRM.example"]
)
def test_https_url_of_public_host_is_allowed(url):
    assert url_fault(url, private=False) is None


@pytest.mark.parametrize("host", NUMERIC_HOSTS)
async def test_numeric_host_is_checked_as_address(host):
    assert "not on the public internet" in str(
        await WebhookClient(SystemClock(), private=False).check_url(f"https://{host}/")
    )

    with pytest.raises(AddressNotAllowed):
        await GuardedNetworkBackend(DnsResolver(), private=False).connect_tcp(host, 443)


@pytest.mark.parametrize("address", INTERNAL_ADDRESSES[:-2])
async def test_name_resolving_to_internal_address_is_refused(address):
    async def resolve(host, port):
        return ["1.1.1.1", address]  # one internal address is enough

    answer = await WebhookClient(SystemClock(), private=False, resolve=resolve).post(
        "https://crm.example/", [], b"{}"
    )

    assert (answer.status, "not on the public internet" in answer.detail) == (None, True)


async def test_rebound_name_is_checked_at_every_connection(tmp_path):
    """The name is public at creation and 127.0.0.1 at delivery: no connection is made."""
    connected = asyncio.Event()

    async def connection(reader, writer):
        connected.set()
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    answers = [["93.184.216.34"], ["127.0.0.1"]]

    async def resolve(host, port):
        return answers.pop(0)

    http_client = WebhookClient(SystemClock(), private=False, resolve=resolve)

    assert await http_client.check_url("https://crm.example/") is None

    answer = await http_client.post("https://crm.example/", [], b"{}")

    assert "not on the public internet" in answer.detail
    assert "127.0.0.1" not in answer.detail
    assert not connected.is_set()

    server.close()


async def test_connection_uses_the_checked_address():
    resolved_hosts, connected = [], asyncio.Event()

    async def connection(reader, writer):
        connected.set()
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def resolve(host, port):
        resolved_hosts.append(host)
        return ["127.0.0.1"]

    network = GuardedNetworkBackend(resolve, private=True)
    stream = await network.connect_tcp("crm.example", port)

    await asyncio.wait_for(connected.wait(), 5)

    assert resolved_hosts == ["crm.example"]

    await stream.aclose()
    server.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status):
    requests = []

    async def connection(reader, writer):
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            f"HTTP/1.1 {status} Found\r\n"
            "Location: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n".encode()
        )
        await writer.drain()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    http_client = WebhookClient(SystemClock(), private=True)

    answer = await http_client.post(f"http://127.0.0.1:{port}/hook", [], b"{}")

    assert (answer.status, answer.meaning, len(requests)) == (status, "again", 1)

    await http_client.close()
    server.close()


async def test_endless_response_is_cut_off():
    async def connection(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                await writer.drain()
        except OSError:
            pass

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    http_client = WebhookClient(SystemClock(), private=True)

    answer = await asyncio.wait_for(http_client.post(f"http://127.0.0.1:{port}/", [], b"{}"), 10)

    assert (answer.status, len(answer.detail)) == (200, 200)

    await http_client.close()
    server.close()
