"""What everything that decides needs beside its own connection."""

import asyncio

import msgspec

from libs.common.clock import Clock
from libs.common.db.outbox import Outbox
from services.orchestrator.handlers.playbook import Playbook


class Means(msgspec.Struct, frozen=True):
    """The outbox, the plays of now, the clock; `wake` is set when something new is due."""

    outbox: Outbox
    playbook: Playbook
    clock: Clock
    wake: asyncio.Event
