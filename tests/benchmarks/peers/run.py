"""The fold in Perigee, Quix Streams and Faust, alternating on one topic; writes docs/benchmarks.md.

The peers run in environments of `make bench-peers`. They run the fold and a state store with a
changelog; Perigee runs all of scoring: identity, deduplication, transitions, outbox, durable in
PostgreSQL.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys

from cli.home import PROJECT
from libs.common.service_runner import tune_garbage_collector
from tests.benchmarks.report import write
from tests.benchmarks.scoring_runs import fill, scoring, touchpoints
from tests.support.servers import find_servers

PEERS = {"Quix Streams": ("quix", 60_000), "Faust": ("faust_app", 15_000)}


def peer(name: str, broker: str) -> float:
    """Run a peer in its own environment; return its records a second."""
    module, count = PEERS[name]
    python = os.environ[f"BENCH_{module.split('_')[0].upper()}"]
    outcome = subprocess.run(
        [python, "-m", f"tests.benchmarks.peers.{module}", broker, str(count)],
        cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    lines = [line for line in outcome.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{name} printed no result: {outcome.stderr[-2_000:]}")
    return float(json.loads(lines[-1])["rate"])


async def main() -> None:
    """Run the rounds and write them to the page."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    tune_garbage_collector()
    servers = await asyncio.to_thread(find_servers)
    rates: dict[str, list[float]] = {"Perigee": [], **{name: [] for name in PEERS}}
    try:
        await fill(servers, touchpoints(60_000, 5_000))
        for number in range(rounds):
            rates["Perigee"].append((await scoring(servers, 60_000))[0].rate)
            for name in PEERS:
                rates[name].append(await asyncio.to_thread(peer, name, servers.kafka))
            print(
                f"round {number + 1}/{rounds}: { {n: round(r[-1]) for n, r in rates.items()} }",
                file=sys.stderr,
            )
    finally:
        await asyncio.to_thread(servers.stop)
    median = {name: statistics.median(peer_rates) for name, peer_rates in rates.items()}
    lines = ["| the same fold | touchpoints/s | Perigee is faster by |", "|---|---|---|"]
    lines += [
        f"| {name} | {rate:,.0f} | {median['Perigee'] / rate:.1f} x |"
        for name, rate in median.items()
    ]
    write("peers", "\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main())
