"""The tracking API as an OpenAPI document, at `/v1/openapi.json`: it is no FastAPI application that could say so itself.

Bodies are described as they are meant; the door takes more (docs/sdks.md), and refuses what it cannot read with a code.
"""

from typing import Any

from services.ingest.domain.field_values import MAX_ID
from services.ingest.domain.json_body import MAX_BODY
from services.ingest.domain.message_batch import MAX_MESSAGES
from services.ingest.domain.normalise import CALL_TYPES

Json = dict[str, Any]
_SAID = {
    400: "the request cannot be read as a whole",
    401: "no source has this write key, or a signature is wrong",
    403: "the source takes nothing from pages of this origin, or signed hooks alone",
    404: "the source has no adapter",
    413: f"more than {MAX_BODY} bytes or {MAX_MESSAGES} messages, or a message that is too large",
    429: "the source sends faster than it may: Retry-After says when to come again",
    503: "not stored, please send again: Retry-After says when",
}
_NEEDED = {"track": ["event"], "alias": ["userId", "previousId"], "group": ["groupId"]}
_ID: Json = {"type": ["string", "null"], "maxLength": MAX_ID}
_TIME: Json = {"type": "string", "format": "date-time"}
_OBJECT: Json = {"type": "object"}
_CALL: Json = {
    "type": "object",
    "properties": {
        "userId": _ID, "anonymousId": _ID, "previousId": _ID, "groupId": _ID, "messageId": _ID,
        "event": {"type": "string", "minLength": 1}, "name": {"type": "string"},
        "timestamp": _TIME, "originalTimestamp": _TIME, "sentAt": _TIME,
        "traits": _OBJECT, "properties": _OBJECT, "context": _OBJECT,
    },
}  # fmt: skip
_BATCH: Json = {
    "type": "object",
    "required": ["batch"],
    "properties": {
        "batch": {
            "type": "array",
            "maxItems": MAX_MESSAGES,
            "items": {"$ref": "#/components/schemas/Call"},
        },
        "sentAt": _TIME,
        "context": _OBJECT,
        "writeKey": {"type": "string"},
    },
}
_SUCCESS: Json = {
    "type": "object",
    "required": ["success"],
    "properties": {"success": {"const": True}},
}
_REFUSAL: Json = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
}


def build_openapi_document() -> Json:
    """Return the document."""
    calls = {
        f"/v1/{kind}": _post(f"One {kind} call", _call(kind), 400, 401, 403, 413, 429, 503)
        for kind in CALL_TYPES
    }
    batches = {
        path: _post(
            "Many calls; one that is no touchpoint costs no other",
            _ref("Batch"),
            400,
            401,
            403,
            413,
            429,
            503,
        )
        for path in ("/v1/batch", "/v1/import", "/beacon/v1/batch")
    }
    hook = _post(
        "What another system sends, in the shape of the source's adapter",
        {},
        400,
        401,
        404,
        413,
        429,
        503,
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Perigee tracking", "version": "1"},
        "security": [{"writeKey": []}],
        "paths": {**calls, **batches, "/v1/hook": hook},
        "components": {
            "securitySchemes": {
                "writeKey": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "the write key, without a password",
                }
            },
            "schemas": {"Call": _CALL, "Batch": _BATCH, "Success": _SUCCESS, "Refusal": _REFUSAL},
        },
    }


def _call(kind: str) -> Json:
    return {"allOf": [_ref("Call"), {"required": _NEEDED.get(kind, [])}]}


def _post(summary: str, schema: Json, *refusals: int) -> Json:
    answers = {
        "200": _answer("Kafka has it, or the dead letter that says why it is none", "Success")
    }
    answers |= {str(code): _answer(_SAID[code], "Refusal") for code in refusals}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"post": {"summary": summary, "requestBody": body, "responses": answers}}


def _answer(said: str, schema: str) -> Json:
    return {"description": said, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
