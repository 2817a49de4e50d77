"""What goes out: an action with its templates filled in, ready for its channel."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from libs.common.instants import to_iso
from services.orchestrator.domain.content import Item
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.play import Action
from services.orchestrator.domain.progress import Run
from services.orchestrator.domain.template import render
from services.orchestrator.domain.token import sign


class Letter(msgspec.Struct, frozen=True):
    """A rendered action. `action_id` is the idempotency key towards whoever takes it."""

    action_id: str
    address: str
    subject: str = ""
    text: str = ""
    html: str | None = None
    unsubscribe_url: str = ""
    data: Mapping[str, Any] = {}
    secret: str = ""


class Result(msgspec.Struct, frozen=True):
    """What came of an attempt: `again` may be retried, `unknown` may have arrived and is never sent again blindly.

    `pause` is how long the receiver asks us to wait (µs).
    """

    outcome: Literal["delivered", "again", "refused", "unknown"]
    detail: str
    pause: int | None = None
    gone: bool = False
    """Whether nothing will ever arrive there: the receiver says that there is no such address."""


class Links(msgspec.Struct, frozen=True):
    """What links in letters are made of."""

    base_url: str
    secret: str

    def unsubscribe(self, contact_id: str, channel: str) -> str:
        """Return where a contact unsubscribes from a channel."""
        return f"{self.base_url}/u/{sign(self.secret, contact_id, channel)}"


def write(
    action_id: str,
    action: Action,
    run: Run,
    facts: Facts,
    content: Item | None,
    destination: Destination | None,
    links: Links,
) -> Letter:
    """Fill in an action's templates. Raises InvalidMessage `template` naming what is missing."""
    url = links.unsubscribe(facts.contact_id, action.channel)
    context = context_of(run, facts, content, url)
    if action.mail is not None:
        mail = action.mail
        return Letter(
            action_id,
            facts.email or "",
            render(mail.subject, context),
            render(mail.text, context),
            render(mail.html, context, html=True) if mail.html else None,
            url,
        )
    if action.channel == "slack":
        context = _plain(context)
    text = render(action.text, context) if action.text else ""
    data = {
        "contact_id": facts.contact_id,
        "user_id": facts.user_id,
        "external_ids": dict(facts.external_ids),
        "play": run.play,
        "step": action.action,
        "cause": run.cause,
        "entered_at": to_iso(run.entered_at),
        "text": text,
        "fields": {name: render(template, context) for name, template in action.data.items()},
    }
    if destination is None:  # the topic
        return Letter(action_id, "", text=text, data=data)
    if destination.crm is not None:
        data["crm"] = destination.crm
    return Letter(action_id, destination.url, text=text, data=data, secret=destination.secret)


def _plain(value: Any) -> Any:
    """Return what a template may say with the three characters escaped that Slack reads as markup: a name pings no channel."""
    if isinstance(value, str):
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def context_of(run: Run, facts: Facts, content: Item | None, unsubscribe_url: str) -> dict[str, Any]:
    """Return what templates may say."""
    stages = {cycle: {"stage": at.stage, "dormant": at.dormant, **at.axes} for cycle, at in facts.standings.items()}
    found: dict[str, Any] = {
        "contact": {**facts.traits, "id": facts.contact_id, "cycles": stages},
        "event": run.event,
        "play": run.play,
        "unsubscribe_url": unsubscribe_url,
    }
    if content is not None:
        found["content"] = content.model_dump(include={"content", "type", "title", "url", "summary"})
    return found
