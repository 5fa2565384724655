"""What the chat server of the tests makes of `response_format`: it takes it, refuses it, or does not care."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Takes(StrEnum):
    """Which kinds of response_format a server takes; every other one gets a 400."""

    ANYTHING = "anything"  # and ignores it, as small servers do
    SCHEMAS = "schemas"  # replies with the smallest instance of the schema
    OBJECTS = "objects"  # json_object, not json_schema
    NOTHING = "nothing"


def refusal(takes: Takes, body: Mapping[str, Any]) -> str:
    """Why a request is refused for its response_format, "" if it is not."""
    kind = (body.get("response_format") or {}).get("type", "text")
    refused = {Takes.OBJECTS: {"json_schema"}, Takes.NOTHING: {"json_schema", "json_object"}}.get(takes, set())
    return f"response_format type {kind!r} is not supported by this model" if kind in refused else ""


def structured(takes: Takes, body: Mapping[str, Any]) -> str | None:
    """The reply that honours the request's schema; None where the model may say what it likes."""
    response_format = body.get("response_format") or {}
    if takes is not Takes.SCHEMAS or response_format.get("type") != "json_schema":
        return None
    return json.dumps(smallest(response_format["json_schema"]["schema"]), ensure_ascii=False)


def smallest(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """The smallest instance of a JSON schema: what is required, as few and as short as it may be."""
    root = schema if root is None else root
    if "$ref" in schema:
        return smallest(_definition(schema["$ref"], root), root)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return smallest(schema[name][0], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: smallest(properties.get(name, {}), root) for name in schema.get("required", [])}
        case "array":
            return [smallest(schema["items"], root) for _ in range(schema.get("minItems", 0))]
        case "string":
            return "x" * schema.get("minLength", 1)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
    return None


def _definition(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)
