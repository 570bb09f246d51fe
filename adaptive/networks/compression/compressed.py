"""A folder of candidates with smaller copies of them, and what the copies lose and gain."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx

from adaptive.bundle.bundle import Bundle, check_output, write_candidates
from adaptive.candidate import Candidate, class_output
from adaptive.engines.answers import probabilities
from adaptive.errors import InputError
from adaptive.files import folder_aside, read_json, sha256, write_json
from adaptive.jetson.board import board_profile
from adaptive.networks import precision
from adaptive.networks.compression.counting import count
from adaptive.networks.compression.decomposition import Decomposer, Decomposition
from adaptive.networks.compression.finetuning import fine_tuned, note_made, write_network
from adaptive.networks.compression.layer_times import LayerTimes, clock_of
from adaptive.networks.compression.pruning import Pruned, Pruner, PruneRecipe
from adaptive.networks.compression.recipes import (
    Material,
    TuckerRecipe,
    photographs,
)
from adaptive.networks.compression.torch_network import check_trainable
from adaptive.networks.copies import carried, median_ms, whole_networks
from adaptive.networks.images import ImageArrays
from adaptive.networks.served_inputs import longest_short, served_inputs
from adaptive.outcomes.labelled import LabelledImages

FORMAT = 1


@dataclass(frozen=True)
class SmallerCopy:
    """One line of what came out.

    Attributes
    ----------
    name, of : the candidate, and the one that it is a copy of (itself for an original)
    kind : "original", "tucker" or "pruned"
    made : one sentence, how
    details : ranks of layers, or widths and iterations
    top1 : share of the checking images that it gets right
    agreement : share of them for which it names the class that the original names
    multiply_adds, parameters : for one image, counted from the file
    ms : median milliseconds an image here, in turns with the original
    megabytes : of the file
    """

    name: str
    of: str
    kind: str
    made: str
    details: Mapping[str, Any]
    top1: float
    agreement: float
    multiply_adds: int
    parameters: int
    ms: float
    megabytes: float

    def text(self, own: SmallerCopy) -> str:
        """One line for a terminal, beside the original."""
        fewer = own.multiply_adds / max(1, self.multiply_adds)
        line = (
            f"{self.name:28} {100 * self.top1:6.2f} % agrees {100 * self.agreement:6.2f} % "
            f"{self.multiply_adds / 1e6:9.2f} M ({fewer:.2f}x fewer) {self.ms:8.3f} ms "
            f"{self.megabytes:6.1f} MB"
        )
        if self is own:
            return line
        ratio = own.ms / self.ms
        return f"{line}  {ratio:.2f}x faster" if ratio > 1 else f"{line}  {1 / ratio:.2f}x SLOWER"


def compress(
    bundle: Bundle,
    material: Material,
    output: Path,
    recipe: TuckerRecipe | PruneRecipe,
    work: Path,
    names: Iterable[str] = (),
    force: bool = False,
    say: Callable[[str], None] = print,
    device: str = "cpu",
) -> tuple[list[SmallerCopy], list[str]]:
    """Write `bundle`'s candidates and smaller copies of them as a folder, or nothing.

    Returns
    -------
    What was made, originals among it, and a sentence for each that could not be.

    Parameters
    ----------
    output : the folder; with `force` a folder of candidates or a bundle there is replaced
    work : a folder that a stopped run goes on from
    names : candidates to copy; all that are whole networks when left out
    say : gets a line for each that is done
    device : that networks are trained on, as torch names it; times are always the CPU's

    Raises
    ------
    InputError
        when no copy could be made, images cannot be read, or a name is unknown.
    """
    check_output(output, force)
    wanted, left_out = whole_networks(bundle, names)
    done: list[SmallerCopy] = []
    work.mkdir(parents=True, exist_ok=True)
    with folder_aside(output) as aside:
        kept = [carried(bundle, c, aside) for c in bundle.candidates]
        for candidate in wanted:
            maker = _SmallerMaker(bundle, candidate, material, recipe, work, device)
            try:
                made = maker.make()
            except InputError as error:
                left_out.append(f"{candidate.name}: {error}")
                continue
            left_out += maker.left_out
            lines = maker.lines(made)
            for line in lines:
                say(line.text(lines[0]))
            for line in lines[1:]:
                file = f"{line.name}.onnx"
                shutil.copyfile(work / file, aside / file)
                entry = replace(
                    candidate, name=line.name, file=file, sha256=sha256(aside / file),
                    ms=None, mj=None, made=line.made,
                )  # fmt: skip
                kept.append(entry)
            done += lines
        if len(kept) == len(bundle.candidates):
            raise InputError("no copy could be made: " + "; ".join(left_out))
        write_candidates(aside, kept, bundle.labels, bundle.reference)
        write_json(
            aside / "compressed.json",
            {
                "format": FORMAT,
                "recipe": asdict(recipe),
                "images": material.names(),
                "copies": [asdict(copy) for copy in done],
                "left_out": left_out,
                "board": board_profile(getattr(recipe, "threads", 1)),
            },
        )
    return done, left_out


@dataclass(frozen=True)
class _Made:
    """A copy in the work folder."""

    name: str
    kind: str
    made: str
    details: Mapping[str, Any]


class _SmallerMaker:
    """Makes the copies of one candidate in the work folder."""

    def __init__(
        self,
        bundle: Bundle,
        candidate: Candidate,
        material: Material,
        recipe: TuckerRecipe | PruneRecipe,
        work: Path,
        device: str,
    ) -> None:
        self._device = device
        self._source = bundle.folder / candidate.file
        self._short = longest_short(bundle)
        self._candidate = candidate
        self._material = material
        self._recipe = recipe
        self._work = work
        self._model = precision.unpacked(onnx.load(str(self._source)))
        self.left_out: list[str] = []

    def make(self) -> list[_Made]:
        if isinstance(self._recipe, PruneRecipe):
            return [self._pruned(self._recipe)]
        return self._decomposed(self._recipe)

    def lines(self, made: Sequence[_Made]) -> list[SmallerCopy]:
        """The original and its copies on the images that check, timed in turns."""
        own = self._candidate
        images = served_inputs(self._material.check, own, self._short)
        answers = self._answers(self._material.check, images)
        paths = [self._source, *(self._work / f"{one.name}.onnx" for one in made)]
        threads = getattr(self._recipe, "threads", 1)
        # one thread's processor time is disturbed less by what else the machine does
        times = median_ms(paths, images, threads, clock=clock_of(threads))
        first = _Made(own.name, "original", own.made or "", {})
        found = []
        for one, path, ms in zip([first, *made], paths, times):
            given = answers.own if one is first else answers.of(path)
            counted = count(onnx.load(str(path)), one.name)
            found.append(
                SmallerCopy(
                    one.name,
                    own.name,
                    one.kind,
                    one.made,
                    one.details,
                    answers.top1(given),
                    answers.agreement(given),
                    counted.multiply_adds,
                    counted.parameters,
                    ms,
                    path.stat().st_size / 1e6,
                )
            )
        return found

    def _answers(self, images: LabelledImages, pixels: list[np.ndarray]) -> precision.Answers:
        output = class_output(self._candidate)
        return precision.Answers(
            self._model, pixels, np.asarray(images.labels),
            lambda raw: probabilities(raw, output), getattr(self._recipe, "threads", 1),
        )  # fmt: skip

    def _decomposed(self, recipe: TuckerRecipe) -> list[_Made]:
        own = self._candidate
        decomposer: Decomposer | None = None

        def ready() -> Decomposer:
            nonlocal decomposer
            if decomposer is None:
                images = served_inputs(self._material.repair, own, self._short)
                file = self._work / f"{own.name}-layers-{own.sha256[:12]}.json"
                times = LayerTimes(file, recipe.threads)
                decomposer = Decomposer(
                    self._model, images, recipe.threads, recipe.seed, times, own.name
                )
            return decomposer

        done = []
        for share in recipe.keep:
            name = f"{own.name}-tucker{round(100 * share)}"
            made = self._earlier(name, {"keep": share})
            if made is None:
                try:
                    made = self._finish(name, ready().at(share), {"keep": share})
                except InputError as error:
                    self.left_out.append(str(error))
                    continue
            done.append(made)
        if recipe.max_loss is not None:
            name, key = f"{own.name}-tucker", {"max_loss": recipe.max_loss}
            made = self._earlier(name, key)
            done.append(made or self._finish(name, self._searched(ready(), recipe.max_loss), key))
        if not done:
            raise InputError(self.left_out.pop())
        return done

    def _searched(self, decomposer: Decomposer, limit: float) -> Decomposition:
        images = served_inputs(self._material.search, self._candidate, self._short)
        answers = self._answers(self._material.search, images)

        def loss(made: Decomposition) -> float:
            return answers.loss(answers.of(made.model)).top1

        return decomposer.smallest(loss, limit)

    def _finish(self, name: str, made: Decomposition, key: Mapping[str, Any]) -> _Made:
        """Write a decomposed network, fine-tuned where that was asked for."""
        path = self._work / f"{name}.onnx"
        own, recipe = self._candidate, self._recipe
        assert isinstance(recipe, TuckerRecipe)
        layers = len(precision.convolutions(self._model))
        mended = f"repaired on {len(self._material.repair)} images without labels"
        if recipe.tune is None:
            onnx.save(made.model, str(path))
        else:
            data = self._training()
            checkpoint = self._work / f"{name}.checkpoint"
            network = fine_tuned(made.model, own, data, recipe.tune, checkpoint, self._device)
            write_network(network, own, path, onnx.load(str(self._source)))
            mended += f", fine-tuned for {recipe.tune.epochs} epochs on {len(data.labels)} images"
        if "max_loss" in key:
            mended += f", the share found on {len(self._material.search)} labelled images"
        every = [rank for ranks in made.ranks.values() for rank in ranks]
        sentence = (
            f"Tucker and SVD of {own.name}: {made.share:g} of the weights' variance kept in "
            f"{len(made.ranks)} layers (it has {layers} convolutions), of ranks {min(every)} to "
            f"{max(every)}, {mended}"
        )
        details = {
            "share": made.share,
            "ranks": {layer: list(ranks) for layer, ranks in made.ranks.items()},
            "no_faster": made.slower,
        }
        return self._note(_Made(name, "tucker", self._grown(sentence), details), key)

    def _pruned(self, recipe: PruneRecipe) -> _Made:
        own = self._candidate
        name, key = f"{own.name}-pruned", {"prune": asdict(recipe)}
        made = self._earlier(name, key)
        if made is not None:
            return made
        data = self._training()
        search = self._material.search
        judged = photographs(search, own.input.sides[0], data.classes, self._short)
        folder = self._work / f"{name}-{own.sha256[:12]}"
        pruned = Pruner(self._model, own, data, judged, recipe, folder, device=self._device).prune()
        if not any(one.kept and one.top1 is not None for one in pruned.iterations):
            raise InputError(
                f"no filters could go within a loss of {recipe.max_loss}; allow a larger one, "
                "fine-tune longer, or mask a smaller share"
            )
        path = self._work / f"{name}.onnx"
        write_network(pruned.network, own, path, onnx.load(str(self._source)))
        sentence = self._grown(_told(pruned, recipe, own, len(data.labels), len(search)))
        return self._note(_Made(name, "pruned", sentence, _widths(pruned)), key)

    def _training(self) -> ImageArrays:
        own = self._candidate
        if self._material.training is None:
            raise InputError("training images are needed")
        check_trainable(own.input, own.name)
        return self._material.training(own.input.sides[0])

    def _grown(self, sentence: str) -> str:
        """A sentence with how the original was made, where that is itself a copy."""
        earlier = self._candidate.made
        return f"{sentence}; before that {earlier}" if earlier else sentence

    def _key(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """What a copy of an earlier run must have in common with this one's."""
        recipe = self._recipe
        tune = asdict(recipe.tune) if recipe.tune is not None else None
        whole = {
            **key, "source": self._candidate.sha256, "images": self._material.names(),
            "tune": tune, "seed": recipe.seed,
        }  # fmt: skip
        back: dict[str, Any] = json.loads(json.dumps(whole))
        return back

    def _earlier(self, name: str, key: Mapping[str, Any]) -> _Made | None:
        """The copy that a stopped run has left, if it is this very one."""
        note, path = self._work / f"{name}.json", self._work / f"{name}.onnx"
        if not note.exists() or not path.exists():
            return None
        found = read_json(note, "the note on a copy")
        if found["key"] != self._key(key) or found["sha256"] != sha256(path):
            return None
        return _Made(**found["copy"])

    def _note(self, made: _Made, key: Mapping[str, Any]) -> _Made:
        path = self._work / f"{made.name}.onnx"
        note_made(path, made.made)
        write_json(
            self._work / f"{made.name}.json",
            {"copy": asdict(made), "key": self._key(key), "sha256": sha256(path)},
        )
        return made


def _told(pruned: Pruned, recipe: PruneRecipe, own: Candidate, images: int, judged: int) -> str:
    kept = sum(one.kept and one.top1 is not None for one in pruned.iterations)
    widths = ", ".join(map(str, pruned.widths.values()))
    return (
        f"filters of {own.name} pruned by {recipe.importance} in {kept} iterations that were "
        f"kept on {judged} images held out, down to {widths}, fine-tuned for "
        f"{recipe.tune.epochs} epochs each on {images} images"
    )


def _widths(pruned: Pruned) -> dict[str, Any]:
    return {"widths": pruned.widths, "iterations": [asdict(one) for one in pruned.iterations]}
