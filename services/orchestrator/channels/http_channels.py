"""Channels that post to a destination: signed webhooks, Slack messages and the actions topic."""

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
    """Return a message as JSON; a lone surrogate, which no receiver can decode, becomes `?`."""
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")


class WebhookChannel:
    """Channel that posts an action as JSON; `webhook-id` is the action's id.

    The request is signed as in Standard Webhooks if the destination has a secret.
    """

    idempotent = True

    def __init__(
        self, client: WebhookClient, clock: Clock, kind: str = "perigee.action.v1"
    ) -> None:
        """`kind` is the `type` of the message; `perigee.audience.v1` changes an ad audience."""
        self._client = client
        self._clock = clock
        self._kind = kind

    async def send(self, message: RenderedMessage) -> DeliveryResult:
        """Post once."""
        body = encode_json({"type": self._kind, "id": message.action_id, "data": message.data})
        secrets = [SigningSecret(message.secret)] if message.secret else []
        headers = standard_webhooks.signed_headers(
            secrets, message.action_id, self._clock.now(), body
        )
        filled = [(name, value) for name, value in headers if value]
        answer = await self._client.post(
            message.address, [*filled, ("idempotency-key", message.action_id)], body
        )
        return result_from_answer(answer, again=answer.fault != "rejected")

    async def close(self) -> None:
        """Do nothing: the webhook client owns the connections."""


class SlackChannel:
    """Channel that posts a text to a Slack incoming webhook; a post in doubt is not repeated."""

    idempotent = False

    def __init__(self, client: WebhookClient) -> None:
        self._client = client

    async def send(self, message: RenderedMessage) -> DeliveryResult:
        """Post once."""
        headers = [("content-type", "application/json")]
        answer = await self._client.post(
            message.address, headers, encode_json({"text": message.text})
        )
        if answer.status is None and answer.reached:
            return DeliveryResult("unknown", answer.detail)
        return result_from_answer(
            answer, again=not answer.reached or answer.status == 429 or (answer.status or 0) >= 500
        )

    async def close(self) -> None:
        """Do nothing: the webhook client owns the connections."""


def result_from_answer(answer: WebhookAnswer, *, again: bool) -> DeliveryResult:
    """Return the result of a post; `again` is whether a failed post may be retried."""
    if answer.meaning == "delivered":
        return DeliveryResult("delivered", f"the receiver answered {answer.status}")
    detail = answer.detail if answer.status is None else f"the receiver answered {answer.status}"
    return DeliveryResult(
        "again" if again and answer.meaning != "gone" else "refused", detail, answer.pause
    )


class TopicChannel:
    """Channel that hands an action to an external executor through the topic `actions`.

    The outbox row is written with the action's record, so the message goes out exactly once.
    """

    idempotent = True

    async def send(self, message: RenderedMessage) -> DeliveryResult:  # noqa: ARG002
        """Do nothing: recording the action already sends it."""
        return DeliveryResult("delivered", "handed to the topic")

    async def close(self) -> None:
        """Do nothing."""
