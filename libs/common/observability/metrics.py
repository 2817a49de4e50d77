"""All Prometheus metrics, with one prefix; `metrics_reference` generates `docs/metrics.md`.

Counters and histograms belong to one process. Gauges with "all instances" are counted in the
database, so every instance exposes the same value: take their maximum, not their sum.
"""

from prometheus_client import Counter, Gauge, Histogram

EVENTS_INGESTED = Counter(
    "perigee_events_ingested_total", "messages accepted by the ingest API", ["source"]
)
EVENTS_REPEATED = Counter(
    "perigee_events_repeated_total",
    "messages in the deduplication window, not published again",
    ["source"],
)
EVENTS_REFUSED = Counter(
    "perigee_events_refused_total", "messages refused by the ingest API", ["reason"]
)
REQUESTS_REFUSED = Counter(
    "perigee_requests_refused_total",
    "tracking requests refused as a whole, by error code",
    ["code"],
)
TOUCHPOINTS_STORED = Counter("perigee_touchpoints_stored_total", "touchpoints stored by scoring")
TOUCHPOINTS_REPEATED = Counter(
    "perigee_touchpoints_repeated_total", "repeated touchpoints dropped by scoring"
)
DEAD_LETTERS = Counter(
    "perigee_dead_letters_total", "records written to a dead-letter queue", ["service", "reason"]
)
IDENTITY_RESOLUTIONS = Counter(
    "perigee_identity_resolutions_total",
    "times that scoring resolved the identities of a batch; more than batches where workers meet",
)
FENCED = Counter(
    "perigee_fenced_transactions_total", "transactions stopped by the offset fence", ["service"]
)
BATCH_SECONDS = Histogram(
    "perigee_batch_seconds", "time from receiving a batch to its commit", ["service"]
)
CONSUMER_LAG = Gauge(
    "perigee_kafka_consumer_lag",
    "records between the committed offset and the end of the partition",
    ["topic", "partition"],
)
FRONTIER = Gauge(
    "perigee_frontier_timestamp_seconds", "instant up to which timers may fire, seconds since 1970"
)
TIMERS_FIRED = Counter("perigee_timers_fired_total", "due timers that were processed")
REFOLDS = Counter(
    "perigee_refolds_total", "contacts folded again from the refold queue", ["reason"]
)
REFOLDS_WAITING = Gauge("perigee_refolds_waiting", "contacts in the refold queue, all instances")
FOLD_ERRORS = Counter("perigee_fold_errors_total", "contacts whose fold raised an error", ["cycle"])
FOLD_ERRORS_OPEN = Gauge(
    "perigee_fold_errors_open", "contacts whose last fold raised an error, all instances"
)
STAGE_CHANGES = Counter("perigee_stage_changes_total", "stage changes published", ["direction"])
RELAYED = Counter(
    "perigee_outbox_relayed_total", "outbox rows published and acknowledged", ["service"]
)
QUARANTINED = Counter(
    "perigee_outbox_quarantined_total",
    "outbox rows quarantined because the broker refused them",
    ["service"],
)
OUTBOX_WAITING = Gauge(
    "perigee_outbox_waiting", "outbox rows that are not published yet, all instances", ["service"]
)
OUTBOX_REFUSED = Gauge(
    "perigee_outbox_refused",
    "quarantined outbox rows that wait for an operator, all instances",
    ["service"],
)
ACTIONS = Counter("perigee_actions_total", "actions decided, by status", ["channel", "status"])
ACTIONS_IN_DOUBT = Gauge(
    "perigee_actions_in_doubt", "actions with an unknown delivery outcome, all instances"
)
DELIVERIES = Counter(
    "perigee_channel_deliveries_total", "delivery attempts of channels", ["channel", "outcome"]
)
WEBHOOKS = Counter(
    "perigee_webhook_attempts_total", "delivery attempts to subscribers' webhooks", ["outcome"]
)
WEBHOOKS_WAITING = Gauge(
    "perigee_webhook_messages_waiting", "webhook messages that wait for a retry, all instances"
)
SUBSCRIPTIONS = Gauge(
    "perigee_webhook_subscriptions", "webhook subscriptions, all instances", ["status"]
)
DATABASE_BYTES = Gauge("perigee_database_bytes", "size of the database, all instances")
DISK_BYTES = Gauge("perigee_disk_bytes", "size of the file system that has the folder", ["folder"])
DISK_FREE = Gauge(
    "perigee_disk_free_bytes", "free bytes on the file system that has the folder", ["folder"]
)
