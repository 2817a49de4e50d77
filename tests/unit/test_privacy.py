"""Addresses of machines are shortened or left out, those of people written one way; the schema marks what names a person."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.home import PROJECT
from services.ingest.domain.privacy import normalise_traits, truncate_ip
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from tests.support.encoding_paths import touchpoint_of_call

NOW = 1_780_000_000_000_000


@pytest.mark.parametrize(
    ("address", "short"),
    [
        ("192.0.2.77", "192.0.2.0"),
        (" 10.1.2.3 ", "10.1.2.0"),
        ("2001:db8:1:2:3::4", "2001:db8:1::"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("192.0.2.77:8080", None),
        ("", None),
        ("nowhere", None),
    ],
)
def test_an_address_is_shortened(address, short):
    assert truncate_ip(address) == short


@given(st.ip_addresses())
def test_a_shortened_address_stays_and_says_less(address):
    short = truncate_ip(str(address))
    assert truncate_ip(short) == short


@pytest.mark.parametrize(
    ("phone", "written"),
    [
        ("+33 6 12-34.56(78)", "+33612345678"),
        ("0033 612345678", "+33612345678"),
        ("06 12 34 56 78", "0612345678"),
        ("+33 (0)6 12 34 56 78", "+33612345678"),
        ("00 33 (0) 612345678", "+33612345678"),
        ("+33\u00a06\u202f12\u00a034\u00a056\u00a078", "+33612345678"),
        ("(415) 555-2671", "4155552671"),
        ("call me", "call me"),
        (612345678, 612345678),
    ],
)
def test_mail_and_phone_are_written_one_way(phone, written):
    assert normalise_traits({"email": " Ada@X.Test ", "phone": phone}) == {
        "email": "ada@x.test",
        "phone": written,
    }


@given(
    st.dictionaries(
        st.sampled_from(["email", "phone", "plan"]), st.text() | st.integers() | st.none()
    )
)
def test_writing_it_twice_changes_nothing(traits):
    assert normalise_traits(normalise_traits(traits)) == normalise_traits(traits)


def got(rule, source, client="192.0.2.77", **context):
    received = RequestContext(
        source, NOW, lambda: "id", rules=NormalisationRules(ip=rule), client=client
    )
    return touchpoint_of_call(
        call_from_object({"type": "page", "userId": "u", "context": context}), received
    ).context.get("ip")


def test_addresses_are_dropped_unless_they_are_asked_for():
    web, crm = Source("w", "web"), Source("w", "crm", trust="server")
    assert got("drop", web, ip="198.51.100.9") is None
    assert got("truncate", web) == "192.0.2.0"
    assert got("truncate", web, ip="198.51.100.9") == "198.51.100.0"
    assert got("truncate", crm) is None, "a server's own address is nobody's"
    assert got("truncate", crm, ip="198.51.100.9") == "198.51.100.0"
    assert got("truncate", web, ip="rubbish") is None


def test_the_schema_marks_what_names_a_person():
    schema = json.loads(
        (PROJECT / "libs/common/messages/schemas/perigee.touchpoint.v1.json").read_text()
    )
    fields = schema["$defs"]["Touchpoint"]["properties"]
    marked = {name for name, field in fields.items() if field.get("x-personal-data")}
    assert marked == {
        "user_id", "anonymous_id", "previous_id", "verified_email", "external_ids", "traits", "context",
    }  # fmt: skip


@pytest.mark.parametrize(
    "scope", ["eth0", '"', '","x":"y', '"},"workspace":"other","context":{"a":"', "\\u0000", "\\"]
)
def test_nothing_is_kept_of_a_scope(scope):
    assert truncate_ip(f"2001:db8::%{scope}") in ("2001:db8::", None)
    assert truncate_ip(f"2001:db8:1:2::3%{scope}") in ("2001:db8:1::", None)
    web = Source("w", "web")
    assert got("truncate", web, ip=f"2001:db8::%{scope}") in ("2001:db8::", None)
    assert got("truncate", web, client=f"2001:db8::%{scope}") in ("2001:db8::", None)
