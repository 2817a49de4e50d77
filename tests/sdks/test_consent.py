"""What the tracker keeps and sends before, with and without consent, in real headless Chromium. `make test-sdks` runs it."""

import pytest

pytestmark = pytest.mark.timeout(180)


def said(found):
    return [(t.type, t.name) for t in found]


async def test_it_is_the_same_browser_the_next_day_until_it_is_told_to_forget(shop):
    page = await shop.open()
    first = await page.evaluate("perigee.anonymousId()")
    await page.evaluate("perigee.identify('u-1', {plan: 'pro'})")
    await page.evaluate("perigee.group('acme')")
    await page.close()
    page = await shop.open("/next.html")
    await page.evaluate("perigee.push(['track', 'Seen', {n: 1}])")
    found = await shop.sent(5)
    assert {t.anonymous_id for t in found} == {first}
    assert (found[-1].user_id, found[-1].group_id, found[-1].properties) == (
        "u-1",
        "acme",
        {"n": 1},
    )
    await page.evaluate("perigee.reset(); perigee.track('After')")
    after = (await shop.sent(6))[-1]
    assert (after.user_id, after.group_id) == (None, None)
    assert after.anonymous_id not in (None, first)


@pytest.mark.parametrize("rule", ["drop", "keep"])
async def test_consent_first(shop, rule):
    shop.write(f"data-consent={rule}")
    page = await shop.open()
    await page.evaluate("perigee.identify('u-1', {email: 'ada@x.test'}); perigee.track('Before')")
    await page.wait_for_timeout(2_500)
    before = await shop.sent(0)
    assert said(before) == (
        [] if rule == "drop" else [("page", ""), ("identify", ""), ("track", "Before")]
    )
    assert all(t.user_id is None and not t.traits for t in before)
    assert await page.evaluate("Object.keys(localStorage)") == []
    await page.evaluate("perigee.consent({analytics: true, email: false}); perigee.track('After')")
    found = await shop.sent(len(before) + 2)
    after = found[len(before) :]
    assert len({t.anonymous_id for t in found}) == 1
    assert {tuple(t.consent.items()) for t in after if t.type != "page"} == {
        (("analytics", True), ("email", False))
    }
    kept = await page.evaluate("Object.keys(localStorage).sort()")
    assert {"perigee.consent", "perigee.id"} <= set(kept)
    await page.evaluate("perigee.consent({analytics: false}); perigee.track('Never')")
    last = (await shop.sent(len(found) + 1))[-1]
    assert (last.type, last.consent["analytics"]) == ("identify", False)
    await page.reload()
    await page.wait_for_timeout(2_500)
    assert len(await shop.sent(0)) == len(found) + 1
    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


async def test_a_consent_is_taken_back_whatever_was_said_before_and_be_it_offline(shop):
    page = await shop.open()
    await page.evaluate("perigee.identify('u-1'); perigee.consent({analytics: true, email: true})")
    found = await shop.sent(3)
    await page.evaluate(
        "perigee.consent({analytics: true, email: true}); perigee.consent({analytics: false})"
    )
    found = await shop.sent(4)
    await shop.context.set_offline(True)
    await page.evaluate("perigee.consent({email: false}); perigee.track('Never')")
    await page.wait_for_timeout(500)
    await page.close()
    await shop.context.set_offline(False)
    page = await shop.open("/next.html")
    found = await shop.sent(5)
    assert said(found) == [
        ("page", ""),
        ("identify", ""),
        ("identify", ""),
        ("identify", ""),
        ("identify", ""),
    ]
    assert [t.consent for t in found[3:]] == [
        {"analytics": False, "email": True},
        {"analytics": False, "email": False},
    ]
    assert len({t.anonymous_id for t in found}) == 1, "it is the same person's"
    assert [t.user_id for t in found[3:]] == [None, None], "and says no more of them than it has to"
    assert set(found[4].context) == {"library"}, "neither page nor browser"
    await page.wait_for_timeout(4_000)
    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


@pytest.mark.parametrize("rule", ["drop", "keep"])
async def test_who_asks_for_something_by_a_form_is_known_though_they_refuse_all_else(shop, rule):
    shop.write(f"data-consent={rule}")
    page = await shop.open()
    await page.click("#send")
    await page.click("#enter")
    await page.wait_for_timeout(2_500)
    found = [t for t in await shop.sent(0) if t.type != "page" and "page" not in t.context]
    assert said(found)[-2:] == [("identify", ""), ("track", "Paper Asked")]
    assert found[-2].traits == {"email": "ada@x.test", "company": "Acme"}
    assert all(t.consent == {"email": True} for t in found)
    own = {t.anonymous_id for t in found}
    assert len(own) == 1
    assert not own & {t.anonymous_id for t in await shop.sent(0) if "page" in t.context}, (
        "not that of what is seen here"
    )
    await page.close()
    page = await shop.open("/next.html")
    await page.evaluate("perigee.consent({email: false})")
    await page.wait_for_timeout(2_500)
    last = (await shop.sent(0))[-1]
    assert (last.consent, {last.anonymous_id}) == ({"email": False}, own), (
        "taken back where it was given"
    )
    await page.wait_for_timeout(2_500)
    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


@pytest.mark.parametrize("wish", ["globalPrivacyControl", "doNotTrack"])
async def test_what_the_browser_says_for_all_sites_is_honoured(shop, wish):
    value = "true" if wish == "globalPrivacyControl" else "'1'"
    await shop.context.add_init_script(
        f"Object.defineProperty(navigator, '{wish}', {{get: () => {value}}})"
    )
    page = await shop.open()
    await page.evaluate("perigee.track('No')")
    await page.wait_for_timeout(2_500)
    assert await shop.sent(0) == []
    assert await page.evaluate("Object.keys(localStorage)") == []
    await page.evaluate(
        "perigee.consent({analytics: true})"
    )  # said here, by the person, counts more
    assert said(await shop.sent(2)) == [("page", ""), ("identify", "")]


async def test_an_id_that_was_kept_before_is_not_sent_where_consent_is_waited_for(shop):
    page = await shop.open()
    kept = await page.evaluate("perigee.anonymousId()")
    await shop.sent(1)
    shop.write("data-consent=keep")
    page = await shop.open("/next.html")
    found = await shop.sent(2)
    assert found[-1].anonymous_id != kept
