"""Unsubscribe endpoint, echo of sent touchpoints to the ingest API, and periodic jobs."""

import asyncio
import contextlib
import json

import httpx2
import pytest
from starlette.applications import Starlette

from libs.common.errors import Unavailable
from libs.common.ids import ContactId, WorkspaceId
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
        transport=httpx2.ASGITransport(app), base_url="http://orchestrator"
    ) as test_client:
        yield test_client


async def test_get_shows_form_and_changes_nothing(client, suppressed):
    answer = await client.get(f"/u/{sign_token(SECRET, 'c1', 'email')}")

    assert answer.status_code == 200
    assert "<form" in answer.text
    assert suppressed == []


async def test_one_click_post_unsubscribes_idempotently(client, suppressed):
    path = f"/u/{sign_token(SECRET, 'c1', 'email')}"

    for _ in range(2):
        answer = await client.post(path, data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
    assert set(suppressed) == {("c1", "email")}


@pytest.mark.parametrize("token", ["", "x", "a" * 300, "..", "%00"])
async def test_altered_link_is_404_and_changes_nothing(client, suppressed, token):
    valid_token = sign_token(SECRET, "c1", "email")

    for path in (
        f"/u/{token}",
        f"/u/{valid_token[:-4]}AAAA",
        f"/u/{sign_token('another-secret-16', 'c1', 'email')}",
    ):
        assert (await client.post(path)).status_code in (404, 405)
    assert suppressed == []


class FakeRows:
    """In-memory table of echoes; also its session and connection."""

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


def touchpoint_echo(rows, answer):
    def handler(request):
        return answer(request)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    return TouchpointEcho(rows, client, "http://ingest:1", "key")


async def test_echoes_are_deleted_after_ingest_accepts_them():
    rows = FakeRows([b'{"a":1}', b'{"b":2}'])
    requests = []

    def refuse(request):
        return httpx2.Response(503, text="later")

    def accept(request):
        requests.append((request.url.path, request.content, request.headers["authorization"]))
        return httpx2.Response(200, json={"success": True})

    with pytest.raises(Unavailable, match="503"):
        await touchpoint_echo(rows, refuse).send_waiting()

    assert len(rows.waiting) == 2
    assert not await touchpoint_echo(rows, accept).send_waiting()
    assert rows.waiting == {}
    assert requests[0][:2] == ("/v1/batch", b'{"batch":[{"a":1},{"b":2}]}')
    assert requests[0][2].startswith("Basic ")
    assert not await touchpoint_echo(rows, accept).send_waiting()


async def test_unreachable_ingest_is_unavailable():
    def fail(request):
        raise httpx2.ConnectError("refused")

    with pytest.raises(Unavailable, match="does not answer"):
        await touchpoint_echo(FakeRows([b"{}"]), fail).send_waiting()


ACTION = ActionRow(
    "act",
    "run",
    WorkspaceId("default"),
    ContactId("c1"),
    "welcome",
    "mail",
    "email",
    "",
    "pending",
    "cause",
    0,
)


@pytest.mark.parametrize(
    ("user_id", "anonymous_id", "expected"),
    [("u", "a", {"userId": "u"}), (None, "a", {"anonymousId": "a"}), (None, None, None)],
)
def test_sent_touchpoint_has_one_contact_id(user_id, anonymous_id, expected):
    body = sent_touchpoint(
        ACTION,
        ContactFacts("c1", user_id=user_id, anonymous_id=anonymous_id),
        1_780_000_000_000_000,
    )

    if expected is None:
        assert body is None
        return

    call = json.loads(body)

    assert {name: call[name] for name in expected} == expected
    assert len({"userId", "anonymousId"} & call.keys()) == 1
    assert call["messageId"] == "action-act"


def test_action_message_id_depends_on_attempt():
    first = action_message(
        ACTION, "c1", ActionOutcome("pending", "later", attempt=1, outcome="retried"), 1
    )
    second, repeated = (
        action_message(
            ACTION, "c1", ActionOutcome("sent", "ok", attempt=2, outcome="delivered"), now
        )
        for now in (2, 9)
    )

    ids = [dict(m.headers)["ce_id"] for m in (first, second, repeated)]

    assert ids[0] != ids[1] == ids[2]


async def test_job_repeats_while_busy_and_survives_unavailability():
    stop = asyncio.Event()
    outcomes = [True, True, Unavailable("away"), True, False]
    runs = []

    async def job():
        runs.append(1)
        if not outcomes:
            stop.set()
            return False
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    await asyncio.wait_for(run_periodically(stop, 0.01, job), 5)

    assert len(runs) == 6


async def test_unexpected_job_error_is_raised():
    async def job():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_periodically(asyncio.Event(), 0.01, job)
