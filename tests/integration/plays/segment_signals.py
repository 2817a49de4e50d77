"""Sweeps of segments and their signals, for tests."""

FRESH = "segment: fresh\npublish: true\nwhen: {seen: order_completed, within: 3d}"


async def sweep(orchestrator, now):
    """Run a sweep; return its signals as (signal, contact)."""
    return [(signal.signal, signal.contact_id) for signal in await orchestrator.sweep_at(now)]


async def own_signals(orchestrator):
    """Return the orchestrator's own signals as (signal, contact)."""
    return [
        (signal.signal, signal.contact_id) for signal in await orchestrator.consume_own_signals()
    ]
