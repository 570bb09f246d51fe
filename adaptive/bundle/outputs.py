"""What a manifest entry says of a network's outputs: classes, or boxes."""

from __future__ import annotations

from typing import Any, Sequence

from adaptive.box_output import BoxMerge, BoxOutput
from adaptive.candidate import OutputSpec
from adaptive.errors import BundleError, InputError
from adaptive.files import Fields
from adaptive.policy.base import Policy

#: What a bundle does, and the kinds of output that its candidates have then.
TASKS = {"classify": "probabilities or logits", "detect": "boxes"}


def read_task(manifest: Fields) -> str:
    """What a bundle does; one without the entry classifies.

    Raises
    ------
    BundleError
        when it is none of TASKS.
    """
    task: str = manifest.get("task", str, default="classify")
    if task not in TASKS:
        raise BundleError(f"{manifest.where}: task {task!r} is not one of {list(TASKS)}")
    return task


def read_merge(manifest: Fields, task: str) -> BoxMerge | None:
    """How boxes of several detectors become one answer; None where the last one's are the answer.

    Raises
    ------
    BundleError, InputError
        when it cannot be, or the bundle classifies.
    """
    values = manifest.get("merge", dict, default=None)
    if values is None:
        return None
    if task != "detect":
        raise BundleError(f"{manifest.where}: 'merge' is for boxes, and the task is {task!r}")
    fields = Fields(values, f"{manifest.where}: merge")
    try:
        return BoxMerge(fields.get("least", float), fields.get("iou", float, default=0.55))
    except BundleError:
        raise
    except InputError as exc:
        raise BundleError(f"{manifest.where}: {exc}") from exc


def require_task(name: str, task: str, wanted: str) -> None:
    """Refuse a bundle, called `name`, that does something else than is wanted of it.

    Raises
    ------
    InputError
        in one sentence that says what to ask for instead.
    """
    if task == wanted:
        return
    told = {
        "classify": "it classifies images: use Router.classify, `adaptive classify` or "
        "POST /v1/classify",
        "detect": "it finds boxes: use Router.detect, `adaptive detect` or POST /v1/detect",
    }
    raise InputError(f"bundle {name!r} cannot {wanted}; {told[task]}")


def check_policy(policy: Policy, task: str) -> None:
    """Refuse a policy that reads probabilities where candidates find boxes, which have none.

    Raises
    ------
    InputError
        that says what to take instead.
    """
    if task == "detect" and policy.needs_probabilities:
        raise InputError(
            f"the {policy.kind} policy reads probabilities, and detectors tell only how sure they "
            'are of their boxes; take the signal "top" without temperatures, exponents and combine'
        )


def read_output(fields: Fields, labels: Sequence[str]) -> OutputSpec | BoxOutput:
    """A manifest entry's `output`.

    Raises
    ------
    BundleError, InputError
        when a value is missing or cannot be.
    """
    kind = fields.get("kind", str, default=None)
    if (kind is None and "decoder" in fields.values) or kind == BoxOutput.kind:
        return _boxes(fields, labels)
    return OutputSpec(
        classes=fields.get("classes", int),
        kind=fields.get("kind", str),
        background=fields.get("background", bool, default=False),
    )


def check_output_kind(name: str, output: OutputSpec | BoxOutput, task: str, labels: int) -> None:
    """Raise BundleError when a candidate's output is not what its bundle does.

    Parameters
    ----------
    labels : how many the bundle has
    """
    boxes = isinstance(output, BoxOutput)
    if boxes != (task == "detect"):
        other = "detect" if boxes else "classify"
        raise BundleError(
            f"candidate {name!r} has an output of kind {output.kind!r}, which is for the task "
            f"{other!r}, but the manifest's task is {task!r}, whose outputs are {TASKS[task]}"
        )
    mapped = isinstance(output, BoxOutput) and output.class_map is not None
    if output.classes != labels and not mapped:
        raise BundleError(
            f"candidate {name!r} has {output.classes} classes, but there are {labels} labels"
            + ("; a class map says which is which" if boxes else "")
        )


def _boxes(fields: Fields, labels: Sequence[str]) -> BoxOutput:
    from adaptive.tasks.decoding import class_map
    from adaptive.tasks.reading import Reading

    known = {*BoxOutput.__dataclass_fields__, "kind"}
    strange = [name for name in fields.values if name not in known]
    if strange:
        raise BundleError(f"{fields.where} has {strange}, which boxes have not; {sorted(known)}")
    number: dict[str, Any] = {"default": None}
    given = fields.get("class_map", str, list, default=None)
    mapped = None if given is None else class_map(given, labels)
    classes = fields.get("classes", int, default=len(mapped or labels))
    knots = fields.get("score_map", dict, default=None)
    if knots is not None:
        inner = Fields(knots, f"{fields.where}.score_map")
        knots = (inner.numbers("scores"), inner.numbers("chances"))
    sureness = fields.get("sureness", dict, default=None)
    if sureness is not None:
        inner = Fields(sureness, f"{fields.where}.sureness")
        sureness = {name: inner.get(name, float) for name in inner.values}
    output = BoxOutput(
        decoder=fields.get("decoder", str),
        classes=classes,
        threshold=fields.get("threshold", float, default=0.05),
        iou=fields.get("iou", float, **number),
        most=fields.get("most", int, default=100),
        several=fields.get("several", bool, default=False),
        class_map=mapped,
        options=fields.get("options", dict, default={}),
        shown=fields.get("shown", float, **number),
        score_map=knots,
        sureness=sureness,
    )
    Reading.of(output)  # so that what no decoder can do is refused here
    return output
