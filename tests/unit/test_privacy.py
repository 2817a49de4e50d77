"""Personal data: truncated IP addresses, normalised traits, and marks in the schema."""

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
    ("address", "truncated"),
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
def test_ip_address_is_truncated(address, truncated):
    assert truncate_ip(address) == truncated


@given(st.ip_addresses())
def test_truncated_ip_address_is_stable(address):
    truncated = truncate_ip(str(address))

    assert truncate_ip(truncated) == truncated


@pytest.mark.parametrize(
    ("phone", "normalised"),
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
def test_email_and_phone_are_normalised(phone, normalised):
    assert normalise_traits({"email": " Ada@X.Test ", "phone": phone}) == {
        "email": "ada@x.test",
        "phone": normalised,
    }


@given(
    st.dictionaries(
        st.sampled_from(["email", "phone", "plan"]), st.text() | st.integers() | st.none()
    )
)
def test_normalising_traits_is_idempotent(traits):
    assert normalise_traits(normalise_traits(traits)) == normalise_traits(traits)


def stored_ip(rule, source, client="192.0.2.77", **context):
    request_context = RequestContext(
        source, NOW, lambda: "id", rules=NormalisationRules(ip=rule), client=client
    )
    return touchpoint_of_call(
        call_from_object({"type": "page", "userId": "u", "context": context}), request_context
    ).context.get("ip")


def test_ip_rule_drops_or_truncates_addresses():
    web, crm = Source("w", "web"), Source("w", "crm", trust="server")

    assert stored_ip("drop", web, ip="198.51.100.9") is None
    assert stored_ip("truncate", web) == "192.0.2.0"
    assert stored_ip("truncate", web, ip="198.51.100.9") == "198.51.100.0"
    assert stored_ip("truncate", crm) is None, "the address of a server identifies no contact"
    assert stored_ip("truncate", crm, ip="198.51.100.9") == "198.51.100.0"
    assert stored_ip("truncate", web, ip="rubbish") is None


def test_schema_marks_personal_data():
    schema = json.loads(
        (PROJECT / "libs/common/messages/schemas/perigee.touchpoint.v1.json").read_text()
    )
    fields = schema["$defs"]["Touchpoint"]["properties"]

    marked = {name for name, field in fields.items() if field.get("x-personal-data")}

    assert marked == {
        "user_id",
        "anonymous_id",
        "previous_id",
        "verified_email",
        "external_ids",
        "traits",
        "context",
    }


@pytest.mark.parametrize(
    "scope", ["eth0", '"', '","x":"y', '"},"workspace":"other","context":{"a":"', "\\u0000", "\\"]
)
def test_ipv6_scope_is_dropped(scope):
    assert truncate_ip(f"2001:db8::%{scope}") in ("2001:db8::", None)
    assert truncate_ip(f"2001:db8:1:2::3%{scope}") in ("2001:db8:1::", None)

    web = Source("w", "web")

    assert stored_ip("truncate", web, ip=f"2001:db8::%{scope}") in ("2001:db8::", None)
    assert stored_ip("truncate", web, client=f"2001:db8::%{scope}") in ("2001:db8::", None)
