"""The sample consumers follow a real Perigee while they are killed: each ends where scoring says that everybody stands."""

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
PEOPLE, KILLS = 40, 4


def calls(chance, turn):
    """What people do in a turn: move on, and now and then turn out to be one."""
    found = []
    for number in range(60):
        who = f"u{chance.randrange(PEOPLE)}"
        event = chance.choice(
            ["Order Completed", "Quote Requested", "Pricing Viewed", "Content Downloaded"]
        )
        found.append(
            {"type": "track", "event": event, "userId": who, "messageId": f"{turn}-{number}"}
        )
    one, other = chance.sample(range(PEOPLE), 2)
    found.append(
        {
            "type": "alias",
            "userId": f"u{one}",
            "previousId": f"u{other}",
            "messageId": f"{turn}-alias",
        }
    )
    return found


async def run(command, *arguments):
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said.decode()[-2_000:]


async def standing(database):
    """Where scoring has published that everybody stands who was not merged into somebody else."""
    connection = await connect(database, application="test")
    rows = await connection.fetch(
        "SELECT contact_id, p.cycle, p.stage, p.sequence FROM scoring.publications p JOIN scoring.contacts c "
        "USING (contact_id) WHERE c.merged_into IS NULL"
    )
    await connection.close()
    return {(r[0], r[1]): (r[2], r[3]) for r in rows}


async def test_followers_that_are_killed_know_where_everybody_stands(
    instance, servers, database, tmp_path
):
    chance = random.Random(choose_seed())
    await put_source(instance.environment, "back-end", "key-of-back-end", "server")
    key = await instance.create_source("back-end")
    shutil.copy(EXAMPLES / "follow.mjs", tmp_path / "follow.mjs")
    (tmp_path / "node_modules").symlink_to(MODULES)
    crm, file = tmp_path / "crm.sqlite", tmp_path / "crm.json"
    followers = [
        ([sys.executable, str(EXAMPLES / "follow.py"), servers.kafka, str(crm)]),
        (["node", str(tmp_path / "follow.mjs"), servers.kafka, str(file)]),
    ]
    await instance.send(key, calls(chance, "before"))
    for turn in range(KILLS):
        going = [await asyncio.create_subprocess_exec(*command) for command in followers]
        for part in range(4):
            await instance.send(key, calls(chance, f"{turn}-{part}"))
            await last(chance.random())
        for process in going:
            process.kill()
            await process.wait()
    await instance.send(key, calls(chance, "after"))
    await instance.wait_until_idle()
    await asyncio.gather(*(run(command, "--once") for command in followers))
    expected = await standing(database)
    with sqlite3.connect(crm) as found:
        rows = found.execute("SELECT contact, cycle, stage, sequence FROM people").fetchall()
        assert {(r[0], r[1]): (r[2], r[3]) for r in rows} == expected
        ids = found.execute("SELECT count(*), count(DISTINCT id) FROM history").fetchone()
        assert ids[0] == ids[1] > PEOPLE
    people = json.loads(file.read_text())["people"]
    assert {
        tuple(who.split(" ")): (at["stage"], at["sequence"]) for who, at in people.items()
    } == expected
