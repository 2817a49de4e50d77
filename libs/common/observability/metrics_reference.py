"""`docs/metrics.md`, made from the metrics themselves. `python -m libs.common.observability.metrics_reference` writes it."""

from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from libs.common.observability import metrics

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def list_metrics() -> list[MetricWrapperBase]:
    """Return the metrics in the order in which they are declared."""
    return [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]


def _described(one: MetricWrapperBase) -> Metric:
    (found,) = one.describe()
    return found


def list_series() -> set[str]:
    """Return the names of every series that `/metrics` can have."""
    found = map(_described, list_metrics())
    return {metric.name + suffix for metric in found for suffix in _SUFFIXES[metric.type]}


def render_page() -> str:
    """Return the page, in Markdown."""
    lines = [
        "# Metrics",
        "",
        "Made by `python -m libs.common.observability.metrics_reference`; do not edit. Each service answers at `/metrics`, which the",
        'proxy shows to nobody outside. Gauges "of all" are counted in the database, so every instance says the same.',
        "Alerts: `deploy/prometheus/alerts.yml`; a dashboard: `deploy/grafana/dashboards/perigee.json`.",
        "",
        "| metric | type | labels | |",
        "|---|---|---|---|",
    ]
    for one in list_metrics():
        found = _described(one)
        name = found.name + ("_total" if found.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in one._labelnames)  # noqa: SLF001
        lines.append(f"| `{name}` | {found.type} | {labels} | {found.documentation} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render_page())
