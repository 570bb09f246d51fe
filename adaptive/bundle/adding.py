"""A folder of candidates from ONNX files: adding one, and taking one away."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from adaptive.box_output import BoxOutput
from adaptive.bundle.bundle import MANIFEST, Bundle, write_candidates
from adaptive.bundle.labelfile import check_labels
from adaptive.bundle.network import NetworkFacts, read_network
from adaptive.bundle.networkfiles import files_of, move_in, put_network, remove_files, staged
from adaptive.bundle.trying import IMAGES, Check, Setting, check_settings, settings_of
from adaptive.candidate import Candidate, InputSpec, OutputSpec, check_name
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.engines.wanted import Wanted
from adaptive.errors import BundleError, InputError
from adaptive.files import sha256
from adaptive.outcomes.labelled import list_images


@dataclass(frozen=True)
class Recipe:
    """What an ONNX file cannot tell of its network; None where it is not known.

    Parameters
    ----------
    like : how pixels are scaled: a name in `adaptive.images.scalings.SCALINGS`, or MEAN/STD
    resize, channels, pad, place : see `InputSpec`; RGB unless it is said or tried
    size, layout : only where the file leaves them open
    output : "probabilities" or "logits"; by what the network answers where it is not said
    decoder : for a detector, the name of what reads its outputs
    options : of that decoder
    class_map : which label each of a detector's numbers is: "coco", "from 1", or the names of the
        classes that it knows, in its order; None where these are the labels
    """

    like: str | None = None
    resize: str | None = None
    channels: str | None = None
    pad: int | None = None
    place: str | None = None
    size: int | tuple[int, int] | None = None
    layout: str | None = None
    output: str | None = None
    decoder: str | None = None
    options: Mapping[str, Any] | None = None
    class_map: str | Sequence[str] | None = None


@dataclass(frozen=True)
class CheckImages:
    """Labelled images on which preprocessing is tried.

    Parameters
    ----------
    root, table : see `adaptive.outcomes.labelled.list_images`
    most : images that are looked at
    """

    root: Path
    table: Path | None = None
    most: int = IMAGES


@dataclass(frozen=True)
class Added:
    """What was added, what was tried for it, and what was decided on the way, in sentences."""

    candidate: Candidate
    check: Check | None
    notes: tuple[str, ...]


def add_candidate(
    folder: Path,
    model: Path,
    name: str | None = None,
    recipe: Recipe | None = None,
    labels: Sequence[str] | None = None,
    images: CheckImages | None = None,
    reference: bool = False,
    link: bool = False,
    force: bool = False,
    progress: Callable[[int], object] = lambda runs: None,
) -> Added:
    """Copy a network into a folder of candidates, and write down how it is used.

    The folder is made where it is not there. Nothing in it changes before the network has run
    with the entry that is written.

    Parameters
    ----------
    name : of the candidate; the file's own where it is None
    recipe : what the file does not tell
    labels : class names; those of the folder, of the file, or of the images' folders where None
    images : tries what the recipe leaves open, and refuses a network that is no better than
        guessing
    reference : accuracy is compared with this one
    link : hard links in place of copies, so that no space is taken
    force : replace a candidate of that name
    progress : told of each image that is tried

    Raises
    ------
    InputError
        when something is neither told nor tried, does not fit, or makes no sense.
    EngineError
        when ONNX Runtime cannot load or run the network.
    """
    recipe = recipe or Recipe()
    present = present_in(folder)
    name = free_name(name if name is not None else _named(model), folder, present, force)
    with ExitStack() as stack:
        stage = stack.enter_context(staged(folder))
        file = put_network(model, stage, name, link)
        facts = read_network(stage / file, recipe.size, recipe.layout)
        notes = []
        if facts.one_by_one and not recipe.decoder:  # detectors always do
            notes.append("its batch axis is 1, so images run one after the other")
        known = present.labels if present is not None else None
        names, note = check_names(labels, known, facts, images, recipe.decoder is not None)
        notes += [note] if note else []
        output: OutputSpec | BoxOutput
        if recipe.decoder:
            output, told = read_boxes(recipe, names)
            notes += told
        else:
            output = check_classes(recipe, facts, names)
        digest = sha256(stage / file)
        settings = settings_for(recipe, facts, images is not None)
        candidate = Candidate(name, file, digest, settings[0].spec, output)
        engines = Engines(EngineOptions("onnx"))
        threads = 1 if images is None else os.cpu_count() or 1
        engine = engines.open([Wanted(name, stage, candidate)], threads)[name]
        stack.callback(engine.close)
        notes += [f"its answers look like other ones: {d}" for d in engines.doubts.values()]
        check = None
        if images is not None:
            found = list_images(images.root, names, images.table)
            check = check_settings(engine, candidate, settings, found, images.most, progress)
            if not check.makes_sense:
                raise NoSense(check, name)
            candidate = replace(candidate, input=check.best.setting.spec)
        elif recipe.resize is None:
            other = "--resize names another" if recipe.decoder else "--check IMAGES tries it"
            notes.append(f"resize {candidate.input.resize!r} is taken, the usual; {other}")
        commit(stage, folder, present, candidate, names, reference)
    return Added(candidate, check, tuple(notes))


class NoSense(InputError):
    """No way to make a network's input is better than guessing.

    Attributes
    ----------
    check : what was tried
    """

    def __init__(self, check: Check, name: str) -> None:
        self.check = check
        best = check.best
        super().__init__(
            f"{name} is right on {100 * best.top1.value:.1f}% of {best.images} images at best, and "
            f"always naming one class is on {100 * check.guessing:.1f}%; the labels are of another "
            "data set or in another order, or the images are. Nothing was written"
        )


def remove_candidate(folder: Path, name: str) -> tuple[str, ...]:
    """Take a candidate out of a folder, with those of its files that no other needs.

    Returns
    -------
    The files that are gone.

    Raises
    ------
    InputError
        when it is not there, is the last one, or another comes after it.
    """
    present = present_in(folder)
    if present is None:
        raise InputError(f"{folder} is no folder of candidates")
    gone = present.candidate(name)
    kept = [c for c in present.candidates if c.name != name]
    if not kept:
        raise InputError(f"{name!r} is the only candidate; remove the folder {folder} itself")
    later = [c.name for c in kept if c.after == name]
    if later:
        raise InputError(f"{later[0]!r} comes after {name!r}; remove that first")
    reference = None if present.reference == name else present.reference
    before, after = files_of(folder, [gone]), files_of(folder, kept)
    write_candidates(folder, kept, present.labels, reference)
    return remove_files(folder, before - after)


def present_in(folder: Path) -> Bundle | None:
    """The folder as it is; None where it is not there or empty."""
    if not (folder / MANIFEST).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is neither empty nor a folder of candidates")
        return None
    found = Bundle.read(folder)
    if (folder / "policy.json").exists() or found.premodel is not None:
        raise InputError(f"{folder} is a bundle with a policy; name a folder of candidates")
    return found


def free_name(name: str, folder: Path, present: Bundle | None, force: bool) -> str:
    """A name that a candidate may be added by.

    Raises
    ------
    InputError
        when it is none, or is another's and nobody said that this one may be replaced.
    """
    check_name(name)
    if present is not None and name in present.names and not force:
        raise InputError(f"{folder} has a candidate {name!r}; give another --name, or --force")
    return name


def _named(model: Path) -> str:
    """A name for a candidate from that of its file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", model.stem).strip("_") or "network"


def check_names(
    given: Sequence[str] | None,
    present: Sequence[str] | None,
    facts: NetworkFacts,
    images: CheckImages | None,
    boxes: bool,
) -> tuple[tuple[str, ...], str | None]:
    """Class names, and where they come from when nobody said."""
    least = 1 if boxes else 2
    if given is not None:
        given = check_labels(given, "--labels", least)
        if present is not None and tuple(present) != tuple(given):
            raise InputError(
                "the folder's candidates have other labels; all candidates of a folder answer "
                "with the same classes in the same order"
            )
        return tuple(given), None
    if present is not None:
        return tuple(present), None
    if facts.labels:
        told = check_labels(facts.labels, facts.teller, least)
        return told, f"the labels are those that {facts.teller} tells"
    if boxes:
        raise InputError("a detector's classes have names; give --labels FILE")
    if images is not None and images.table is None and images.root.is_dir():
        folders = sorted(p.name for p in images.root.iterdir() if p.is_dir() and p.name[0] != ".")
        if len(folders) in (facts.width, facts.width - 1) and len(folders) >= 2:
            return tuple(folders), (
                f"the labels are the names of the folders in {images.root}, sorted, as "
                "torchvision's ImageFolder numbers them"
            )
    if facts.width < 2:
        raise InputError(_NO_ROW)
    return tuple(map(str, range(facts.width))), (
        f"the {facts.width} classes are called by their numbers; --labels FILE names them"
    )


_NO_ROW = (
    "its first output is no row of numbers, one a class; for a detector give --decoder, for "
    "another network export the classes as the first output"
)


def check_classes(recipe: Recipe, facts: NetworkFacts, labels: Sequence[str]) -> OutputSpec:
    """What a classifier's output means, held against how many labels there are."""
    if facts.width < 2:
        raise InputError(_NO_ROW)
    if facts.width not in (len(labels), len(labels) + 1):
        raise InputError(
            f"it answers with {facts.width} numbers and there are {len(labels)} labels; as many "
            "are needed, or one fewer where the first is a background"
        )
    kind = recipe.output or facts.kind
    if not kind:
        raise InputError(
            "its answers lie in 0..1 and do not sum to 1, as where each class is judged by "
            "itself; give --output-kind probabilities, and they are scaled to sum to 1, or logits"
        )
    return OutputSpec(len(labels), kind, facts.width == len(labels) + 1)


def read_boxes(recipe: Recipe, labels: Sequence[str]) -> tuple[BoxOutput, list[str]]:
    """What a detector's outputs mean, and what is to be said of it."""
    from adaptive.tasks.decoding import class_map
    from adaptive.tasks.reading import Reading

    decoder, options, given = str(recipe.decoder), dict(recipe.options or {}), recipe.class_map
    notes = []
    mapped = None
    if given is not None:
        named = given if isinstance(given, str) else [n if n in labels else None for n in given]
        mapped = class_map(named, labels)
        if max(mapped) < 0:
            raise InputError(
                f"none of the classes that the detector knows, such as {given[0]!r}, is among the "
                f"labels, such as {labels[0]!r}; names must be the same"
            )
        left = [name for name, index in zip(given, mapped) if index < 0]
        if not isinstance(given, str) and left:
            rest = ", ..." if len(left) > 3 else ""
            notes.append(
                f"{len(left)} of {len(given)} classes that it knows are no labels, and their boxes "
                f"are left out: {', '.join(left[:3])}{rest}"
            )
        unknown = [name for place, name in enumerate(labels) if place not in mapped]
        if unknown:
            rest = ", ..." if len(unknown) > 3 else ""
            notes.append(
                f"{len(unknown)} of {len(labels)} labels it never finds: "
                f"{', '.join(unknown[:3])}{rest}"
            )
    output = BoxOutput(decoder, len(mapped or labels), class_map=mapped, options=options)
    Reading.of(output)
    return output, notes


def settings_for(recipe: Recipe, facts: NetworkFacts, tried: bool) -> list[Setting]:
    """The ways to make its input that may be right; one where nothing is tried."""
    if facts.dtype == "uint8" and recipe.like not in (None, "0..255"):
        raise InputError(
            f"it reads uint8, so it takes pixels as they are; --like {recipe.like} is for "
            "networks that read floating point numbers"
        )
    if facts.dtype != "uint8" and recipe.like is None and not tried:
        raise InputError(
            f"{facts.teller} does not say how pixels are scaled; give --like imagenet, 0..1, -1..1 "
            "or MEAN/STD, or --check IMAGES to try them on labelled images"
        )
    if recipe.decoder and tried:
        raise InputError("--check tries networks that name a class; give a detector's --like")
    usual = "fit" if recipe.decoder else "crop"
    resize = recipe.resize if tried else recipe.resize or usual
    padding: dict[str, Any] = {}
    if resize in (None, "fit"):
        padding = {"resize": "fit", "pad": recipe.pad or 0, "place": recipe.place or "centre"}
    elif recipe.pad is not None or recipe.place is not None:
        raise InputError(f"resize {resize!r} pads nothing; --pad and --place go with --resize fit")
    base = InputSpec(facts.size, facts.dtype, facts.layout, **padding)
    channels = recipe.channels if tried else recipe.channels or "RGB"
    return settings_of(base, recipe.like, resize, channels)


def commit(
    stage: Path,
    folder: Path,
    present: Bundle | None,
    candidate: Candidate,
    labels: Sequence[str],
    reference: bool,
) -> None:
    """Move what was staged into the folder, and write its manifest anew with a candidate.

    present : the folder as it is; a candidate of the same name is replaced in its place
    reference : accuracy is compared with the new one from now on
    """
    kept = candidate.name if reference else (present.reference if present else None)
    before = present.candidates if present else ()
    replaced = [c for c in before if c.name == candidate.name]
    after = [candidate if c.name == candidate.name else c for c in before]
    after += [] if replaced else [candidate]
    if len({isinstance(c.output, BoxOutput) for c in after}) > 1:
        raise BundleError("a folder holds networks that name a class or that find boxes, not both")
    files = files_of(folder, replaced)
    move_in(stage, folder)
    write_candidates(folder, after, labels, kept)
    remove_files(folder, files - files_of(folder, after))
