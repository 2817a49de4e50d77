"""Sends the expected calls with a Python library: `python -m tests.sdks.python.calls MODULE`.

MODULE has a `Client`.
"""

import importlib
import os
import sys

from tests.sdks.expected import ANONYMOUS, ORDER, PINGS, TRAITS, USER

client_class = importlib.import_module(sys.argv[1]).Client
client = client_class(
    os.environ["PERIGEE_KEY"],
    host=os.environ["PERIGEE_HOST"],
    upload_size=10,
    gzip=True,
    max_retries=8,
)
client.identify(USER, TRAITS, anonymous_id=ANONYMOUS)
client.track(USER, "Order Completed", ORDER)
client.page(USER, name="Home", properties={"path": "/"})
client.screen(USER, name="Start")
client.group(USER, "acme", {"name": "Acme"})
client.alias("old-ada", USER)
for n in PINGS:
    client.track(USER, "Ping", {"n": n})
client.shutdown()
