"""The channels of an orchestrator, by the name that plays use."""

from libs.common.clock import Clock
from services.orchestrator.channels import Channel
from services.orchestrator.channels.crm_task import CrmTaskChannel
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.channels.http_channels import SlackChannel, TopicChannel, WebhookChannel
from services.orchestrator.webhooks.http_client import WebhookClient


def build_channels(
    smtp_url: str, sender: str, client: WebhookClient, clock: Clock
) -> dict[str, Channel]:
    """Return one channel for each name of `ChannelName`."""
    return {
        "email": EmailChannel(smtp_url, sender),
        "webhook": WebhookChannel(client, clock),
        "slack": SlackChannel(client),
        "crm_task": CrmTaskChannel(client, clock),
        "audience": WebhookChannel(client, clock, "perigee.audience.v1"),
        "kafka": TopicChannel(),
    }
