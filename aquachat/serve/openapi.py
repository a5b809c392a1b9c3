"""The OpenAPI document of the API: what `/openapi.json` says, and what fuzzing checks."""

from __future__ import annotations

from typing import Any

from aquachat import __version__
from aquachat.serve.limits import DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE, LIMITS

Schema = dict[str, Any]


def openapi_document(model: str) -> Schema:
    """OpenAPI 3.1 of every endpoint but the page's files."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "aquachat",
            "version": __version__,
            "description": f"An OpenAI-compatible API over `{model}`.",
        },
        "paths": {
            "/v1/chat/completions": {
                "post": _post("Continue a conversation", _chat_body(), _completion("message"))
            },
            "/v1/completions": {
                "post": _post("Continue a text", _text_body(), _completion("text"))
            },
            "/v1/models": {"get": _get("List the one model", _object(["object", "data"]))},
            "/api/problems/sources": {
                "get": _get("Where problems come from", _object(["sources"]))
            },
            "/api/problems": {
                "get": _get(
                    "Draw a problem",
                    _object(["source", "number", "question", "options"]),
                    [
                        _query("source", {"type": "string"}, required=True),
                        _query("number", {"type": "integer", "minimum": 0, "maximum": 999_999_999}),
                    ],
                )
            },
            "/api/attempts": {"post": _attempt()},
            "/api/runs": {"get": _get("List the runs", _object(["runs"]))},
            "/api/runs/{run}/{stage}/metrics": {"get": _metrics()},
            "/health": {
                "get": _operation(
                    "Whether requests are taken",
                    {"200": _json(_object(["status"])), "503": _json(_object(["status"]))},
                    with_errors=False,
                )
            },
            "/metrics": {
                "get": _operation(
                    "Prometheus",
                    {"200": {"description": "Metrics", "content": {"text/plain": {}}}},
                )
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _error()},
        },
        "security": [{}, {"token": []}],
    }


def _nullable(kind: str, **rules: Any) -> Schema:
    return {"type": [kind, "null"], **rules}


def _sampling_fields() -> dict[str, Schema]:
    return {
        "temperature": _nullable(
            "number", minimum=0, maximum=LIMITS.temperature, default=DEFAULT_TEMPERATURE
        ),
        "top_p": _nullable("number", minimum=0, maximum=1),
        "top_k": _nullable("integer", minimum=0, maximum=LIMITS.top_k),
        "seed": _nullable("integer", minimum=-(2**63), maximum=2**63 - 1),
        "n": _nullable("integer", minimum=1, maximum=LIMITS.choices),
        "calculator": _nullable("boolean"),
        "max_tokens": _nullable(
            "integer", minimum=1, maximum=LIMITS.new_tokens, default=DEFAULT_MAX_TOKENS
        ),
    }


def _shared_fields() -> dict[str, Schema]:
    stop = {"type": "string", "minLength": 1, "maxLength": LIMITS.stop_chars}
    options = {
        "type": ["object", "null"],
        "properties": {
            "include_usage": _nullable("boolean"),
            "include_obfuscation": {},
        },
        "additionalProperties": False,
    }
    return {
        "model": _nullable("string", maxLength=300),
        "stream": _nullable("boolean"),
        "stream_options": options,
        "stop": {
            "anyOf": [
                {"type": "null"},
                stop,
                {"type": "array", "items": stop, "maxItems": LIMITS.stops},
            ]
        },
        "user": {},
        "metadata": {},
        **_sampling_fields(),
    }


def _chat_body() -> Schema:
    part = {
        "type": "object",
        "properties": {
            "type": {"enum": ["text", "python", "python_output"]},
            "text": {"type": "string"},
        },
        "required": ["type", "text"],
    }
    message = {
        "type": "object",
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant"]},
            "content": {
                "anyOf": [
                    {"type": "string", "maxLength": LIMITS.message_chars},
                    {"type": "array", "items": part},
                ]
            },
            "name": {},
        },
        "required": ["role", "content"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "messages": {
                "type": "array",
                "items": message,
                "minItems": 1,
                "maxItems": LIMITS.messages,
            },
            "max_completion_tokens": _nullable("integer", minimum=1, maximum=LIMITS.new_tokens),
            "logprobs": _nullable("boolean"),
            "top_logprobs": _nullable("integer", minimum=0, maximum=LIMITS.alternatives),
            **_shared_fields(),
        },
        "required": ["messages"],
        "additionalProperties": False,
    }


def _text_body() -> Schema:
    ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    text = {"type": "string", "maxLength": LIMITS.message_chars}
    several = {
        "type": "array",
        "items": {"anyOf": [text, ids]},
        "minItems": 1,
        "maxItems": LIMITS.prompts,
    }
    return {
        "type": "object",
        "properties": {
            "prompt": {"anyOf": [text, ids, several]},
            "logprobs": _nullable("integer", minimum=0, maximum=5),
            "echo": {"enum": [False, None]},
            **_shared_fields(),
        },
        "required": ["prompt"],
        "additionalProperties": False,
    }


def _completion(content: str) -> Schema:
    choice = {
        "type": "object",
        "properties": {
            "index": {"type": "integer"},
            "finish_reason": {"enum": ["stop", "length"]},
        },
        "required": ["index", "finish_reason", content],
    }
    properties = {"choices": {"type": "array", "items": choice, "minItems": 1}}
    return {**_object(["id", "object", "model", "choices", "usage"]), "properties": properties}


def _attempt() -> Schema:
    body = {
        "type": "object",
        "properties": {
            "source": {"type": "string", "maxLength": 1000},
            "number": _nullable("integer", minimum=0, maximum=2**31),
            **_sampling_fields(),
            "n": {"enum": [1, None]},
        },
        "required": ["source"],
        "additionalProperties": False,
    }
    stream = {"description": "Events", "content": {"text/event-stream": {}}}
    return _operation("Answer a problem", {"200": stream}, body=body)


def _metrics() -> Schema:
    names = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in ("run", "stage")
    ]
    after = _query("after", {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999})
    version = _query("version", {"type": "string", "maxLength": 1000})
    answer = _object(["rows", "next", "version", "restarted", "is_complete"])
    return _get("New lines of metrics", answer, [*names, after, version])


def _query(name: str, schema: Schema, *, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _get(summary: str, answer: Schema, parameters: list[Schema] | None = None) -> Schema:
    return _operation(summary, {"200": _json(answer)}, parameters=parameters)


def _post(summary: str, body: Schema, answer: Schema) -> Schema:
    success = _json(answer)
    success["content"]["text/event-stream"] = {}
    return _operation(summary, {"200": success}, body=body)


def _operation(
    summary: str,
    responses: Schema,
    *,
    body: Schema | None = None,
    parameters: list[Schema] | None = None,
    with_errors: bool = True,
) -> Schema:
    failed = _json({"$ref": "#/components/schemas/Error"})
    statuses = ("400", "401", "404", "405", "408", "413", "415", "421", "429", "503")
    errors = dict.fromkeys(statuses, failed) if with_errors else {}
    found: Schema = {"summary": summary, "responses": {**errors, **responses}}
    if body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    if parameters:
        found["parameters"] = parameters
    return found


def _json(schema: Schema) -> Schema:
    return {"description": "JSON", "content": {"application/json": {"schema": schema}}}


def _object(required: list[str]) -> Schema:
    return {"type": "object", "required": required}


def _error() -> Schema:
    fields = {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": "string"},
    }
    error = {**_object(list(fields)), "properties": fields}
    return {**_object(["error"]), "properties": {"error": error}}
