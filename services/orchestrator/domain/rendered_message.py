"""What goes out: an action with its templates filled in, ready for its channel."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from libs.common.instants import to_iso
from libs.common.link_tokens import LinkRecipient
from services.orchestrator.domain.action import ActionSpec
from services.orchestrator.domain.ad_audience import audience_member_data as told_of
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.message_template import render_template


class RenderedMessage(msgspec.Struct, frozen=True):
    """A rendered action. `action_id` is the idempotency key towards whoever takes it."""

    action_id: str
    address: str
    subject: str = ""
    text: str = ""
    html: str | None = None
    unsubscribe_url: str = ""
    data: Mapping[str, Any] = {}
    secret: str = ""


class DeliveryResult(msgspec.Struct, frozen=True):
    """What came of an attempt: `again` may be retried, `unknown` may have arrived and is never sent again blindly.

    `pause` is how long the receiver asks us to wait (µs).
    """

    outcome: Literal["delivered", "again", "refused", "unknown"]
    detail: str
    pause: int | None = None
    gone: bool = False
    """Whether nothing will ever arrive there: the receiver says that there is no such address."""


def render_action(
    action_id: str,
    action: ActionSpec,
    run: Enrollment,
    facts: ContactFacts,
    content: ContentItem | None,
    destination: Destination | None,
    links: MessageLinks,
) -> RenderedMessage:
    """Fill in an action's templates. Raises InvalidMessage `template` naming what is missing."""
    context = template_context(run, facts, content, links, action.channel)
    if action.mail is not None:
        mail = action.mail
        person = _person(run.workspace, facts)
        told = {"utm_source": "perigee", "utm_medium": action.channel, "utm_campaign": run.play}
        told |= {"utm_content": content.content} if content is not None else {}
        html = render_template(mail.html, context, html=True) if mail.html else None
        return RenderedMessage(
            action_id,
            facts.email or "",
            render_template(mail.subject, context),
            links.tag_links(render_template(mail.text, context), person, told),
            links.tag_links(html, person, told, html=True) if html is not None else None,
            context["unsubscribe_url"],
        )
    if action.audience is not None:
        place = (destination.url, destination.secret) if destination else ("", "")
        return RenderedMessage(
            action_id, place[0], data=told_of(action.audience, facts), secret=place[1]
        )
    if action.channel == "slack":
        context = _plain(context)
    text = render_template(action.text, context) if action.text else ""
    data = {
        "contact_id": facts.contact_id,
        "user_id": facts.user_id,
        "external_ids": dict(facts.external_ids),
        "play": run.play,
        "step": action.action,
        "cause": run.cause,
        "entered_at": to_iso(run.entered_at),
        "text": text,
        "fields": {
            name: render_template(template, context) for name, template in action.data.items()
        },
    }
    if destination is None:  # the topic
        return RenderedMessage(action_id, "", text=text, data=data)
    if destination.crm is not None:
        data["crm"] = destination.crm
    return RenderedMessage(
        action_id, destination.url, text=text, data=data, secret=destination.secret
    )


def _person(workspace: str, facts: ContactFacts) -> LinkRecipient:
    """Return for whom links are made: a user, or else whoever has the address."""
    if facts.user_id is None:
        return LinkRecipient(workspace, None, facts.email)
    verified = facts.email is not None and facts.email.strip().lower() in facts.verified_emails
    return LinkRecipient(workspace, facts.user_id, verified=verified)


def _plain(value: Any) -> Any:
    """Return what a template may say with the three characters escaped that Slack reads as markup: a name pings no channel."""
    if isinstance(value, str):
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def template_context(
    run: Enrollment,
    facts: ContactFacts,
    content: ContentItem | None,
    links: MessageLinks,
    channel: str,
) -> dict[str, Any]:
    """Return what templates may say."""
    code = links.referral_code(run.workspace, facts.contact_id)
    stages = {
        cycle: {"stage": at.stage, "dormant": at.dormant, **at.axes}
        for cycle, at in facts.standings.items()
    }
    found: dict[str, Any] = {
        "contact": {**facts.traits, "id": facts.contact_id, "cycles": stages},
        "event": run.event,
        "play": run.play,
        "unsubscribe_url": links.unsubscribe_url(facts.contact_id, channel),
        "referral_code": code,
        "referral_url": links.referral_url(code),
    }
    if content is not None:
        told = content.model_dump(include={"content", "type", "title", "url", "summary"})
        found["content"] = {**told, "url": links.absolute_url(content.url)}
    return found


def message_contains(letter: RenderedMessage, words: str) -> bool:
    """Return whether a letter says these words anywhere."""
    fields = letter.data.get("fields", {}).values()
    return any(words in text for text in (letter.subject, letter.text, letter.html or "", *fields))
