"""The metrics, in one place and with one prefix, so that the catalogue in the docs cannot drift."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS_INGESTED = Counter("perigee_events_ingested_total", "messages accepted at the door", ["source"])
EVENTS_REPEATED = Counter(
    "perigee_events_repeated_total",
    "Messages that the door had accepted shortly before, not published again",
    ["source"],
)
EVENTS_REFUSED = Counter("perigee_events_refused_total", "messages refused at the door", ["reason"])
TOUCHPOINTS_STORED = Counter("perigee_touchpoints_stored_total", "touchpoints stored by scoring")
TOUCHPOINTS_REPEATED = Counter("perigee_touchpoints_repeated_total", "repeats dropped by scoring")
DEAD_LETTERS = Counter("perigee_dead_letters_total", "records that could not be processed", ["service", "reason"])
FENCED = Counter("perigee_fenced_transactions_total", "transactions stopped by the offset fence", ["service"])
BATCH_SECONDS = Histogram("perigee_batch_seconds", "time from a batch in hand to its commit", ["service"])
CONSUMER_LAG = Gauge(
    "perigee_kafka_consumer_lag", "records between the committed offset and the end", ["topic", "partition"]
)
FRONTIER = Gauge("perigee_frontier_seconds", "instant up to which timers may fire, seconds since 1970")
TIMERS_FIRED = Counter("perigee_timers_fired_total", "timers that came due and were looked at")
REFOLDS = Counter("perigee_refolds_total", "contacts folded again from the queue", ["reason"])
FOLD_ERRORS = Counter("perigee_fold_errors_total", "contacts whose fold raised an error", ["cycle"])
STAGE_CHANGES = Counter("perigee_stage_changes_total", "stage changes published", ["direction"])
RELAYED = Counter("perigee_outbox_relayed_total", "outbox rows published and acknowledged", ["service"])
QUARANTINED = Counter("perigee_outbox_quarantined_total", "outbox rows that the broker refused", ["service"])
ACTIONS = Counter("perigee_actions_total", "actions decided, by what became of them", ["channel", "status"])
WEBHOOKS = Counter("perigee_webhook_attempts_total", "attempts to deliver to subscribers' webhooks", ["outcome"])
DELIVERIES = Counter("perigee_channel_deliveries_total", "attempts to deliver", ["channel", "outcome"])
