"""Copies of candidates in fewer bits, with what they lose and gain, as candidates themselves."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Iterable, Sequence

import numpy as np
import onnx
from tqdm import tqdm

from adaptive.bundle.bundle import Bundle, check_output, write_candidates
from adaptive.candidate import Candidate, class_output
from adaptive.engines.answers import probabilities
from adaptive.engines.onnxfile import read_header
from adaptive.errors import AdaptiveError, InputError
from adaptive.files import folder_aside, sha256, write_json
from adaptive.jetson.board import board_profile
from adaptive.networks import int8, precision
from adaptive.networks.served_inputs import longest_short, served_inputs
from adaptive.outcomes.labelled import LabelledImages

FORMAT = 1

#: Runs before anything is timed.
WARM_UP = 5


@dataclass(frozen=True)
class CopyRecipe:
    """What copies to make.

    Parameters
    ----------
    int8 : for whom eight-bit copies are made, of `int8.TARGETS`
    max_loss : largest loss of top-1 (a share) for a copy with 16-bit convolutions; None for none
    tables : also write a table of ranges for ONNX Runtime's TensorRT provider
    averaged : how eight-bit ranges are taken, see `int8.quantize`
    calibrate, search : how many images give the ranges, and how many guide the search; those
        after them are checked on
    threads : threads inside a network
    """

    int8: tuple[str, ...] = ()
    max_loss: float | None = None
    tables: bool = False
    averaged: bool = False
    calibrate: int = 200
    search: int = 300
    threads: int = 1

    def __post_init__(self) -> None:
        unknown = sorted(set(self.int8) - set(int8.TARGETS))
        if unknown:
            raise InputError(f"copies are made for {list(int8.TARGETS)}, not for {unknown}")
        if not (self.int8 or self.tables) and self.max_loss is None:
            raise InputError("nothing to make: ask for eight bits, 16-bit layers or tables")
        if self.max_loss is not None and not self.max_loss >= 0:
            raise InputError(f"a loss of {self.max_loss} cannot be kept to; give 0 or more")
        if min(self.calibrate, self.search, self.threads) < 1:
            raise InputError("images to calibrate and to search on, and threads, start at 1")


@dataclass(frozen=True)
class Copy:
    """One line of what came out.

    Attributes
    ----------
    name, of : the candidate, and the one that it is a copy of (itself for an original)
    kind : "original", "int8", "fp16 layers"
    top1 : share of the checked images that it gets right
    agreement : share of them for which it names the class that the original names
    simulated : whether these come from a simulation, because this processor computes otherwise
    ms : median milliseconds an image here; None where the time here says nothing
    megabytes : of the file
    note : one sentence
    """

    name: str
    of: str
    kind: str
    top1: float
    agreement: float
    simulated: bool
    ms: float | None
    megabytes: float
    note: str = ""

    def text(self) -> str:
        """One line for a terminal."""
        ms = "" if self.ms is None else f"{self.ms:.2f}"
        line = (
            f"{self.name:32} {100 * self.top1:6.2f} %{'*' if self.simulated else ' '} "
            f"agrees {100 * self.agreement:6.2f} % {ms:>8} ms {self.megabytes:7.1f} MB"
        )
        return f"{line}  {self.note}" if self.note else line


@dataclass(frozen=True)
class NetworkInputs:
    """One network's inputs, in the three parts that the images are split into."""

    calibrate: list[np.ndarray]
    search: list[np.ndarray]
    check: list[np.ndarray]


class Parts:
    """Which images do what: the first calibrate, the next guide the search, the rest check."""

    def __init__(self, images: LabelledImages, recipe: CopyRecipe) -> None:
        first = recipe.calibrate if recipe.int8 or recipe.tables else 0
        second = first + (0 if recipe.max_loss is None else recipe.search)
        if len(images) <= second:
            raise InputError(
                f"{len(images)} images are too few: {first} calibrate, {second - first} guide the "
                "search, and at least one more must check; give more images, or lower --calibrate "
                "or --search"
            )
        self.images = images
        self._cuts = (0, first, second, len(images))
        labels = np.asarray(images.labels)
        self.search_labels, self.check_labels = labels[first:second], labels[second:]

    def pixels(self, candidate: Candidate, short: int) -> NetworkInputs:
        """Every image as this candidate reads it; see `served_inputs`."""
        tensors = served_inputs(self.images, candidate, short)
        a, b, c, d = self._cuts
        return NetworkInputs(tensors[a:b], tensors[b:c], tensors[c:d])

    def to_json(self) -> dict[str, Any]:
        """Names of the images by what they did."""
        a, b, c, d = self._cuts
        names = self.images.names
        return {
            "calibrate": list(names[a:b]),
            "search": list(names[b:c]),
            "check": list(names[c:d]),
        }


def make_copies(
    bundle: Bundle,
    images: LabelledImages,
    output: Path,
    recipe: CopyRecipe,
    names: Iterable[str] = (),
    force: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[list[Copy], list[str]]:
    """Write `bundle`'s candidates and their copies as a folder of candidates, or nothing.

    Returns
    -------
    What was made, originals among it, and a sentence for each that could not be.

    Parameters
    ----------
    output : the folder; with `force` a folder of candidates or a bundle there is replaced
    names : candidates to copy; all that are whole networks when left out
    say : gets a line for each network that is done

    Raises
    ------
    InputError
        when images are too few or cannot be read, or a name is unknown.
    """
    check_output(output, force)
    wanted, left_out = whole_networks(bundle, names)
    parts = Parts(images, recipe)
    done: list[Copy] = []
    with folder_aside(output) as aside:
        kept = [carried(bundle, c, aside) for c in bundle.candidates]
        for candidate in wanted:
            maker = _Maker(bundle, candidate, parts, recipe, aside, say)
            made = maker.make()
            done += made.lines
            kept += made.candidates
            left_out += made.left_out
        if len(kept) == len(bundle.candidates) and not recipe.tables:
            raise InputError("no copy could be made: " + "; ".join(left_out))
        write_candidates(aside, kept, bundle.labels, bundle.reference)
        write_json(
            aside / "copies.json",
            {
                "format": FORMAT,
                "recipe": asdict(recipe),
                "images": parts.to_json(),
                "copies": [asdict(copy) for copy in done],
                "left_out": left_out,
                "board": board_profile(recipe.threads),
            },
        )
    return done, left_out


def whole_networks(bundle: Bundle, names: Iterable[str]) -> tuple[list[Candidate], list[str]]:
    """Candidates that can be copied, and a sentence for each other one that was asked for.

    names : all that run here when left out
    """
    here = [c for c in bundle.candidates if c.remote is None]
    continued = {c.after for c in bundle.candidates}
    found: list[Candidate] = []
    left_out: list[str] = []
    for candidate in [bundle.candidate(name) for name in names] or here:
        if candidate.after is not None or candidate.name in continued:
            left_out.append(f"{candidate.name} is an exit; only whole networks are copied")
        elif candidate.remote is not None:
            left_out.append(f"{candidate.name} runs on another server; nothing here to copy")
        else:
            found.append(candidate)
    return found, left_out


def carried(bundle: Bundle, candidate: Candidate, aside: Path) -> Candidate:
    """The candidate in the new folder, its files beside the others."""
    through = candidate.through
    for file in candidate.files:
        source = bundle.folder / file
        if read_header(source).external:
            raise InputError(f"{file} keeps weights outside; put them inside first")
        shutil.copyfile(source, aside / source.name)
    if through is not None:
        through = replace(through, file=Path(through.file).name)
    if candidate.remote is not None:
        return candidate
    return replace(candidate, file=Path(candidate.file).name, through=through)


@dataclass(frozen=True)
class _MadeCopy:
    """One copy on disk: its answers on the images that check, and whether its time says much."""

    suffix: str
    kind: str
    path: Path
    answers: np.ndarray
    simulated: bool
    timed: bool
    note: str = ""


class _Maker:
    """Makes the copies of one candidate."""

    def __init__(
        self,
        bundle: Bundle,
        candidate: Candidate,
        parts: Parts,
        recipe: CopyRecipe,
        aside: Path,
        say: Callable[[str], None],
    ) -> None:
        self._source = bundle.folder / candidate.file
        self._short = longest_short(bundle)
        self._candidate = candidate
        self._parts = parts
        self._recipe = recipe
        self._aside = aside
        self._say = say
        self.lines: list[Copy] = []
        self.candidates: list[Candidate] = []
        self.left_out: list[str] = []

    def make(self) -> _Maker:
        pixels = self._parts.pixels(self._candidate, self._short)
        model = precision.unpacked(onnx.load(str(self._source)))
        self._check = self._answers(model, pixels.check, self._parts.check_labels)
        made = [copy for runs_on in self._recipe.int8 for copy in self._eight(runs_on, pixels)]
        if self._recipe.max_loss is not None:
            made += self._mixed(model, pixels.search, self._recipe.max_loss)
        if self._recipe.tables:
            table = self._aside / f"{self._candidate.name}.calibration"
            self._attempt(lambda: int8.calibration_table(self._source, table, pixels.calibrate))
        timed = [copy.path for copy in made if copy.timed]
        own, *times = median_ms([self._source, *timed], pixels.check, self._recipe.threads)
        self._add(_MadeCopy("", "original", self._source, self._check.own, False, True), own)
        after = dict(zip(timed, times))
        for copy in made:
            self._add(copy, after.get(copy.path))
        return self

    def _eight(self, runs_on: str, pixels: NetworkInputs) -> list[_MadeCopy]:
        suffix = "int8" if runs_on == "cpu" else f"int8-{runs_on}"
        path = self._aside / f"{self._candidate.name}-{suffix}.onnx"
        averaged = self._recipe.averaged
        images = pixels.calibrate
        if not self._attempt(lambda: int8.quantize(self._source, path, images, runs_on, averaged)):
            return []
        here = runs_on == "cpu"
        answers = self._check.of(path, as_written=not here)
        return [_MadeCopy(suffix, "int8", path, answers, not here, here)]

    def _mixed(
        self, model: onnx.ModelProto, images: list[np.ndarray], limit: float
    ) -> list[_MadeCopy]:
        answers = self._answers(model, images, self._parts.search_labels)
        every = len(precision.convolutions(model))
        names = precision.convertible(model)
        with tqdm(desc=f"{self._candidate.name}: mixtures", unit="mixture", leave=False) as bar:

            def measure(chosen: frozenset[str]) -> precision.Loss:
                bar.update()
                return answers.measure(chosen)

            found = precision.search(names, measure, limit)
        if not found.chosen:
            self.left_out.append(
                f"{self._candidate.name}: none of its {every} convolutions can be converted "
                f"within a loss of {limit}"
            )
            return []
        path = self._aside / f"{self._candidate.name}-fp16.onnx"
        onnx.save(precision.half(model, found.chosen), str(path))
        kept = self._check.of(precision.rounded(model, found.chosen))
        note = (
            f"{len(found.chosen)} of {every} convolutions in 16 bits; "
            f"{100 * found.losses[-1].top1:.2f} points lost on the {len(images)} images of the "
            f"search; mixtures run: {found.measured}"
        )
        return [_MadeCopy("fp16", "fp16 layers", path, kept, True, False, note)]

    def _attempt(self, make: Callable[[], None]) -> bool:
        try:
            make()
        except AdaptiveError as error:
            self.left_out.append(str(error))
            return False
        return True

    def _answers(
        self, model: onnx.ModelProto, images: list[np.ndarray], labels: np.ndarray
    ) -> precision.Answers:
        output = class_output(self._candidate)
        return precision.Answers(
            model, images, labels, lambda raw: probabilities(raw, output), self._recipe.threads
        )

    def _add(self, made: _MadeCopy, ms: float | None) -> None:
        own = self._candidate
        name = f"{own.name}-{made.suffix}" if made.suffix else own.name
        top1, agreement = self._check.top1(made.answers), self._check.agreement(made.answers)
        size = made.path.stat().st_size / 1e6
        line = Copy(name, own.name, made.kind, top1, agreement, made.simulated, ms, size, made.note)
        self.lines.append(line)
        self._say(line.text())
        if made.suffix:
            file = made.path.name
            self.candidates.append(
                replace(
                    own,
                    name=name,
                    file=file,
                    sha256=sha256(made.path),
                    ms=None,
                    mj=None,
                    made=f"{made.kind} of {own.name}"
                    + (f"; before that {own.made}" if own.made else ""),
                )
            )


def median_ms(
    networks: Sequence[Path],
    images: Sequence[np.ndarray],
    threads: int = 1,
    most: int = 200,
    clock: Callable[[], float] = perf_counter,
) -> list[float]:
    """Median milliseconds an image of each network, taking turns so that all meet the same load."""
    sessions = [precision.open_session(str(path), threads) for path in networks]
    names = [session.get_inputs()[0].name for session in sessions]
    spent = np.empty((min(len(images), most), len(sessions)))
    for session, name in zip(sessions, names):
        for _ in range(WARM_UP):
            session.run(None, {name: images[0]})
    for row, image in enumerate(images[: len(spent)]):
        for column, (session, name) in enumerate(zip(sessions, names)):
            began = clock()
            session.run(None, {name: image})
            spent[row, column] = (clock() - began) * 1e3
    return [float(value) for value in np.median(spent, axis=0)]
