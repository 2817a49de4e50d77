"""Registry of the adapters that a source can have, by name."""

from services.ingest.adapters import (
    generic_webhook,
    hubspot,
    interview,
    mailgun,
    market,
    postmark,
    resend,
    salesforce,
    sendgrid,
    social,
)

ADAPTERS = {
    "webhook": generic_webhook.ADAPTER,
    "mailgun": mailgun.ADAPTER,
    "postmark": postmark.ADAPTER,
    "resend": resend.ADAPTER,
    "sendgrid": sendgrid.ADAPTER,
    "hubspot": hubspot.ADAPTER,
    "salesforce": salesforce.ADAPTER,
    "social": social.ADAPTER,
    "market": market.ADAPTER,
    "interview": interview.ADAPTER,
}
