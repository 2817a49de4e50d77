"""One contract for all channels, on real local servers: what each says of an attempt.

A receiver takes it, is busy, refuses it for good, is away, or goes away in the middle.
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

Behaviour = Literal["takes", "busy", "refuses", "away", "vanishes"]
OUTCOMES = ("delivered", "again", "refused", "unknown")
SECRET = encode_secret(bytes(range(32)))
LETTER = RenderedMessage(
    "act-1", "a@x.test", "Hello", "hello", "<p>hello</p>", "https://x.test/u/token",
    {"text": "hello", "fields": {}, "external_ids": {"hubspot": "7"}, "crm": "hubspot"},
)  # fmt: skip


class Taken:
    """What a receiver took, by the letter's id where the protocol has one."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []


class Mails:
    """An SMTP server that behaves."""

    def __init__(self, behaviour: Behaviour, taken: Taken) -> None:
        self.behaviour, self.taken = behaviour, taken

    async def handle_DATA(self, server, session, envelope):
        if self.behaviour == "vanishes":
            self.taken.bodies.append(envelope.content)
            server.transport.close()
            await last(0.05)
        if self.behaviour in ("busy", "refuses"):
            return "451 not now" if self.behaviour == "busy" else "554 never"
        self.taken.bodies.append(envelope.content)
        return "250 ok"


class Keeping(WebhookReceiver):
    """An HTTP server that keeps what it takes."""

    def __init__(self, taken: Taken, status: int) -> None:
        super().__init__(lambda _: (status, {}))
        self.taken, self.status = taken, status

    def keep(self, headers: dict[str, str], body: bytes) -> None:
        if self.status == 200:
            self.taken.bodies.append(body)


async def posts(behaviour: Behaviour, taken: Taken) -> tuple[str, Callable[[], Awaitable[None]]]:
    """An HTTP server that behaves: (its URL, how to end it)."""
    if behaviour == "away":
        return f"http://127.0.0.1:{_free_port()}/hook", _nothing
    if behaviour == "vanishes":

        async def vanish(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            taken.bodies.append(head)
            writer.close()

        server = await asyncio.start_server(vanish, "127.0.0.1", 0)

        async def end():
            server.close()

        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", end
    status = {"takes": 200, "busy": 503, "refuses": 400}[behaviour]
    receiver = Keeping(taken, status)
    return await receiver.start(), receiver.stop


async def _nothing() -> None:
    pass


@pytest.fixture
async def made():
    """How to make a channel whose receiver behaves: (channel, a letter for it, what was taken)."""
    ends: list[Callable[[], Awaitable[None]]] = []
    post = WebhookClient(SystemClock(), private=True)

    async def make(name: str, behaviour: Behaviour) -> tuple[Channel, RenderedMessage, Taken]:
        taken = Taken()
        if name == "kafka":
            return TopicChannel(), LETTER, taken
        if name == "email":
            controller = Controller(
                Mails(behaviour, taken), hostname="127.0.0.1", port=_free_port()
            )
            if behaviour != "away":
                controller.start()
                ends.append(lambda: asyncio.to_thread(controller.stop))
            channel = EmailChannel(f"smtp://127.0.0.1:{controller.port}", "Perigee <hello@x.test>")
            ends.append(channel.close)
            return channel, LETTER, taken
        url, end = await posts(behaviour, taken)
        ends.append(end)
        secret = "token" if name == "crm_task" else SECRET
        clock = SystemClock()
        channels: dict[str, Channel] = {
            "webhook": WebhookChannel(post, clock),
            "audience": WebhookChannel(post, clock, "perigee.audience.v1"),
            "slack": SlackChannel(post),
            "crm_task": CrmTaskChannel(post, clock),
        }
        return channels[name], msgspec.structs.replace(LETTER, address=url, secret=secret), taken

    yield make
    await post.close()
    for end in reversed(ends):
        await end()


CHANNELS = ("email", "webhook", "audience", "slack", "crm_task", "kafka")
REMOTE = CHANNELS[:-1]


@pytest.mark.parametrize("name", CHANNELS)
async def test_what_is_taken_is_delivered_once_and_says_by_whom(made, name):
    channel, letter, taken = await made(name, "takes")
    result = await channel.send(letter)
    assert (result.outcome, result.gone) == ("delivered", False)
    assert result.detail
    assert len(taken.bodies) == (0 if name == "kafka" else 1)


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize(
    ("behaviour", "outcome"), [("busy", "again"), ("refuses", "refused"), ("away", "again")]
)
async def test_what_was_not_taken_may_go_again_unless_it_was_refused_for_good(
    made, name, behaviour, outcome
):
    channel, letter, taken = await made(name, behaviour)
    result = await channel.send(letter)
    assert result.outcome == outcome, result
    assert taken.bodies == [], "nothing was taken"


@pytest.mark.parametrize("name", REMOTE)
async def test_what_may_have_been_taken_is_unknown_or_goes_again_under_its_id(made, name):
    channel, letter, taken = await made(name, "vanishes")
    result = await channel.send(letter)
    assert result.outcome == ("again" if channel.idempotent else "unknown"), result
    assert len(taken.bodies) == 1


@pytest.mark.parametrize("name", CHANNELS)
async def test_a_channel_never_raises_whatever_the_letter_holds(made, name):
    channel, letter, _ = await made(name, "takes")
    strange = ["", "\x00", "\ud800", "a" * 100_000, "\r\nBcc: b@x.test", "💥"]
    for text in strange:
        data = {**letter.data, "text": text, "fields": {"subject": text}}
        for changed in (
            {"text": text, "data": data},
            {"subject": text},
            {"html": text},
            {"unsubscribe_url": text},
        ):
            result = await channel.send(msgspec.structs.replace(letter, **changed))
            assert isinstance(result, DeliveryResult)
            assert result.outcome in OUTCOMES
    result = await channel.send(msgspec.structs.replace(letter, address="no address\r\nat all"))
    assert result.outcome == (
        "delivered" if name == "kafka" else "refused" if name == "email" else "again"
    ), result


@pytest.mark.parametrize("name", CHANNELS)
async def test_one_that_was_closed_sends_nothing_and_may_be_closed_again(made, name):
    channel, _, _ = await made(name, "takes")
    await channel.close()
    await channel.close()


@pytest.mark.parametrize("name", REMOTE)
async def test_many_at_once_are_all_answered(made, name):
    channel, letter, taken = await made(name, "takes")
    letters = [msgspec.structs.replace(letter, action_id=f"act-{number}") for number in range(20)]
    results = await asyncio.gather(*(channel.send(one) for one in letters))
    assert [result.outcome for result in results] == ["delivered"] * 20
    assert len(taken.bodies) == 20
