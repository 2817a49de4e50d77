"""Channels that post to a destination: webhooks, whose receivers drop repeats by their id, and Slack, which knows no ids."""

import json
from typing import Any

import msgspec

from libs.common.clock import Clock
from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage
from services.orchestrator.webhooks import standard_webhooks
from services.orchestrator.webhooks.http_client import WebhookClient
from services.orchestrator.webhooks.standard_webhooks import SigningSecret, WebhookAnswer

_encoder = msgspec.json.Encoder()


def encode_json(message: Any) -> bytes:
    """Return a message as JSON; half a surrogate pair, which no receiver could read, becomes a question mark."""
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")


class WebhookChannel:
    """Posts an action as JSON, signed as Standard Webhooks where the destination has a secret; `webhook-id` is the action's."""

    idempotent = True

    def __init__(self, post: WebhookClient, clock: Clock, kind: str = "perigee.action.v1") -> None:
        """`kind` is the message's `type`: `perigee.audience.v1` adds to an audience, or takes out of it."""
        self._post = post
        self._clock = clock
        self._kind = kind

    async def send(self, letter: RenderedMessage) -> DeliveryResult:
        """Post once."""
        body = encode_json({"type": self._kind, "id": letter.action_id, "data": letter.data})
        secrets = [SigningSecret(letter.secret)] if letter.secret else []
        headers = standard_webhooks.signed_headers(
            secrets, letter.action_id, self._clock.now(), body
        )
        sent = [(name, value) for name, value in headers if value]
        answer = await self._post.post(
            letter.address, [*sent, ("idempotency-key", letter.action_id)], body
        )
        return result_from_answer(answer, again=answer.fault != "rejected")

    async def close(self) -> None:
        """Nothing: the connections are the post's."""


class SlackChannel:
    """Posts a text to an incoming webhook of Slack's: what may have been posted is not posted again."""

    idempotent = False

    def __init__(self, post: WebhookClient) -> None:
        self._post = post

    async def send(self, letter: RenderedMessage) -> DeliveryResult:
        """Post once."""
        headers = [("content-type", "application/json")]
        answer = await self._post.post(letter.address, headers, encode_json({"text": letter.text}))
        if answer.status is None and answer.reached:
            return DeliveryResult("unknown", answer.detail)
        return result_from_answer(
            answer, again=not answer.reached or answer.status == 429 or (answer.status or 0) >= 500
        )

    async def close(self) -> None:
        """Nothing: the connections are the post's."""


def result_from_answer(answer: WebhookAnswer, *, again: bool) -> DeliveryResult:
    """Return what came of a post; `again` says whether what was not taken may be tried once more."""
    if answer.meaning == "delivered":
        return DeliveryResult("delivered", f"the receiver answered {answer.status}")
    said = answer.detail if answer.status is None else f"the receiver answered {answer.status}"
    return DeliveryResult(
        "again" if again and answer.meaning != "gone" else "refused", said, answer.pause
    )


class TopicChannel:
    """Hands an action to whoever executes it: its message on `actions` is written with its record, and goes out once."""

    idempotent = True

    async def send(self, letter: RenderedMessage) -> DeliveryResult:  # noqa: ARG002
        """Do nothing: recording it is sending it."""
        return DeliveryResult("delivered", "handed to the topic")

    async def close(self) -> None:
        """Nothing."""
