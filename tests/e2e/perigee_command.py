"""Runs the `perigee` command in a clean environment, as a user's shell does."""

import asyncio
import json
import os
import subprocess

import asyncpg

from cli.home import PROJECT

PERIGEE = str(PROJECT / ".venv" / "bin" / "perigee")


def clean_environment(home, **more):
    dropped = ("PERIGEE_", "KAFKA_", "DATABASE_", "INGEST_", "WRITE_KEY")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return {**kept, "PERIGEE_HOME": str(home), **more}


def perigee(home, *arguments, check=True, **more):
    outcome = subprocess.run(
        [PERIGEE, *arguments],
        env=clean_environment(home, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert not check or outcome.returncode == 0, outcome.stderr
    return outcome


def services(home):
    return {s["name"]: s for s in json.loads(perigee(home, "status", "--json").stdout)["services"]}


def exports(home):
    lines = perigee(home, "env").stdout.splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


def execute_sql(home, statement):
    """Execute a statement on the instance's database."""

    async def execute():
        connection = await asyncpg.connect(exports(home)["DATABASE_URL"].strip("'"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute())
