"""JSON schemas of the bodies that the application reads and writes."""

from __future__ import annotations

from typing import Any, Mapping

from adaptive.serving.models import TOP
from adaptive.serving.tensors import INPUT

Json = Mapping[str, Any]

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}
TRUTH: Json = {"type": "boolean"}
BYTES: Json = {"type": "string", "format": "binary"}


def nullable(schema: Json) -> Json:
    """The same, or null."""
    return {**schema, "nullable": True}


def options(**properties: Json) -> Json:
    """An object of a request: what it says may be left out or null, and may be more."""
    return {
        "type": "object",
        "properties": {name: nullable(schema) for name, schema in properties.items()},
    }


def a_list(items: Json, **limits: int) -> Json:
    """A list of such items."""
    return {"type": "array", "items": items, **limits}


def a_map(values: Json) -> Json:
    """An object of such values under any names."""
    return {"type": "object", "additionalProperties": values}


def an_object(properties: Json, optional: Json | None = None, closed: bool = True) -> Json:
    """An object that has these properties; a closed one has no others."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        **({"required": list(properties)} if properties else {}),
        **({"additionalProperties": False} if closed else {}),
    }


def ref(name: str) -> Json:
    """A body of `schemas` by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(max_batch: int) -> dict[str, Json]:
    """The bodies that have a name."""
    duration = an_object({"count": COUNT, "ns": COUNT})
    steps = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    parameters = an_object({}, closed=False)
    datatype: Json = {"type": "string", "enum": ["BYTES", "FP32"]}
    side: Json = {"type": "integer"}
    tensor = an_object({"name": TEXT, "datatype": datatype, "shape": a_list(side)})
    image: Json = {"type": "string", "format": "byte"}
    sides = {"type": "integer", "minimum": 1, "maximum": max_batch}
    image_tensor = an_object(
        {
            "name": {"type": "string", "enum": [INPUT]},
            "datatype": {"type": "string", "enum": ["BYTES"]},
            "shape": a_list(sides, minItems=1, maxItems=2),
        },
        {
            "data": a_list(
                {"oneOf": [image, a_list(image, minItems=1, maxItems=1)]},
                minItems=1,
                maxItems=max_batch,
            ),
            "parameters": nullable(options(binary_data_size=COUNT)),
        },
        closed=False,
    )
    wanted = an_object(
        {"name": TEXT},
        {"parameters": nullable(options(binary_data=TRUTH, classification=COUNT))},
        closed=False,
    )
    share: Json = {"type": "number", "minimum": 0, "maximum": 1}
    judgement = an_object(
        {
            "candidate": TEXT,
            "label": TEXT,
            "score": share,
            "signal": nullable(TEXT),
            "value": nullable(NUMBER),
            "threshold": nullable(NUMBER),
            "gains": nullable(a_list(an_object({"ask": a_list(TEXT), "gain": NUMBER}))),
            "bar": nullable(NUMBER),
        }
    )
    neighbours = an_object(
        {"distances": a_list(NUMBER), "right": a_map(a_list({"type": "integer", "enum": [0, 1]}))}
    )
    among: Json = {"type": "string", "enum": ["images", "range"]}
    explanation = an_object(
        {
            "steps": a_list(judgement),
            "neighbours": nullable(neighbours),
            "standing": nullable(an_object({"among": among, "shares": a_map(share)})),
            "extra": a_list(TEXT),
        },
        {
            "edges": an_object(
                {
                    "png": {"type": "string", "format": "byte"},
                    "area": a_list(share, minItems=4, maxItems=4),
                }
            )
        },
    )
    return {
        "Error": an_object({"error": TEXT}),
        "Prediction": an_object(
            {
                "label": nullable(TEXT),
                "score": nullable(share),
                "calibrated": TRUTH,
                "abstained": TRUTH,
                "top5": a_list(an_object({"label": TEXT, "score": share}), maxItems=TOP),
                "candidate": nullable(TEXT),
                "path": a_list(TEXT),
                "ms": a_map(NUMBER),
                "index": nullable(COUNT),
            },
            {
                "features": nullable(a_map(NUMBER)),
                "votes": nullable(a_map(NUMBER)),
                "reason": TEXT,
                "explanation": nullable(explanation),
            },
        ),
        "Server": an_object({"name": TEXT, "version": TEXT, "extensions": a_list(TEXT)}),
        "Metadata": an_object(
            {
                "name": TEXT,
                "versions": a_list(TEXT),
                "platform": TEXT,
                "inputs": a_list(tensor),
                "outputs": a_list(tensor),
            }
        ),
        "Config": an_object(
            {
                "name": TEXT,
                "platform": TEXT,
                "backend": TEXT,
                "max_batch_size": COUNT,
                "input": a_list(ref("ConfigTensor")),
                "output": a_list(ref("ConfigTensor")),
            }
        ),
        "ConfigTensor": an_object({"name": TEXT, "data_type": TEXT, "dims": a_list(side)}),
        "State": an_object(
            {
                "name": TEXT,
                "version": TEXT,
                "state": {"type": "string", "enum": ["READY", "UNAVAILABLE"]},
                "reason": TEXT,
            }
        ),
        "Statistics": an_object(
            {
                "model_stats": a_list(
                    an_object(
                        {
                            "name": TEXT,
                            "version": TEXT,
                            "last_inference": COUNT,
                            "inference_count": COUNT,
                            "execution_count": COUNT,
                            "inference_stats": an_object(dict.fromkeys(steps, duration)),
                            "batch_stats": a_list(
                                an_object({"batch_size": COUNT, "compute_infer": duration})
                            ),
                        }
                    )
                )
            }
        ),
        "Infer": an_object(
            {"inputs": a_list(image_tensor, minItems=1, maxItems=1)},
            {
                "id": nullable(TEXT),
                "outputs": nullable(a_list(wanted)),
                "parameters": nullable(options(binary_data_output=TRUTH, timeout=COUNT)),
            },
            closed=False,
        ),
        "Inferred": an_object(
            {
                "model_name": TEXT,
                "model_version": TEXT,
                "outputs": a_list(
                    an_object(
                        {"name": TEXT, "datatype": datatype, "shape": a_list(side)},
                        {"data": a_list({}), "parameters": parameters},
                    )
                ),
            },
            {"id": TEXT},
        ),
    }
