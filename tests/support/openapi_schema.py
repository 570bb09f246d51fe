"""Whether a JSON value is what a part of an OpenAPI document says."""

from __future__ import annotations


def resolved(part, document):
    """A part of the document, or the one that it refers to."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return document["components"][kind][name]


def violation(value, schema, document):
    """Where `value` is not what `schema` says, or None. The part of JSON schema that is used."""
    schema = resolved(schema, document)
    if value is None and schema.get("nullable"):
        return None
    if "oneOf" in schema:
        fitting = [s for s in schema["oneOf"] if violation(value, s, document) is None]
        return None if len(fitting) == 1 else f"{value!r} fits {len(fitting)}"
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    if "type" in schema:
        right = isinstance(value, kinds[schema["type"]])
        if not right or (isinstance(value, bool) and schema["type"] != "boolean"):
            return f"{value!r} is no {schema['type']}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is not one of {schema['enum']}"
    if "minimum" in schema and value < schema["minimum"]:
        return f"{value} is below {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        return f"{value} is above {schema['maximum']}"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{len(value)} items"
        found = [violation(item, schema.get("items", {}), document) for item in value]
        return next((why for why in found if why), None)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            return f"{missing} missing"
        for name, item in value.items():
            own = known.get(name, schema.get("additionalProperties", {}))
            if own is False:
                return f"{name!r} is not described"
            why = violation(item, own, document)
            if why:
                return f"{name}: {why}"
    return None
