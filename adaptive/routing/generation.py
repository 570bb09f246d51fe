"""One bundle as it is served: networks that are open, the router over them, and who uses it."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Callable, Sequence

from adaptive.bundle.bundle import Bundle
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.errors import InputError
from adaptive.images.decode import MAX_PIXELS
from adaptive.images.decoded import DecodedImage, decode_image, warm_up_image
from adaptive.jetson.watch import watching
from adaptive.limits import UNLIMITED, Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.conditions import ConditionMonitor
from adaptive.monitoring.decisions import Observer, bundle_hash, policy_hash
from adaptive.monitoring.drift import Monitor
from adaptive.policy.history import Output
from adaptive.prediction import Prediction
from adaptive.routing import progress
from adaptive.routing.batching import Batching, Ran, Telling
from adaptive.routing.bucket import Bucket
from adaptive.routing.extractors import Extractor
from adaptive.routing.loaded import Loaded, NotLoaded
from adaptive.routing.photo import Photo
from adaptive.routing.router import Router
from adaptive.routing.running import Networks, ways_of
from adaptive.video.gate import FrameGate
from adaptive.video.stream import Stream, Ways
from adaptive.video.streams import IDLE_S, MOST_STREAMS, PassingStreams

if TYPE_CHECKING:
    from adaptive.tasks.detections import Detections

#: Which candidates answer by themselves from the start.
MODELS = ("all", "policy")


@dataclass(frozen=True)
class Settings:
    """How bundles are served, whichever it is.

    Attributes
    ----------
    threads : threads inside one network
    max_pixels : larger images are refused before they are decoded
    models : "all" opens every candidate, "policy" those alone that the policy asks
    window_ms, max_batch : gather requests for a network so long, up to so many images; no
        batching where either is 0
    bucket, audit : of the router
    observers : are shown every decision
    engines : what may run the networks
    extractor : computes features of a user's own, for every bundle that is loaded
    reuse : what still counts as the same frame of a stream
    streams, stream_idle_s : streams at a time, 0 for none, and the seconds after which one that
        sends nothing is forgotten
    """

    threads: int = 1
    max_pixels: int = MAX_PIXELS
    models: str = "all"
    window_ms: float = 0.0
    max_batch: int = 8
    bucket: Bucket | None = None
    audit: Audit | None = None
    observers: tuple[Observer, ...] = ()
    engines: EngineOptions = field(default_factory=EngineOptions)
    extractor: Extractor | None = None
    reuse: FrameGate = field(default_factory=FrameGate)
    streams: int = MOST_STREAMS
    stream_idle_s: float = IDLE_S

    def __post_init__(self) -> None:
        if self.models not in MODELS:
            raise InputError(f"models {self.models!r} is not one of {list(MODELS)}")

    @property
    def batches(self) -> bool:
        """Whether requests are gathered."""
        return self.window_ms > 0 and self.max_batch > 1


class Generation:
    """A bundle that is open. Several threads use it; the last one closes it when it is retired.

    Parameters
    ----------
    folder : the bundle's
    monitor : makes what watches for drift, from the bundle; None watches nothing
    conditions : makes what watches the conditions that images are taken under
    ran : is told of every run

    Attributes
    ----------
    alone : the candidates that answer by themselves
    streams : what is known of the cameras whose frames it answers

    Raises
    ------
    BundleError, EngineError, InputError
        when the bundle cannot be served as it is.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        monitor: Callable[[Bundle], Monitor | None],
        ran: Ran,
        conditions: Callable[[Bundle], ConditionMonitor | None] = lambda _: None,
    ) -> None:
        # A link to the bundle may be moved while it is read; all must come from one folder.
        self.bundle = bundle = Bundle.read(folder.resolve())
        self.settings = settings
        self.monitor = monitor(bundle)
        self.conditions = conditions(bundle)
        self.loaded = time()
        audit = settings.audit
        needed = (*bundle.policy.candidates, *(() if audit is None else audit.names(bundle)))
        names = bundle.names if settings.models == "all" else tuple(dict.fromkeys(needed))
        whole = audit is not None or settings.models == "all"
        watchers = [*settings.observers, *self.monitors]
        self._engines = Engines(settings.engines)
        ways = ways_of(bundle.policy)
        networks = Networks.open(bundle, names, settings.threads, ways, whole, self._engines)
        with ExitStack() as opened:
            opened.callback(lambda: networks.close())
            if settings.batches:
                window_ms, most = settings.window_ms, settings.max_batch
                networks = Batching(bundle, networks.engines, ran, window_ms, most)
            else:
                networks = Telling(bundle, networks.engines, ran)
            networks.choice = self._engines.choice
            self.networks: Telling = networks
            self.router = Router(
                bundle,
                networks,
                extractor=settings.extractor,
                max_pixels=settings.max_pixels,
                bucket=settings.bucket,
                audit=audit,
                observers=watchers,
            )
            opened.enter_context(watching(self.router))
            self.hashes = (bundle_hash(bundle), policy_hash(bundle.policy))
            kept = [member for name in needed for member in networks.chains[name]]
            self.streams = PassingStreams(
                settings.reuse,
                self.router.view,
                Ways(self.router.decode, self.classify, self.detect),
                settings.streams,
                settings.stream_idle_s,
            )
            self.alone = Loaded(networks, self._engines, settings.threads, kept, names)
            self._opened = opened.pop_all()
        self._using = threading.Lock()
        self._users = 0
        self._retired = False

    def __repr__(self) -> str:
        return f"Generation({self.bundle.folder.name!r}, {self._users} users)"

    @property
    def monitors(self) -> list[Monitor | ConditionMonitor]:
        """What watches, and goes on after a restart."""
        return [one for one in (self.monitor, self.conditions) if one is not None]

    def acquire(self) -> bool:
        """Begin to use it; False when it is closed already, or about to be."""
        with self._using:
            if self._retired and not self._users:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """End using it."""
        with self._using:
            self._users -= 1
            last = self._retired and not self._users
        if last:
            self._opened.close()

    def retire(self) -> None:
        """Close it as soon as nobody uses it."""
        with self._using:
            idle = not self._retired and not self._users
            self._retired = True
        if idle:
            self._opened.close()

    @property
    def detects(self) -> bool:
        """Whether it finds boxes."""
        return self.bundle.task == "detect"

    def warm_up(self) -> None:
        """Run every network that is open once; nothing is told of these runs."""
        with ExitStack() as held:
            names = []
            for name in self.alone.names:
                with suppress(NotLoaded):
                    held.enter_context(self.alone.lease(name))
                    names.append(name)
            self.router.warm_up(names)

    def classify(
        self,
        image: bytes | DecodedImage,
        limits: Limits,
        explain: bool,
        request_id: str | None,
    ) -> Prediction:
        """The router's answer to one image."""
        if isinstance(self.networks, Batching):
            with self.networks.until(limits):
                return self.router.classify(image, limits, explain, request_id)
        return self.router.classify(image, limits, explain, request_id)

    def detect(
        self,
        image: bytes | DecodedImage,
        limits: Limits,
        explain: bool,
        request_id: str | None,
    ) -> Detections:
        """The router's answer to one image, in boxes."""
        if isinstance(self.networks, Batching):
            with self.networks.until(limits):
                return self.router.detect(image, limits, explain, request_id)
        return self.router.detect(image, limits, explain, request_id)

    def stream(self, owner: str, name: str) -> Stream:
        """One camera's stream, which is its owner's.

        Raises
        ------
        InputError
            when there are to be none.
        """
        if not self.settings.streams:
            raise InputError("this server keeps no streams; leave X-Stream out")
        return self.streams.stream(owner, name)

    def classify_batch(self, images: Sequence[bytes], limits: Limits) -> list[Prediction]:
        """The router's answers to several images of one request."""
        progress.expect(len(images))
        if isinstance(self.networks, Batching):
            with self.networks.until(limits):
                return self.router.classify_batch(images, limits)
        return self.router.classify_batch(images, limits)

    def photos(self, name: str, images: Sequence[bytes]) -> list[Photo]:
        """Images decoded as large as one candidate wants to see them."""
        from adaptive.images.preprocess import needed_short

        first = self.bundle.candidate(self.networks.chains[name][0])
        short = needed_short(first.input)
        photos = []
        for image in images:
            progress.expect(1)
            decoded = decode_image(image, short, self.settings.max_pixels, sized=self.detects)
            photos.append(Photo(decoded))
        return photos

    def run(self, name: str, photos: Sequence[Photo], limits: Limits = UNLIMITED) -> Output:
        """What one candidate says of photos; whoever asks holds a lease on it."""
        if isinstance(self.networks, Batching):
            with self.networks.until(limits):
                return self.networks.run(name, photos).output
        return self.networks.run(name, photos).output

    def infer(self, name: str, images: Sequence[bytes]) -> Output:
        """What one candidate says of images."""
        return self.run(name, self.photos(name, images))

    def load(self, name: str) -> None:
        """Have a candidate answer by itself; its networks are opened and run once.

        Raises
        ------
        BundleError, EngineError
            when a file was altered since the bundle was read, or the runtime refuses it.
        """
        self.alone.load(name, self._try_out)

    def _try_out(self, name: str) -> None:
        """Run a candidate on a grey image; nothing is told of that."""
        from adaptive.images.preprocess import needed_short

        first = self.bundle.candidate(self.networks.chains[name][0])
        short = needed_short(first.input)
        image = decode_image(warm_up_image(short), short, self.settings.max_pixels)
        self.networks.warm_up([name], Photo(image))

    def describe(self) -> dict[str, Any]:
        """What is served, as JSON values."""
        return self.router.describe()
