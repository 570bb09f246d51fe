"""Where each microsecond of one request goes: `python benchmarks/router.py [--json out.json]`.

    python benchmarks/router.py [--bundle B] [--images DIR] [--limit 50] [--rounds 10] [--json X]

The path from the bytes of an image to the prediction, one thread, images and ways taking turns.
Each step's own time is what is spent in it and in none of the steps inside it:

    decode         bytes to pixels at the scale of features and networks
    features       crop to numbers
    premodel       numbers to each candidate's chance
    preprocess     pixels to the tensors of the networks that ran
    network        the runtime's runs
    probabilities  softmax and checks of what the networks answered
    policy         which candidate next, and how answers combine
    answer         the prediction: labels, costs, reason
    rest           everything between those

Overhead is premodel + policy + answer + rest. The clock that takes the steps apart costs a little
by itself; `classify` is the time without it. Beside it stand what cannot be saved, measured on the
same images in the same rounds by plain functions: the decoding alone; decoding, preprocessing and
running the network that the policy asks most often first; and the in-process limit, which decodes,
prepares and runs the very networks that the router ran for that image, and takes the best class.
The ratio to the limit is the median over the images, with the interval of 95 % of a bootstrap.

"bare" is the limit with nothing of the library's but sizes: OpenCV's decoder, its scaling, and the
runtime's run, and nothing is checked.

Up to four ways of deciding are measured: the bundle's own policy; where that is a cascade and the
bundle has a premodel, the hybrid of both, whose premodel moves the cascade's thresholds; always the
first of its candidates; and always the last. Without --bundle it is the embedded one; without
--images, drawn ones.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Iterator, Sequence

import cv2
import numpy as np
from machine import envelope, machine_line, result, save
from PIL import Image

import adaptive.engines.answers
import adaptive.features.extract
from adaptive import Router
from adaptive.bundle.bundle import Bundle, default_bundle
from adaptive.candidate import InputSpec
from adaptive.features.schema import SCHEMA
from adaptive.images.decode import MAX_PIXELS, jpeg_scale
from adaptive.images.decoded import DecodedImage, decode_image
from adaptive.images.preprocess import needed_short, preprocess
from adaptive.outcomes.labelled import SUFFIXES
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.hybrid import Hybrid
from adaptive.routing.answering import Answering
from adaptive.routing.running import Networks, ways_of
from features import drawn

WARM_UP = 2
STEPS = (
    *("decode", "features", "premodel", "preprocess", "network", "probabilities"),
    *("policy", "answer", "rest"),
)
#: What the step machine asks of a policy.
POLICY = ("start", "first", "next", "affordable", "conclude")
OVERHEAD = ("premodel", "policy", "answer", "rest")
#: What is measured whole, and the one of them that is called by its network's name.
FIRST = "decode and the first"
WHOLE = ("classify", "limit", "bare", FIRST, "decode")
#: How far one unit of expected gain moves the hybrid's thresholds.
SHIFT = 0.2


class StepClock:
    """Gives every moment of a request to one step, the innermost that it is in."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open = ["rest"]
        self._since = 0.0

    def start(self) -> None:
        """Begin with a request."""
        self.seconds.clear()
        self._since = perf_counter()

    def stop(self) -> dict[str, float]:
        """The seconds of each step since the start."""
        self._pass("rest")
        return dict(self.seconds)

    def _pass(self, step: str) -> None:
        now = perf_counter()
        self.seconds[step] += now - self._since
        self._since = now

    def taking(self, step: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run`, its time given to `step`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._pass(self._open[-1])
            self._open.append(step)
            try:
                return run(*args, **kwargs)
            finally:
                self._pass(self._open.pop())

        return timed

    @contextmanager
    def watching(self, router: Router, networks: Networks) -> Iterator[None]:
        """Take a router's requests apart meanwhile."""
        kind = type(router.policy)
        places: list[tuple[Any, str, str]] = [
            (router, "decode", "decode"),
            (adaptive.features.extract, "extract", "features"),
            (kind, "chances", "premodel"),
            (DecodedImage, "tensor", "preprocess"),
            (adaptive.engines.answers, "probabilities", "probabilities"),
            *((kind, name, "policy") for name in POLICY if hasattr(kind, name)),
            (Answering, "prediction", "answer"),
        ]
        places += [(engine, "run", "network") for engine in networks.engines.values()]
        with ExitStack() as stack:
            for owner, name, step in places:
                own = name in vars(owner)
                before = getattr(owner, name)
                setattr(owner, name, self.taking(step, before))
                restore = (setattr, owner, name, before) if own else (delattr, owner, name)
                stack.callback(*restore)
            yield


def short_of(networks: Networks, names: Sequence[str]) -> int:
    """The short side that an image is decoded at for these candidates, pixels."""
    firsts = [networks.bundle.candidate(networks.chains[name][0]) for name in names]
    return max(needed_short(candidate.input) for candidate in firsts)


class BareImage:
    """A JPEG, upright, as OpenCV alone decodes and scales it.

    Parameters
    ----------
    scale : what its sides are divided by in decoding
    """

    def __init__(self, data: bytes, scale: int) -> None:
        how = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        reduced = 0 if scale == 1 else 8 * scale
        self.pixels = SCHEMA.working(cv2.imdecode(np.frombuffer(data, np.uint8), how | reduced))
        self._scaled: dict[InputSpec, np.ndarray] = {}

    def tensor(self, spec: InputSpec) -> np.ndarray:
        """A network's input."""
        if spec not in self._scaled:
            self._scaled[spec] = preprocess(self.pixels, spec)
        return self._scaled[spec]


def opened_bare(images: Sequence[bytes], short: int) -> Callable[[bytes], BareImage]:
    """Opens these images bare; their headers are read now."""
    sizes = {image: Image.open(io.BytesIO(image)).size for image in images}
    scales = {image: jpeg_scale(*size, short) for image, size in sizes.items()}
    return lambda image: BareImage(image, scales[image])


def plain_way(
    networks: Networks, path: Sequence[str], opened: Callable[[bytes], Any]
) -> Callable[[bytes], int]:
    """Decode, prepare and run these candidates by hand, as one who knew the path would.

    opened : decodes an image
    """
    runs = []
    done: set[str] = set()
    for name in path:
        for run in networks.segments.needed(name, done, done):
            key = run.step
            engine, candidate = networks.engines[key], networks.bundle.candidate(run.segment)
            runs.append((engine, candidate, run.headless))
            done.add(run.segment)

    def answer(data: bytes) -> int:
        image = opened(data)
        states: dict[str, list[np.ndarray]] = {}
        best = -1
        for engine, candidate, headless in runs:
            inputs = [image.tensor(candidate.input)]
            if candidate.after is not None:
                inputs = states[candidate.after]
            outputs = engine.run(*inputs)
            if not headless:
                best = int(outputs[0].argmax())
            states[candidate.name] = outputs if headless else outputs[1:]
        return best

    return answer


def measured(
    router: Router, networks: Networks, images: list[bytes], rounds: int
) -> dict[str, Any]:
    """One way of deciding: steps, the whole, and what it is held against.

    networks : those that the router runs
    """
    short = short_of(networks, router.policy.candidates)
    paths = [router.classify(image).path for image in images]
    first = Counter(path[:1] for path in paths).most_common(1)[0][0]
    ours = partial(decode_image, networks_short=short, max_pixels=MAX_PIXELS)
    least = opened_bare(images, max(short, SCHEMA.short_side))
    by_path = {path: plain_way(networks, path, ours) for path in {*paths, first}}
    by_path_bare = {path: plain_way(networks, path, least) for path in set(paths)}
    clock = StepClock()
    whole = np.empty((len(WHOLE), WARM_UP + rounds, len(images)))
    steps = np.zeros((len(STEPS), WARM_UP + rounds, len(images)))
    for number in range(WARM_UP + rounds):
        for position, image in enumerate(images):
            ways: list[Callable[[bytes], Any]] = [
                router.classify,
                by_path[paths[position]],
                by_path_bare[paths[position]],
                by_path[first],
                ours,
            ]
            # whichever comes first finds the caches as the last image left them
            for way in np.roll(range(len(ways)), number):
                began = perf_counter()
                ways[way](image)
                whole[way, number, position] = perf_counter() - began
        with clock.watching(router, networks):
            for position, image in enumerate(images):
                clock.start()
                router.classify(image)
                for step, seconds in clock.stop().items():
                    steps[STEPS.index(step), number, position] = seconds
    whole, steps = whole[:, WARM_UP:] * 1e6, steps[:, WARM_UP:] * 1e6
    names = [f"decode and {'/'.join(first)}" if name == FIRST else name for name in WHOLE]
    ratios, bare = (np.median(whole[0] / whole[way], axis=0) for way in (1, 2))
    overhead = steps[[STEPS.index(step) for step in OVERHEAD]].sum(axis=0)
    return {
        "paths": {" > ".join(path): count for path, count in Counter(paths).most_common()},
        "features": router.describe()["features"] if router.policy.needs_features else [],
        "results": {name: result(times.ravel(), "us") for name, times in zip(names, whole)},
        "steps": {step: spread(times, steps.sum()) for step, times in zip(STEPS, steps)},
        "overhead": spread(overhead, steps.sum()),
        "ratio_to_limit": {"median": float(np.median(ratios)), "interval": bootstrap(ratios)},
        "ratio_to_bare": {"median": float(np.median(bare)), "interval": bootstrap(bare)},
    }


def spread(us: np.ndarray, everything: float) -> dict[str, float]:
    """Median and 95th percentile over images and rounds, and the share of all time."""
    return {
        "median_us": float(np.median(us)),
        "p95_us": float(np.percentile(us, 95)),
        "share": float(us.sum() / everything),
    }


def bootstrap(values: np.ndarray, draws: int = 2000) -> list[float]:
    """The interval of 95 % of the values' median."""
    random = np.random.RandomState(0)
    samples = values[random.randint(0, len(values), (draws, len(values)))]
    return [float(v) for v in np.percentile(np.median(samples, axis=1), (2.5, 97.5))]


def hybrid_of(bundle: Bundle) -> Policy | None:
    """The bundle's cascade, its thresholds moved by its premodel; None where it is or has none."""
    own = bundle.policy
    if type(own) is not Cascade or bundle.premodel is None:
        return None
    settings = {part.name: getattr(own, part.name) for part in fields(own)}
    return Hybrid(**{**settings, "premodel": bundle.premodel, "shift": SHIFT})


def ways_of_deciding(bundle: Bundle) -> dict[str, Policy]:
    """The bundle's policy, a hybrid where there can be one, and the fixed ones at its ends."""
    own, mixed = bundle.policy, hybrid_of(bundle)
    ends = dict.fromkeys((own.candidates[0], own.candidates[-1]))
    fixed = {f"always {name}": Fixed(candidates=(name,)) for name in ends}
    return {own.kind: own, **({} if mixed is None else {"hybrid": mixed}), **fixed}


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="the bundle (default: the embedded one)")
    parser.add_argument("--images", type=Path, help="folder of images (default: drawn ones)")
    parser.add_argument("--limit", type=int, default=50, help="at most so many (default 50)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds (default 10)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.limit < 1 or options.rounds < 1:
        parser.error("--limit and --rounds must be at least 1")
    cv2.setNumThreads(1)
    images = read_images(options.images, options.limit)
    bundle = Bundle.read(options.bundle or default_bundle())
    results, ways = {}, {}
    for name, policy in ways_of_deciding(bundle).items():
        networks = Networks.open(bundle, policy.candidates, 1, ways_of(policy), whole=False)
        with Router(bundle, networks, policy) as router:
            router.warm_up()
            way = measured(router, networks, images, options.rounds)
        results.update({f"{name}: {key}": found for key, found in way["results"].items()})
        ways[name] = way
    settings = {
        "bundle": str(options.bundle or "embedded"),
        "images": f"{len(images)} {'drawn' if options.images is None else 'read'}",
        "rounds": f"{options.rounds} after {WARM_UP} to warm up",
    }
    parts = {n: {k: v for k, v in way.items() if k != "results"} for n, way in ways.items()}
    report = envelope("router", results, settings, paired=True, ways=parts)
    print(machine_line(report["machine"]))
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    for name, way in ways.items():
        show(name, way)
    save(report, options.json)


def show(name: str, way: dict[str, Any]) -> None:
    """Print one way of deciding."""
    print(f"\n{name}; paths {way['paths']}")
    print(f"{'microseconds':34}{'median':>10}{'p95':>10}{'share':>8}")
    for step, us in (*way["steps"].items(), ("overhead", way["overhead"])):
        print(f"  {step:32}{us['median_us']:10.1f}{us['p95_us']:10.1f}{us['share']:8.1%}")
    for whole, found in way["results"].items():
        print(f"{whole:34}{found['median']:10.1f}{found['p95']:10.1f}")
    for what in ("limit", "bare"):
        found = way[f"ratio_to_{what}"]
        low, high = found["interval"]
        print(f"classify / {what} {found['median']:.3f} ({low:.3f} to {high:.3f})")


def read_images(folder: Path | None, limit: int) -> list[bytes]:
    """The bytes of the first images of a folder, or of drawn photographs as JPEG."""
    if folder is None:
        images = []
        for seed in range(min(limit, 20)):
            stream = io.BytesIO()
            Image.fromarray(drawn(seed)).resize((227, 227)).save(stream, "JPEG", quality=90)
            images.append(stream.getvalue())
        return images
    # every so many, so that folders of classes all have their turn
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        sys.exit(f"there is no image in {folder}")
    return [path.read_bytes() for path in paths[:: max(1, len(paths) // limit)][:limit]]


if __name__ == "__main__":
    main()
