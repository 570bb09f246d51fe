"""`adaptive video tune-index`: how an index is to be made so that queries find what they should."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import click

from adaptive.bundle.bundle import Bundle
from adaptive.bundle.outputs import require_task
from adaptive.candidate import positions
from adaptive.cli.engines import engine_options
from adaptive.cli.frames import with_bar
from adaptive.engines.choose import EngineOptions
from adaptive.errors import InputError
from adaptive.images.video import VideoReader
from adaptive.policy.fixed import Fixed
from adaptive.routing.crops import detecting, policy_of
from adaptive.routing.router import Router
from adaptive.video.gate import FrameGate
from adaptive.video.index import IndexSettings
from adaptive.video.index_tuning import (
    EVERYS,
    KS,
    IndexChoice,
    ObservedClip,
    choices,
    observed,
    pooled,
    queried,
    tuned,
)
from adaptive.video.query import kinds_of


@click.command(name="tune-index")
@click.argument(
    "clips", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CLIP..."
)
@click.option(
    "--bundle", type=click.Path(path_type=Path), required=True, help="Of detectors, all of them."
)
@click.option(
    "--cheap",
    "names",
    multiple=True,
    required=True,
    metavar="CANDIDATE",
    help="May file objects; of several, each alone and all unions are tried.",
)
@click.option(
    "--strong", metavar="CANDIDATE", required=True, help="Judges; what it sees is the truth."
)
@click.option(
    "--class",
    "labels",
    multiple=True,
    required=True,
    metavar="CLASS",
    help="Will be asked for; may be given several times.",
)
@click.option(
    "--k",
    "ks",
    type=click.IntRange(1),
    multiple=True,
    default=KS,
    show_default=True,
    help="Classes of an object to try; may be given several times, and each takes its time.",
)
@click.option(
    "--every",
    "everys",
    type=click.IntRange(1),
    multiple=True,
    default=EVERYS,
    show_default=True,
    help="Of the frames that the gate lets through, look at each so-many-th: what to try; may be "
    "given several times.",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.99,
    show_default=True,
    help="Precision and recall that each class is to reach on CLIP..., over frames.",
)
@click.option(
    "--judge",
    "judged",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CLIP",
    help="Say what the choice comes to on this clip, which chose nothing; may be given several "
    "times.",
)
@click.option(
    "--gate",
    default=IndexSettings.gate,
    show_default=True,
    help="That the index will have; none looks at all frames.",
)
@click.option("--frames", type=click.IntRange(1), help="Of each clip, so many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@engine_options
def command(
    clips: Tuple[Path, ...],
    bundle: Path,
    names: Tuple[str, ...],
    strong: str,
    labels: Tuple[str, ...],
    ks: Tuple[int, ...],
    everys: Tuple[int, ...],
    level: float,
    judged: Tuple[Path, ...],
    gate: str,
    frames: int | None,
    as_json: bool,
    engines: EngineOptions,
) -> None:
    """Have all networks look at every frame of CLIPs, and choose how `video index` is called.

    The cheapest way is taken whose precision and recall reach --level. Exit code 1 where a clip
    ends early, and 2 where no way that is tried reaches it.
    """
    twice = {p.resolve() for p in clips} & {p.resolve() for p in judged}
    if twice:
        raise InputError(f"{min(twice).name} chooses and judges; a clip may do one of them")
    read = Bundle.read(bundle)
    require_task(bundle.name, read.task, "detect")
    positions((*names, strong), read.names, "the bundle")
    kinds = kinds_of(labels, read.labels)
    own_gate = None if gate == "none" else FrameGate.parse(gate)
    rests: List[str] = []
    with ExitStack() as stack:
        router, judge = (
            stack.enter_context(Router.load(bundle, policy=policy, engine=engines))
            for policy in (policy_of(names), Fixed((strong,)))
        )
        detected = [detecting(router, [name]) for name in names]
        seen = []
        for path in (*clips, *judged):
            with VideoReader(path, live=False) as reader:
                shown = with_bar(reader, frames)
                seen.append(observed(path.name, shown, names, detected, judge.detect, own_gate))
                if reader.lost.rest is not None:
                    rests.append(reader.lost.rest)
    choosing, judging = seen[: len(clips)], seen[len(clips) :]
    choice = tuned(choosing, kinds, level, choices(len(names), ks, everys))
    if choice is None:
        raise InputError(
            f"no way that was tried reaches {100 * level:g}% on these clips; lower --level, or "
            "name a better --cheap network"
        )
    cheap = [names[place] for place in choice.candidates]
    options = [word for name in cheap for word in ("--cheap", name)]
    for option in ("k", "least", "threshold", "every"):
        options += [f"--{option}", f"{getattr(choice, option):g}"]
    options += ["--gate", gate]
    told: Dict[str, Any] = {
        "cheap": cheap,
        **{name: getattr(choice, name) for name in ("k", "least", "threshold", "every")},
        "gate": gate,
        "chose": _counted(choosing, choice, kinds, read.labels),
    }
    if judging:
        told["judged"] = _counted(judging, choice, kinds, read.labels)
    if as_json:
        click.echo(json.dumps(told))
    else:
        click.echo(" ".join(options))
        for part, what in (("chose", "the clips that chose"), ("judged", "the others")):
            for label, own in told.get(part, {}).items():
                click.echo(_words(label, what, own))
    for rest in rests:
        click.echo(f"left out: {rest}", err=True)
    sys.exit(1 if rests else 0)


def _counted(
    clips: Sequence[ObservedClip], choice: IndexChoice, kinds: Sequence[int], labels: Sequence[str]
) -> Dict[str, Dict[str, Any]]:
    """By class, what queries come to on clips."""
    found = [queried(clip, choice, kinds) for clip in clips]
    told = {}
    for kind in kinds:
        own = [one[kind] for one in found]
        precision, recall, true = pooled(own)
        told[labels[kind]] = {
            "precision": precision,
            "recall": recall,
            "frames_with_it": true,
            "frames": sum(one.frames for one in own),
            "pictures": sum(one.pictures for one in own),
        }
    return told


def _words(label: str, what: str, own: Dict[str, Any]) -> str:
    seen = f"{own['frames_with_it']} of {own['frames']} frames"
    if not own["frames_with_it"]:
        return f"{label}, on {what}: the strong network sees it in none of {own['frames']} frames"
    return (
        f"{label}, on {what} ({seen}): precision {100 * own['precision']:.1f}%, recall "
        f"{100 * own['recall']:.1f}%; a query judges {own['pictures']} pictures"
    )
