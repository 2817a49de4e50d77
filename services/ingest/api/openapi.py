"""OpenAPI document of the tracking API, at `/v1/openapi.json`.

It is written by hand, since the tracking API is no FastAPI application. Bodies are described in
their recommended form; the API accepts more forms (docs/sdks.md) and refuses the rest with a code.
"""

from typing import Any

from services.ingest.domain.field_values import MAX_ID
from services.ingest.domain.json_body import MAX_BODY
from services.ingest.domain.message_batch import MAX_MESSAGES
from services.ingest.domain.normalise import CALL_TYPES

Json = dict[str, Any]
_STATUS_DESCRIPTIONS = {
    400: "the request is unreadable",
    401: "no source has this write key, or the signature is invalid",
    403: "the origin of the page is not allowed, or the source takes signed webhooks only",
    404: "the source has no adapter",
    413: f"more than {MAX_BODY} bytes or {MAX_MESSAGES} messages, or a message that is too large",
    429: "the source exceeds its rate; retry after Retry-After seconds",
    503: "not stored; retry after Retry-After seconds",
}
_REQUIRED_FIELDS = {"track": ["event"], "alias": ["userId", "previousId"], "group": ["groupId"]}
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
            "Many calls; an invalid call does not affect the others",
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
        "A webhook of another system, in the format of the source's adapter",
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
    return {"allOf": [_ref("Call"), {"required": _REQUIRED_FIELDS.get(kind, [])}]}


def _post(summary: str, schema: Json, *refusals: int) -> Json:
    answers = {
        "200": _answer("Kafka has the touchpoint, or a dead letter with the reason", "Success")
    }
    answers |= {str(code): _answer(_STATUS_DESCRIPTIONS[code], "Refusal") for code in refusals}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"post": {"summary": summary, "requestBody": body, "responses": answers}}


def _answer(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
