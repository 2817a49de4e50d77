"""The orchestrator's doors: unsubscribe links, and our own touchpoints on their way back."""

import asyncio
import contextlib

import httpx2
import pytest
from starlette.applications import Starlette

from libs.common.errors import Unavailable
from libs.common.service_runner import run_periodically
from services.orchestrator.api.unsubscribe import unsubscribe_route
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.unsubscribe_token import sign_token
from services.orchestrator.handlers.action_messages import action_message, sent_touchpoint
from services.orchestrator.handlers.touchpoint_echo import TouchpointEcho
from services.orchestrator.repository.actions import ActionOutcome, ActionRow

SECRET = "a-secret-for-tests"


@pytest.fixture
def suppressed():
    return []


@pytest.fixture
async def client(suppressed):
    async def suppress(contact_id, channel):
        suppressed.append((contact_id, channel))

    app = Starlette(routes=[unsubscribe_route(SECRET, suppress)])
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://door"
    ) as found:
        yield found


async def test_get_shows_a_page_and_changes_nothing(client, suppressed):
    answer = await client.get(f"/u/{sign_token(SECRET, 'c1', 'email')}")
    assert answer.status_code == 200
    assert "<form" in answer.text
    assert suppressed == []


async def test_one_click_post_unsubscribes_and_may_be_repeated(client, suppressed):
    path = f"/u/{sign_token(SECRET, 'c1', 'email')}"
    for _ in range(2):
        answer = await client.post(path, data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
    assert set(suppressed) == {("c1", "email")}


@pytest.mark.parametrize("token", ["", "x", "a" * 300, "..", "%00"])
async def test_a_bent_link_is_404_and_changes_nothing(client, suppressed, token):
    genuine = sign_token(SECRET, "c1", "email")
    for path in (
        f"/u/{token}",
        f"/u/{genuine[:-4]}AAAA",
        f"/u/{sign_token('another-secret-16', 'c1', 'email')}",
    ):
        assert (await client.post(path)).status_code in (404, 405)
    assert suppressed == []


class FakeRows:
    """Stands in for the echoes table."""

    def __init__(self, bodies):
        self.waiting = dict(enumerate(bodies))

    @contextlib.asynccontextmanager
    async def acquire(self):
        yield self

    async def fetch(self, query, limit):
        return list(self.waiting.items())[:limit]

    async def execute(self, query, done):
        for number in done:
            del self.waiting[number]


def echo(rows, answer):
    def handler(request):
        return answer(request)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    return TouchpointEcho(rows, client, "http://ingest:1", "key")


async def test_touchpoints_are_forgotten_only_when_the_door_has_them():
    rows = FakeRows([b'{"a":1}', b'{"b":2}'])
    seen = []

    def refuse(request):
        return httpx2.Response(503, text="later")

    def accept(request):
        seen.append((request.url.path, request.content, request.headers["authorization"]))
        return httpx2.Response(200, json={"success": True})

    with pytest.raises(Unavailable, match="503"):
        await echo(rows, refuse).send_waiting()
    assert len(rows.waiting) == 2
    assert not await echo(rows, accept).send_waiting()
    assert rows.waiting == {}
    assert seen[0][:2] == ("/v1/batch", b'{"batch":[{"a":1},{"b":2}]}')
    assert seen[0][2].startswith("Basic ")
    assert not await echo(rows, accept).send_waiting()


async def test_a_door_that_is_away_is_unavailable():
    def broken(request):
        raise httpx2.ConnectError("refused")

    with pytest.raises(Unavailable, match="does not answer"):
        await echo(FakeRows([b"{}"]), broken).send_waiting()


ACTION = ActionRow(
    "act", "run", "default", "c1", "welcome", "mail", "email", "", "pending", "cause", 0
)


@pytest.mark.parametrize(
    ("user", "device", "expected"),
    [("u", "a", {"userId": "u"}), (None, "a", {"anonymousId": "a"}), (None, None, None)],
)
def test_what_was_sent_returns_under_an_id_the_contact_has(user, device, expected):
    body = sent_touchpoint(
        ACTION, ContactFacts("c1", user_id=user, anonymous_id=device), 1_780_000_000_000_000
    )
    if expected is None:
        assert body is None
        return
    import json

    call = json.loads(body)
    assert {k: call[k] for k in expected} == expected
    assert len({"userId", "anonymousId"} & call.keys()) == 1
    assert call["messageId"] == "action-act"


def test_an_actions_messages_have_ids_of_their_own():
    first = action_message(
        ACTION, "c1", ActionOutcome("pending", "later", attempt=1, outcome="retried"), 1
    )
    second, again = (
        action_message(
            ACTION, "c1", ActionOutcome("sent", "ok", attempt=2, outcome="delivered"), now
        )
        for now in (2, 9)
    )
    ids = [dict(m.headers)["ce_id"] for m in (first, second, again)]
    assert ids[0] != ids[1] == ids[2]


async def test_a_job_runs_again_at_once_while_there_is_more_and_outlives_a_passing_fault():
    stop = asyncio.Event()
    script = [True, True, Unavailable("away"), True, False]
    runs = []

    async def job():
        runs.append(1)
        if not script:
            stop.set()
            return False
        step = script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    await asyncio.wait_for(run_periodically(stop, 0.01, job), 5)
    assert len(runs) == 6


async def test_a_job_that_is_broken_ends_the_process():
    async def job():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_periodically(asyncio.Event(), 0.01, job)
