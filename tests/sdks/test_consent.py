"""Tracker's storage and requests before, with and without consent, in headless Chromium.

`make test-sdks` runs these tests.
"""

import pytest

from tests.sdks.expected import types_and_names

pytestmark = pytest.mark.timeout(180)


async def test_anonymous_id_persists_until_reset(shop):
    page = await shop.open()
    first_id = await page.evaluate("perigee.anonymousId()")
    await page.evaluate("perigee.identify('u-1', {plan: 'pro'})")
    await page.evaluate("perigee.group('acme')")
    await page.close()
    page = await shop.open("/next.html")
    await page.evaluate("perigee.push(['track', 'Seen', {n: 1}])")

    touchpoints = await shop.sent(5)

    assert {t.anonymous_id for t in touchpoints} == {first_id}
    assert (touchpoints[-1].user_id, touchpoints[-1].group_id, touchpoints[-1].properties) == (
        "u-1",
        "acme",
        {"n": 1},
    )

    await page.evaluate("perigee.reset(); perigee.track('After')")
    after = (await shop.sent(6))[-1]

    assert (after.user_id, after.group_id) == (None, None)
    assert after.anonymous_id not in (None, first_id)


@pytest.mark.parametrize("rule", ["drop", "keep"])
async def test_tracker_waits_for_consent(shop, rule):
    shop.write(f"data-consent={rule}")
    page = await shop.open()
    await page.evaluate("perigee.identify('u-1', {email: 'ada@x.test'}); perigee.track('Before')")
    await page.wait_for_timeout(2_500)

    before = await shop.sent(0)

    assert types_and_names(before) == (
        [] if rule == "drop" else [("page", ""), ("identify", ""), ("track", "Before")]
    )
    assert all(t.user_id is None and not t.traits for t in before)
    assert await page.evaluate("Object.keys(localStorage)") == []

    await page.evaluate("perigee.consent({analytics: true, email: false}); perigee.track('After')")
    touchpoints = await shop.sent(len(before) + 2)
    after = touchpoints[len(before) :]
    assert len({t.anonymous_id for t in touchpoints}) == 1
    assert {tuple(t.consent.items()) for t in after if t.type != "page"} == {
        (("analytics", True), ("email", False))
    }

    kept = await page.evaluate("Object.keys(localStorage).sort()")
    assert {"perigee.consent", "perigee.id"} <= set(kept)

    await page.evaluate("perigee.consent({analytics: false}); perigee.track('Never')")
    last = (await shop.sent(len(touchpoints) + 1))[-1]
    assert (last.type, last.consent["analytics"]) == ("identify", False)

    await page.reload()
    await page.wait_for_timeout(2_500)

    assert len(await shop.sent(0)) == len(touchpoints) + 1
    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


async def test_consent_is_withdrawn_also_offline(shop):
    page = await shop.open()
    await page.evaluate("perigee.identify('u-1'); perigee.consent({analytics: true, email: true})")
    touchpoints = await shop.sent(3)
    await page.evaluate(
        "perigee.consent({analytics: true, email: true}); perigee.consent({analytics: false})"
    )
    touchpoints = await shop.sent(4)
    await shop.context.set_offline(True)
    await page.evaluate("perigee.consent({email: false}); perigee.track('Never')")
    await page.wait_for_timeout(500)
    await page.close()
    await shop.context.set_offline(False)
    page = await shop.open("/next.html")

    touchpoints = await shop.sent(5)

    assert types_and_names(touchpoints) == [
        ("page", ""),
        ("identify", ""),
        ("identify", ""),
        ("identify", ""),
        ("identify", ""),
    ]
    assert [t.consent for t in touchpoints[3:]] == [
        {"analytics": False, "email": True},
        {"analytics": False, "email": False},
    ]
    assert len({t.anonymous_id for t in touchpoints}) == 1, (
        "the withdrawal has another anonymous id"
    )
    assert [t.user_id for t in touchpoints[3:]] == [None, None], "the withdrawal has a user id"
    assert set(touchpoints[4].context) == {"library"}, "the context has a page or a browser"

    await page.wait_for_timeout(4_000)

    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


@pytest.mark.parametrize("rule", ["drop", "keep"])
async def test_form_is_sent_without_analytics_consent(shop, rule):
    shop.write(f"data-consent={rule}")
    page = await shop.open()
    await page.click("#send")
    await page.click("#enter")
    await page.wait_for_timeout(2_500)

    touchpoints = [t for t in await shop.sent(0) if t.type != "page" and "page" not in t.context]

    assert types_and_names(touchpoints)[-2:] == [("identify", ""), ("track", "Paper Asked")]
    assert touchpoints[-2].traits == {"email": "ada@x.test", "company": "Acme"}
    assert all(t.consent == {"email": True} for t in touchpoints)

    form_ids = {t.anonymous_id for t in touchpoints}
    assert len(form_ids) == 1
    assert not form_ids & {t.anonymous_id for t in await shop.sent(0) if "page" in t.context}, (
        "the form has the anonymous id of the page views"
    )

    await page.close()
    page = await shop.open("/next.html")
    await page.evaluate("perigee.consent({email: false})")
    await page.wait_for_timeout(2_500)
    last = (await shop.sent(0))[-1]
    assert (last.consent, {last.anonymous_id}) == ({"email": False}, form_ids), (
        "the withdrawal has another anonymous id than the consent"
    )

    await page.wait_for_timeout(2_500)

    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


@pytest.mark.parametrize("privacy_signal", ["globalPrivacyControl", "doNotTrack"])
async def test_global_privacy_signal_is_honoured(shop, privacy_signal):
    value = "true" if privacy_signal == "globalPrivacyControl" else "'1'"
    await shop.context.add_init_script(
        f"Object.defineProperty(navigator, '{privacy_signal}', {{get: () => {value}}})"
    )
    page = await shop.open()
    await page.evaluate("perigee.track('No')")

    await page.wait_for_timeout(2_500)

    assert await shop.sent(0) == []
    assert await page.evaluate("Object.keys(localStorage)") == []

    # Consent given on this site overrides the browser's signal.
    await page.evaluate("perigee.consent({analytics: true})")

    assert types_and_names(await shop.sent(2)) == [("page", ""), ("identify", "")]


async def test_stored_id_is_not_sent_before_consent(shop):
    page = await shop.open()
    stored_id = await page.evaluate("perigee.anonymousId()")
    await shop.sent(1)
    shop.write("data-consent=keep")
    page = await shop.open("/next.html")

    touchpoints = await shop.sent(2)

    assert touchpoints[-1].anonymous_id != stored_id
