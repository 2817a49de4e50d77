"""The Grafana dashboard as code: `python deploy/grafana/build.py` writes `dashboards/perigee.json`.

A test compares the file with this code.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "dashboards" / "perigee.json"
_SOURCE = {"type": "prometheus", "uid": "perigee-prometheus"}
_ROWS: list[tuple[str, list[tuple[str, str, list[tuple[str, str]]]]]] = [
    ("Health", [
        ("Consumer lag, records", "short", [
            ("sum by (topic) (perigee_kafka_consumer_lag)", "{{topic}}"),
        ]),
        ("Frontier behind the clock", "s", [
            ("time() - max(perigee_frontier_timestamp_seconds)", "frontier"),
        ]),
        ("Waits for an operator", "short", [
            ("max(perigee_actions_in_doubt)", "actions in doubt"),
            ("max by (service) (perigee_outbox_refused)", "refused by Kafka, {{service}}"),
            ("max(perigee_fold_errors_open)", "fold errors"),
            ('max(perigee_webhook_subscriptions{status="disabled"})', "disabled subscriptions"),
        ]),
    ]),
    ("Ingest", [
        ("Touchpoints a second", "short", [
            ("sum by (source) (rate(perigee_events_ingested_total[1m]))", "{{source}}"),
            ("sum(rate(perigee_touchpoints_stored_total[1m]))", "stored"),
        ]),
        ("Refused a second", "short", [
            ("sum by (reason) (rate(perigee_events_refused_total[1m]))", "{{reason}}"),
            ("sum by (service, reason) (rate(perigee_dead_letters_total[1m]))",
             "dead letter, {{service}}: {{reason}}"),
        ]),
        ("Duplicates a second", "short", [
            ("sum(rate(perigee_events_repeated_total[1m]))", "in ingest"),
            ("sum(rate(perigee_touchpoints_repeated_total[1m]))", "in scoring"),
        ]),
    ]),
    ("Scoring", [
        ("Stage changes a minute", "short", [
            ("60 * sum by (direction) (rate(perigee_stage_changes_total[5m]))", "{{direction}}"),
        ]),
        ("Batch duration, p50 and p99", "s", [
            (f"histogram_quantile({q}, sum by (le) (rate(perigee_batch_seconds_bucket[5m])))",
             f"p{q[2:]}")
            for q in ("0.50", "0.99")
        ]),
        ("Timers and re-folds a second", "short", [
            ("sum(rate(perigee_timers_fired_total[1m]))", "timers"),
            ("sum by (reason) (rate(perigee_refolds_total[1m]))", "re-fold: {{reason}}"),
            ("max(perigee_refolds_waiting)", "waiting"),
        ]),
    ]),
    ("Orchestration", [
        ("Actions a minute", "short", [
            ("60 * sum by (channel, status) (rate(perigee_actions_total[5m]))",
             "{{channel}}: {{status}}"),
        ]),
        ("Webhooks a second", "short", [
            ("sum by (outcome) (rate(perigee_webhook_attempts_total[1m]))", "{{outcome}}"),
            ("max(perigee_webhook_messages_waiting)", "waiting for a retry"),
        ]),
        ("Outbox, rows", "short", [
            ("max by (service) (perigee_outbox_waiting)", "waiting, {{service}}"),
            ("sum by (service) (rate(perigee_outbox_relayed_total[1m]))", "a second, {{service}}"),
        ]),
    ]),
    ("Infrastructure", [
        ("Database", "bytes", [("max(perigee_database_bytes)", "size")]),
        ("Disk free", "percentunit", [
            ("min by (folder) (perigee_disk_free_bytes / perigee_disk_bytes)", "{{folder}}"),
        ]),
        ("Fenced transactions a minute", "short", [
            ("60 * sum by (service) (rate(perigee_fenced_transactions_total[5m]))", "{{service}}"),
        ]),
    ]),
]  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON model: three panels a row."""
    panels: list[dict[str, Any]] = []
    for row_number, (title, row) in enumerate(_ROWS):
        top = row_number * 9
        panels.append({
            "id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
        })  # fmt: skip
        for column, (name, unit, queries) in enumerate(row):
            panels.append({
                "id": len(panels) + 1, "type": "timeseries", "title": name,
                "datasource": _SOURCE,
                "gridPos": {"x": column * 8, "y": top + 1, "w": 8, "h": 8},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(65 + number), "expr": expression, "legendFormat": legend,
                     "datasource": _SOURCE}
                    for number, (expression, legend) in enumerate(queries)
                ],
            })  # fmt: skip
    return {
        "uid": "perigee", "title": "Perigee", "tags": ["perigee"], "schemaVersion": 41,
        "version": 1, "editable": True, "timezone": "browser", "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"}, "panels": panels,
    }  # fmt: skip


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")
