"""Contract of all channels, against local servers: the delivery result of each receiver behaviour.

A receiver accepts the message, is busy, refuses it for good, is unreachable, or disconnects
in the middle of the request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import pytest
from aiosmtpd.controller import Controller

from libs.common.clock import SystemClock
from services.orchestrator.channels import Channel
from services.orchestrator.channels.crm_task import CrmTaskChannel
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.channels.http_channels import SlackChannel, TopicChannel, WebhookChannel
from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage
from services.orchestrator.webhooks.http_client import WebhookClient
from services.orchestrator.webhooks.standard_webhooks import encode_secret
from tests.support.servers import _free_port
from tests.support.waiting import last
from tests.support.webhook_receiver import WebhookReceiver

Behaviour = Literal["accepts", "busy", "refuses", "unreachable", "disconnects"]
OUTCOMES = ("delivered", "again", "refused", "unknown")
SECRET = encode_secret(bytes(range(32)))
MESSAGE = RenderedMessage(
    "act-1", "a@x.test", "Hello", "hello", "<p>hello</p>", "https://x.test/u/token",
    {"text": "hello", "fields": {}, "external_ids": {"hubspot": "7"}, "crm": "hubspot"},
)  # fmt: skip


class ReceivedBodies:
    """Bodies that a receiver accepted."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []


class SmtpReceiver:
    """SMTP server with the given behaviour."""

    def __init__(self, behaviour: Behaviour, received: ReceivedBodies) -> None:
        self.behaviour, self.received = behaviour, received

    async def handle_DATA(self, server, session, envelope):
        if self.behaviour == "disconnects":
            self.received.bodies.append(envelope.content)
            server.transport.close()
            await last(0.05)
        if self.behaviour in ("busy", "refuses"):
            return "451 not now" if self.behaviour == "busy" else "554 never"
        self.received.bodies.append(envelope.content)
        return "250 ok"


class RecordingReceiver(WebhookReceiver):
    """HTTP server that records accepted bodies."""

    def __init__(self, received: ReceivedBodies, status: int) -> None:
        super().__init__(lambda _: (status, {}))
        self.received, self.status = received, status

    def keep(self, headers: dict[str, str], body: bytes) -> None:
        if self.status == 200:
            self.received.bodies.append(body)


async def start_http_receiver(
    behaviour: Behaviour, received: ReceivedBodies
) -> tuple[str, Callable[[], Awaitable[None]]]:
    """Start an HTTP server with the given behaviour; return its URL and its stop function."""
    if behaviour == "unreachable":
        return f"http://127.0.0.1:{_free_port()}/hook", _do_nothing
    if behaviour == "disconnects":

        async def disconnect(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            received.bodies.append(head)
            writer.close()

        server = await asyncio.start_server(disconnect, "127.0.0.1", 0)

        async def stop():
            server.close()

        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", stop
    status = {"accepts": 200, "busy": 503, "refuses": 400}[behaviour]
    receiver = RecordingReceiver(received, status)
    return await receiver.start(), receiver.stop


async def _do_nothing() -> None:
    pass


@pytest.fixture
async def make_channel():
    """Return a factory of (channel, message to send, bodies that its receiver accepted)."""
    cleanups: list[Callable[[], Awaitable[None]]] = []
    http_client = WebhookClient(SystemClock(), private=True)

    async def make(
        name: str, behaviour: Behaviour
    ) -> tuple[Channel, RenderedMessage, ReceivedBodies]:
        received = ReceivedBodies()
        if name == "kafka":
            return TopicChannel(), MESSAGE, received
        if name == "email":
            controller = Controller(
                SmtpReceiver(behaviour, received), hostname="127.0.0.1", port=_free_port()
            )
            if behaviour != "unreachable":
                controller.start()
                cleanups.append(lambda: asyncio.to_thread(controller.stop))
            channel = EmailChannel(f"smtp://127.0.0.1:{controller.port}", "Perigee <hello@x.test>")
            cleanups.append(channel.close)
            return channel, MESSAGE, received
        url, stop = await start_http_receiver(behaviour, received)
        cleanups.append(stop)
        secret = "token" if name == "crm_task" else SECRET
        clock = SystemClock()
        channels: dict[str, Channel] = {
            "webhook": WebhookChannel(http_client, clock),
            "audience": WebhookChannel(http_client, clock, "perigee.audience.v1"),
            "slack": SlackChannel(http_client),
            "crm_task": CrmTaskChannel(http_client, clock),
        }
        return (
            channels[name],
            msgspec.structs.replace(MESSAGE, address=url, secret=secret),
            received,
        )

    yield make
    await http_client.close()
    for stop in reversed(cleanups):
        await stop()


CHANNELS = ("email", "webhook", "audience", "slack", "crm_task", "kafka")
REMOTE_CHANNELS = CHANNELS[:-1]


@pytest.mark.parametrize("name", CHANNELS)
async def test_accepted_message_is_delivered_once(make_channel, name):
    channel, message, received = await make_channel(name, "accepts")

    result = await channel.send(message)

    assert (result.outcome, result.gone) == ("delivered", False)
    assert result.detail
    assert len(received.bodies) == (0 if name == "kafka" else 1)


@pytest.mark.parametrize("name", REMOTE_CHANNELS)
@pytest.mark.parametrize(
    ("behaviour", "outcome"), [("busy", "again"), ("refuses", "refused"), ("unreachable", "again")]
)
async def test_unaccepted_message_is_retried_unless_refused(make_channel, name, behaviour, outcome):
    channel, message, received = await make_channel(name, behaviour)

    result = await channel.send(message)

    assert result.outcome == outcome, result
    assert received.bodies == [], "the receiver accepted nothing"


@pytest.mark.parametrize("name", REMOTE_CHANNELS)
async def test_disconnect_is_unknown_unless_channel_is_idempotent(make_channel, name):
    channel, message, received = await make_channel(name, "disconnects")

    result = await channel.send(message)

    assert result.outcome == ("again" if channel.idempotent else "unknown"), result
    assert len(received.bodies) == 1


@pytest.mark.parametrize("name", CHANNELS)
async def test_channel_never_raises_on_strange_content(make_channel, name):
    channel, message, _ = await make_channel(name, "accepts")

    strange_texts = ["", "\x00", "\ud800", "a" * 100_000, "\r\nBcc: b@x.test", "💥"]

    for text in strange_texts:
        data = {**message.data, "text": text, "fields": {"subject": text}}
        for fields in (
            {"text": text, "data": data},
            {"subject": text},
            {"html": text},
            {"unsubscribe_url": text},
        ):
            result = await channel.send(msgspec.structs.replace(message, **fields))
            assert isinstance(result, DeliveryResult)
            assert result.outcome in OUTCOMES

    result = await channel.send(msgspec.structs.replace(message, address="no address\r\nat all"))

    assert result.outcome == (
        "delivered" if name == "kafka" else "refused" if name == "email" else "again"
    ), result


@pytest.mark.parametrize("name", CHANNELS)
async def test_channel_can_be_closed_twice(make_channel, name):
    channel, _, _ = await make_channel(name, "accepts")
    await channel.close()
    await channel.close()


@pytest.mark.parametrize("name", REMOTE_CHANNELS)
async def test_concurrent_messages_are_all_delivered(make_channel, name):
    channel, message, received = await make_channel(name, "accepts")
    messages = [msgspec.structs.replace(message, action_id=f"act-{number}") for number in range(20)]

    results = await asyncio.gather(*(channel.send(message) for message in messages))

    assert [result.outcome for result in results] == ["delivered"] * 20
    assert len(received.bodies) == 20
