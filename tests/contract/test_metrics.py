"""Metrics reference, alerts and dashboard name existing metrics and are up to date."""

import importlib.util
import json
import re

import pytest
import yaml

from cli.home import PROJECT
from libs.common.observability import metrics_reference

DEPLOY = PROJECT / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]


def build_dashboard():
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dashboard()


def metric_names(expression):
    return set(re.findall(r"\bperigee_\w+", expression))


def test_metrics_reference_is_up_to_date():
    assert all(name.startswith("perigee_") for name in metrics_reference.list_series())
    assert metrics_reference.PAGE.read_text() == metrics_reference.render_page(), (
        "run: python -m libs.common.observability.metrics_reference"
    )


def test_dashboard_is_up_to_date_with_existing_metrics():
    dashboard = build_dashboard()

    committed = json.loads((DEPLOY / "grafana" / "dashboards" / "perigee.json").read_text())

    assert committed == dashboard, "run: python deploy/grafana/build.py"

    metrics = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in metric_names(target["expr"])
    }

    assert metrics <= metrics_reference.list_series()
    assert len(metrics) >= 20


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_names_existing_metrics_and_a_cure(alert):
    assert metric_names(alert["expr"]) <= metrics_reference.list_series()
    assert alert["annotations"].keys() == {"summary", "cure"}
    assert alert["labels"]["severity"] in ("page", "ticket")


def test_failure_metrics_have_alerts():
    watched = {name for alert in ALERTS for name in metric_names(alert["expr"])}

    assert watched >= {
        "perigee_kafka_consumer_lag",
        "perigee_frontier_timestamp_seconds",
        "perigee_actions_in_doubt",
        "perigee_dead_letters_total",
        "perigee_fold_errors_open",
        "perigee_outbox_refused",
        "perigee_disk_free_bytes",
    }
