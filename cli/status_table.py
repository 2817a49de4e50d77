"""Tables for a terminal."""

from typing import Any

from rich.table import Table


def status_table(services: list[dict[str, Any]]) -> Table:
    """Return the processes as a table."""
    table = Table("service", "pid", "ready", "address")
    for service in services:
        ready = "[green]yes[/]" if service["ready"] else "[red]no[/]"
        table.add_row(service["name"], str(service["pid"] or "-"), ready, service["url"])
    return table
