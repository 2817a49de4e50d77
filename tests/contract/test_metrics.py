"""What is written about the metrics is so: the catalogue, the alerts, the dashboard."""

import importlib.util
import json
import re

import pytest
import yaml

from cli.home import PROJECT
from libs.common.observability import metrics_reference

DEPLOY = PROJECT / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]


def built():
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dashboard()


def names(expression):
    return set(re.findall(r"\bperigee_\w+", expression))


def test_every_metric_has_the_prefix_and_its_line_in_the_catalogue():
    assert all(name.startswith("perigee_") for name in metrics_reference.list_series())
    assert metrics_reference.PAGE.read_text() == metrics_reference.render_page(), (
        "run: python -m libs.common.observability.metrics_reference"
    )


def test_the_dashboard_is_the_one_of_the_code_and_every_metric_in_it_exists():
    dashboard = built()
    committed = json.loads((DEPLOY / "grafana" / "dashboards" / "perigee.json").read_text())
    assert committed == dashboard, "run: python deploy/grafana/build.py"
    used = {
        name
        for panel in dashboard["panels"]
        for q in panel.get("targets", ())
        for name in names(q["expr"])
    }
    assert used <= metrics_reference.list_series()
    assert len(used) >= 20


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_metrics_that_exist_and_names_its_cure(alert):
    assert names(alert["expr"]) <= metrics_reference.list_series()
    assert alert["annotations"].keys() == {"summary", "cure"}
    assert alert["labels"]["severity"] in ("page", "ticket")


def test_there_is_an_alert_for_each_thing_that_goes_wrong():
    watched = {name for alert in ALERTS for name in names(alert["expr"])}
    assert watched >= {
        "perigee_kafka_consumer_lag", "perigee_frontier_timestamp_seconds", "perigee_actions_in_doubt",
        "perigee_dead_letters_total", "perigee_fold_errors_open", "perigee_outbox_refused", "perigee_disk_free_bytes",
    }  # fmt: skip
