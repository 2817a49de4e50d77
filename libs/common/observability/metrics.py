"""The metrics, in one place and with one prefix: `docs/metrics.md` is made from here, by `catalogue`.

Counters and histograms are of one process; gauges marked "of all" say the same in every instance, since they are counted in the
database: take their maximum, not their sum.
"""

from prometheus_client import Counter, Gauge, Histogram

EVENTS_INGESTED = Counter(
    "perigee_events_ingested_total", "messages accepted at the door", ["source"]
)
EVENTS_REPEATED = Counter(
    "perigee_events_repeated_total",
    "messages that the door had accepted shortly before, not published again",
    ["source"],
)
EVENTS_REFUSED = Counter("perigee_events_refused_total", "messages refused at the door", ["reason"])
REQUESTS_REFUSED = Counter(
    "perigee_requests_refused_total",
    "tracking requests that were refused whole, by the code of the answer",
    ["code"],
)
TOUCHPOINTS_STORED = Counter("perigee_touchpoints_stored_total", "touchpoints stored by scoring")
TOUCHPOINTS_REPEATED = Counter("perigee_touchpoints_repeated_total", "repeats dropped by scoring")
DEAD_LETTERS = Counter(
    "perigee_dead_letters_total", "records that could not be processed", ["service", "reason"]
)
FENCED = Counter(
    "perigee_fenced_transactions_total", "transactions stopped by the offset fence", ["service"]
)
BATCH_SECONDS = Histogram(
    "perigee_batch_seconds", "time from a batch in hand to its commit", ["service"]
)
CONSUMER_LAG = Gauge(
    "perigee_kafka_consumer_lag",
    "records between the committed offset and the end",
    ["topic", "partition"],
)
FRONTIER = Gauge(
    "perigee_frontier_timestamp_seconds", "instant up to which timers may fire, seconds since 1970"
)
TIMERS_FIRED = Counter("perigee_timers_fired_total", "timers that came due and were looked at")
REFOLDS = Counter("perigee_refolds_total", "contacts folded again from the queue", ["reason"])
REFOLDS_WAITING = Gauge("perigee_refolds_waiting", "contacts that wait to be folded again, of all")
FOLD_ERRORS = Counter("perigee_fold_errors_total", "contacts whose fold raised an error", ["cycle"])
FOLD_ERRORS_OPEN = Gauge(
    "perigee_fold_errors_open", "contacts whose last fold raised an error, of all"
)
STAGE_CHANGES = Counter("perigee_stage_changes_total", "stage changes published", ["direction"])
RELAYED = Counter(
    "perigee_outbox_relayed_total", "outbox rows published and acknowledged", ["service"]
)
QUARANTINED = Counter(
    "perigee_outbox_quarantined_total", "outbox rows that the broker refused", ["service"]
)
OUTBOX_WAITING = Gauge(
    "perigee_outbox_waiting", "outbox rows that are not published yet, of all", ["service"]
)
OUTBOX_REFUSED = Gauge(
    "perigee_outbox_refused", "refused outbox rows that wait for an operator, of all", ["service"]
)
ACTIONS = Counter(
    "perigee_actions_total", "actions decided, by what became of them", ["channel", "status"]
)
ACTIONS_IN_DOUBT = Gauge(
    "perigee_actions_in_doubt", "actions of which nobody knows whether they went out, of all"
)
DELIVERIES = Counter(
    "perigee_channel_deliveries_total", "attempts to deliver", ["channel", "outcome"]
)
WEBHOOKS = Counter(
    "perigee_webhook_attempts_total", "attempts to deliver to subscribers' webhooks", ["outcome"]
)
WEBHOOKS_WAITING = Gauge(
    "perigee_webhook_messages_waiting", "messages that wait for a retry, of all"
)
SUBSCRIPTIONS = Gauge("perigee_webhook_subscriptions", "webhook subscriptions, of all", ["status"])
DATABASE_BYTES = Gauge("perigee_database_bytes", "size of the database, of all")
DISK_BYTES = Gauge(
    "perigee_disk_bytes", "size of the disk below a folder of this process", ["folder"]
)
DISK_FREE = Gauge("perigee_disk_free_bytes", "what is free of it", ["folder"])
