"""Sample subscribers are killed while they follow an instance, and end with scoring's stages."""

import asyncio
import json
import random
import shutil
import sqlite3
import sys

from cli.home import PROJECT
from cli.preparation import put_source
from libs.common.db.connection import connect
from tests.support.progress import choose_seed
from tests.support.waiting import last

EXAMPLES = PROJECT / "examples" / "subscribers"
MODULES = PROJECT / "tests" / "sdks" / "node" / "node_modules"
CONTACTS, KILLS = 40, 4


def calls(chance, prefix):
    """Return calls that move stages, and an alias that merges two contacts."""
    tracking_calls = []
    for number in range(60):
        user_id = f"u{chance.randrange(CONTACTS)}"
        event = chance.choice(
            ["Order Completed", "Quote Requested", "Pricing Viewed", "Content Downloaded"]
        )
        tracking_calls.append(
            {"type": "track", "event": event, "userId": user_id, "messageId": f"{prefix}-{number}"}
        )
    user, previous = chance.sample(range(CONTACTS), 2)
    tracking_calls.append(
        {
            "type": "alias",
            "userId": f"u{user}",
            "previousId": f"u{previous}",
            "messageId": f"{prefix}-alias",
        }
    )
    return tracking_calls


async def run(command, *arguments):
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, output.decode()[-2_000:]


async def published_stages(database):
    """Return the published stages of all contacts that were not merged into another."""
    connection = await connect(database, application="test")
    rows = await connection.fetch(
        "SELECT contact_id, p.cycle, p.stage, p.sequence FROM scoring.publications p "
        "JOIN scoring.contacts c USING (contact_id) WHERE c.merged_into IS NULL"
    )
    await connection.close()
    return {(r[0], r[1]): (r[2], r[3]) for r in rows}


async def test_killed_followers_end_with_published_stages(instance, database, tmp_path):
    chance = random.Random(choose_seed())
    await put_source(instance.environment, "back-end", "key-of-back-end", "server")
    key = await instance.create_source("back-end")
    shutil.copy(EXAMPLES / "follow.mjs", tmp_path / "follow.mjs")
    (tmp_path / "node_modules").symlink_to(MODULES)
    crm, file = tmp_path / "crm.sqlite", tmp_path / "crm.json"
    followers = [
        ([sys.executable, str(EXAMPLES / "follow.py"), instance.servers.kafka, str(crm)]),
        (["node", str(tmp_path / "follow.mjs"), instance.servers.kafka, str(file)]),
    ]
    await instance.send(key, calls(chance, "before"))
    for round_number in range(KILLS):
        processes = [await asyncio.create_subprocess_exec(*command) for command in followers]
        for part in range(4):
            await instance.send(key, calls(chance, f"{round_number}-{part}"))
            await last(chance.random())
        for process in processes:
            process.kill()
            await process.wait()
    await instance.send(key, calls(chance, "after"))
    await instance.wait_until_idle()
    await asyncio.gather(*(run(command, "--once") for command in followers))
    expected = await published_stages(database)
    with sqlite3.connect(crm) as crm_database:
        rows = crm_database.execute("SELECT contact, cycle, stage, sequence FROM people").fetchall()
        assert {(r[0], r[1]): (r[2], r[3]) for r in rows} == expected
        ids = crm_database.execute("SELECT count(*), count(DISTINCT id) FROM history").fetchone()
        assert ids[0] == ids[1] > CONTACTS

    stages = json.loads(file.read_text())["people"]

    assert {
        tuple(key_of_stage.split(" ")): (state["stage"], state["sequence"])
        for key_of_stage, state in stages.items()
    } == expected
