"""Rendered messages: actions with rendered templates, ready for their channel."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from libs.common.ids import WorkspaceId
from libs.common.instants import to_iso
from libs.common.link_tokens import LinkRecipient
from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.ad_audience import audience_member_data
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.message_template import render_template


class RenderedMessage(msgspec.Struct, frozen=True):
    """A rendered action. `action_id` is the idempotency key towards the receiver."""

    action_id: str
    address: str
    subject: str = ""
    text: str = ""
    html: str | None = None
    unsubscribe_url: str = ""
    data: Mapping[str, Any] = {}
    secret: str = ""


class DeliveryResult(msgspec.Struct, frozen=True):
    """The result of a delivery attempt.

    `again` may be retried; `unknown` may have arrived and is in doubt, never sent again blindly.
    `pause` is the wait that the receiver asks for (µs).
    """

    outcome: Literal["delivered", "again", "refused", "unknown"]
    detail: str
    pause: int | None = None
    gone: bool = False
    """Whether the receiver reports that the address does not exist."""


def render_action(
    action_id: str,
    action: ActionSpec,
    enrollment: Enrollment,
    facts: ContactFacts,
    content: ContentItem | None,
    destination: Destination | None,
    links: MessageLinks,
) -> RenderedMessage:
    """Render an action's templates.

    Raises InvalidMessage `template` naming the missing variable.
    """
    context = template_context(enrollment, facts, content, links, action.channel)
    if action.mail is not None:
        mail = action.mail
        recipient = _link_recipient(enrollment.workspace, facts)
        utm = {"utm_source": "perigee", "utm_medium": action.channel}
        utm["utm_campaign"] = enrollment.play
        utm |= {"utm_content": content.content} if content is not None else {}
        html = render_template(mail.html, context, html=True) if mail.html else None
        return RenderedMessage(
            action_id,
            facts.email or "",
            render_template(mail.subject, context),
            links.tag_links(render_template(mail.text, context), recipient, utm),
            links.tag_links(html, recipient, utm, html=True) if html is not None else None,
            context["unsubscribe_url"],
        )
    if action.audience is not None:
        url, secret = (destination.url, destination.secret) if destination else ("", "")
        member = audience_member_data(action.audience, facts)
        return RenderedMessage(action_id, url, data=member, secret=secret)
    if action.channel == "slack":
        context = _escape_slack_markup(context)
    text = render_template(action.text, context) if action.text else ""
    data = {
        "contact_id": facts.contact_id,
        "user_id": facts.user_id,
        "external_ids": dict(facts.external_ids),
        "play": enrollment.play,
        "step": action.action,
        "cause": enrollment.cause,
        "entered_at": to_iso(enrollment.entered_at),
        "text": text,
        "fields": {
            name: render_template(template, context) for name, template in action.data.items()
        },
    }
    if destination is None:  # the topic `actions`
        return RenderedMessage(action_id, "", text=text, data=data)
    if destination.crm is not None:
        data["crm"] = destination.crm
    return RenderedMessage(
        action_id, destination.url, text=text, data=data, secret=destination.secret
    )


def _link_recipient(workspace: WorkspaceId, facts: ContactFacts) -> LinkRecipient:
    """Return the recipient of links: the user, or the owner of the address if there is none."""
    if facts.user_id is None:
        return LinkRecipient(workspace, None, facts.email)
    verified = facts.email is not None and facts.email.strip().lower() in facts.verified_emails
    return LinkRecipient(workspace, facts.user_id, verified=verified)


def _escape_slack_markup(value: Any) -> Any:
    """Return template data with `&`, `<`, `>` escaped, so that no trait can mention a channel."""
    if isinstance(value, str):
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if isinstance(value, Mapping):
        return {name: _escape_slack_markup(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_escape_slack_markup(part) for part in value]
    return value


def template_context(
    enrollment: Enrollment,
    facts: ContactFacts,
    content: ContentItem | None,
    links: MessageLinks,
    channel: str,
) -> dict[str, Any]:
    """Return the variables of templates."""
    code = links.referral_code(enrollment.workspace, facts.contact_id)
    stages = {
        cycle: {"stage": at.stage, "dormant": at.dormant, **at.axes}
        for cycle, at in facts.standings.items()
    }
    context: dict[str, Any] = {
        "contact": {**facts.traits, "id": facts.contact_id, "cycles": stages},
        "event": enrollment.event,
        "play": enrollment.play,
        "unsubscribe_url": links.unsubscribe_url(facts.contact_id, channel),
        "referral_code": code,
        "referral_url": links.referral_url(code),
    }
    if content is not None:
        fields = content.model_dump(include={"content", "type", "title", "url", "summary"})
        context["content"] = {**fields, "url": links.absolute_url(content.url)}
    return context


def message_contains(message: RenderedMessage, text: str) -> bool:
    """Return whether the subject, the text, the HTML or a field contains a text."""
    fields = message.data.get("fields", {}).values()
    parts = (message.subject, message.text, message.html or "", *fields)
    return any(text in part for part in parts)
