"""Who was seen again: a store of names with the mean embedding of each, and nothing else.

Embeddings of faces and persons are personal data. The store holds no image, no time and no place;
`forget` removes all that there is of a name, and the file that is written next has nothing of it.
"""

from __future__ import annotations

import fcntl
import io
import json
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from adaptive.checks import a_path, finite, shown
from adaptive.errors import BundleError, InputError
from adaptive.files import Fields, check_format, written_aside

FORMAT = 1

#: How far a stored mean moves towards a new embedding; Huynh 2019, 5.3.2, found 1/8 to 1/18 good.
UPDATE = 1 / 15

#: What nobody has named yet.
_UNKNOWN = re.compile(r"unknown-(\d+)")

#: Longest name.
_LONGEST = 200


def is_unknown(name: str) -> bool:
    """Whether a name is one that was given to somebody whom nobody has named yet."""
    return _UNKNOWN.fullmatch(name) is not None


class EmbeddingNetwork(NamedTuple):
    """One network, or one exit, that gives embeddings.

    print : SHA-256 of its file
    width : numbers of an embedding
    """

    name: str
    print: str
    width: int


class Nearest(NamedTuple):
    """The name whose mean is nearest, and its distance: 1 - cosine, 0..2."""

    name: str
    distance: float


class IdentityStore:
    """Names, and for each network the mean embedding of each name.

    Parameters
    ----------
    networks : that the embeddings are of, cheap first; those of others cannot be compared
    thresholds : of each network by name, the largest distance, 1 - cosine, that is a match; a
        network without one matches nobody
    certificate : what is promised of the thresholds, as JSON; {} where they were set by hand

    Raises
    ------
    InputError
        when there is no network, two are called alike, or a threshold cannot be.
    """

    def __init__(
        self,
        networks: Sequence[EmbeddingNetwork],
        thresholds: Mapping[str, float] | None = None,
        certificate: Mapping[str, Any] | None = None,
    ) -> None:
        names = [network.name for network in networks]
        if not names or len(set(names)) < len(names):
            raise InputError(f"a store needs networks of different names, and got {names}")
        self.networks = tuple(networks)
        self.thresholds: Dict[str, float] = {}
        self.certificate: Dict[str, Any] = {}
        self.set_thresholds(thresholds or {}, certificate or {})
        self._means: Dict[str, Dict[str, np.ndarray]] = {}
        self._counts: Dict[str, int] = {}
        self._last_unknown = 0

    def __len__(self) -> int:
        return len(self._means)

    def __contains__(self, name: object) -> bool:
        return name in self._means

    def names(self) -> Dict[str, int]:
        """All names in their order, with how many embeddings each has taken in."""
        return dict(sorted(self._counts.items()))

    def set_thresholds(
        self, thresholds: Mapping[str, float], certificate: Mapping[str, Any]
    ) -> None:
        """Take other thresholds, with what is promised of them.

        Raises
        ------
        InputError
            when one is of no network here, or no distance between 0 and 2.
        """
        known = [network.name for network in self.networks]
        for name, value in thresholds.items():
            if name not in known:
                raise InputError(f"a threshold is for {name!r}; the store's networks are {known}")
            if not 0 <= finite(value, f"the threshold of {name!r}") <= 2:
                raise InputError(f"the threshold of {name!r}, {value:g}, is not between 0 and 2")
        self.thresholds = {name: float(value) for name, value in thresholds.items()}
        self.certificate = dict(certificate)

    def add(self, name: str, embeddings: Mapping[str, np.ndarray]) -> None:
        """Add a name by one embedding of each network that ran.

        Raises
        ------
        InputError
            when there is that name already, or an embedding is not what its network gives.
        """
        name = self._new(name)
        units = self._units(embeddings)
        if not units:
            raise InputError(f"{name!r} has no embedding")
        self._means[name] = units
        self._counts[name] = 1

    def add_unknown(self, embeddings: Mapping[str, np.ndarray]) -> str:
        """Add somebody whom nobody has named yet, as "unknown-7"; the name.

        A number is never given twice, so that a forgotten one does not come back as another.
        """
        self._last_unknown += 1
        name = f"unknown-{self._last_unknown}"
        self.add(name, embeddings)
        return name

    def update(self, name: str, embeddings: Mapping[str, np.ndarray]) -> None:
        """Move a name's means a little towards new embeddings, by 1/15.

        A network that had none of it takes the embedding as it is.
        """
        own = self._means[self._known(name)]
        for network, unit in self._units(embeddings).items():
            mean = own.get(network)
            own[network] = unit if mean is None else (1 - UPDATE) * mean + UPDATE * unit
        self._counts[name] += 1

    def nearest(self, network: str, embedding: np.ndarray) -> Nearest | None:
        """The nearest name by one network, however far; None where it has no mean of anybody.

        Raises
        ------
        InputError
            when the store is of other networks, or the embedding is not what this one gives.
        """
        unit = self._units({network: embedding})[network]
        names = [name for name, means in self._means.items() if network in means]
        if not names:
            return None
        rows = np.stack([self._means[name][network] for name in names])
        lengths = np.linalg.norm(rows, axis=1)
        apart = 1 - (rows @ unit) / np.maximum(lengths, 1e-12)
        best = int(np.argmin(apart))
        return Nearest(names[best], float(apart[best]))

    def match(self, network: str, embedding: np.ndarray) -> Nearest | None:
        """The nearest name, where it is within the network's threshold; else None."""
        found = self.nearest(network, embedding)
        threshold = self.thresholds.get(network)
        if found is None or threshold is None or found.distance > threshold:
            return None
        return found

    def rename(self, old: str, new: str) -> None:
        """Give a name another one.

        Raises
        ------
        InputError
            when there is no such name, or the new one is taken: `merge` makes one of two.
        """
        self._known(old)
        if new == old:
            return
        new = self._new(new)
        self._means[new] = self._means.pop(old)
        self._counts[new] = self._counts.pop(old)

    def merge(self, name: str, into: str) -> None:
        """Two names are one: the first goes, and its means count as much as what they are of."""
        if self._known(name) == self._known(into):
            raise InputError(f"{name!r} cannot be merged into itself")
        first, second = self._counts.pop(name), self._counts[into]
        own = self._means[into]
        for network, mean in self._means.pop(name).items():
            other = own.get(network)
            own[network] = (
                mean if other is None else (first * mean + second * other) / (first + second)
            )
        self._counts[into] = first + second

    def forget(self, name: str) -> None:
        """Remove all that there is of a name.

        Raises
        ------
        InputError
            when there is no such name.
        """
        self._known(name)
        del self._means[name], self._counts[name]

    def check_networks(self, networks: Sequence[EmbeddingNetwork]) -> None:
        """Refuse networks whose embeddings are others than the store's.

        Raises
        ------
        InputError
            that says which.
        """
        own = {network.name: network for network in self.networks}
        for network in networks:
            if network.name not in own:
                raise InputError(
                    f"the store has no embeddings of network {network.name!r}; it has {list(own)}"
                )
            if network != own[network.name]:
                raise InputError(
                    f"the store's embeddings are of another network {network.name!r} (its file "
                    "has another SHA-256); embeddings of different networks cannot be compared, "
                    "make a store of this one"
                )

    def save(self, path: str | Path) -> None:
        """Write the store as one file, whole or not at all.

        It is an .npz with, for each network, an array of means, and JSON; no pickle, no image.
        """
        names = sorted(self._means)
        about = {
            "format": FORMAT,
            "networks": [network._asdict() for network in self.networks],
            "thresholds": self.thresholds,
            "certificate": self.certificate,
            "names": names,
            "counts": [self._counts[name] for name in names],
            "last_unknown": self._last_unknown,
        }
        text = json.dumps(about, ensure_ascii=False, allow_nan=False).encode()
        arrays: Dict[str, np.ndarray] = {"about": np.frombuffer(text, np.uint8)}
        for place, network in enumerate(self.networks):
            means = np.full((len(names), network.width), np.nan, np.float32)
            for row, name in zip(means, names):
                row[:] = self._means[name].get(network.name, np.nan)
            arrays[f"means_{place}"] = means
        with written_aside(a_path(path, "a store")) as aside, open(aside, "wb") as file:
            aside.chmod(0o600)
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: str | Path) -> IdentityStore:
        """A store that `save` wrote.

        Raises
        ------
        InputError
            when there is none.
        BundleError
            when it is damaged, or of a newer format.
        """
        path = a_path(path, "a store")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise InputError(
                f"there is no store {path}; `adaptive identify make {path}` makes one"
            ) from None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(arrays["about"].tobytes().decode())
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as exc:
            raise BundleError(f"{path} is no store of identities: {exc}") from exc
        return cls._of(Fields(about, str(path)), arrays)

    @classmethod
    def _of(cls, fields: Fields, arrays: Mapping[str, np.ndarray]) -> IdentityStore:
        check_format(fields, FORMAT)
        networks = []
        for values in fields.get("networks", list):
            own = Fields(values, f"{fields.where}: networks")
            networks.append(
                EmbeddingNetwork(own.get("name", str), own.get("print", str), own.get("width", int))
            )
        limits = Fields(fields.get("thresholds", dict), f"{fields.where}: thresholds")
        store = cls(
            networks,
            {name: limits.get(name, float) for name in limits.values},
            fields.get("certificate", dict),
        )
        names, counts = fields.texts("names"), fields.numbers("counts")
        if len(names) != len(counts) or len(set(names)) != len(names):
            raise BundleError(f"{fields.where}: names and counts do not fit each other")
        store._last_unknown = fields.get("last_unknown", int)
        for place, network in enumerate(networks):
            means = arrays.get(f"means_{place}")
            wanted = len(names), network.width
            if means is None or means.dtype != np.float32 or means.shape != wanted:
                raise BundleError(f"{fields.where}: the means of {network.name!r} do not fit")
            for name, row in zip(names, means):
                if np.isfinite(row).all():
                    store._means.setdefault(name, {})[network.name] = row.copy()
        for name, count in zip(names, counts):
            if name not in store._means:
                raise BundleError(f"{fields.where}: {name!r} has no embedding")
            store._counts[name] = int(count)
        return store

    def _units(self, embeddings: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Embeddings at length one."""
        widths = {network.name: network.width for network in self.networks}
        units = {}
        for name, embedding in embeddings.items():
            if name not in widths:
                raise InputError(
                    f"the store has no embeddings of network {name!r}; it has {list(widths)}"
                )
            vector = np.asarray(embedding, np.float32).reshape(-1)
            length = float(np.linalg.norm(vector))
            if len(vector) != widths[name] or not np.isfinite(length) or length == 0:
                raise InputError(
                    f"an embedding of {name!r} has {len(vector)} numbers of length {length:g}; "
                    f"{widths[name]} of a finite length above 0 are needed"
                )
            units[name] = vector / length
        return units

    def _known(self, name: str) -> str:
        if name not in self._means:
            raise InputError(f"the store has no {shown(name)}; it has {list(self.names())}")
        return name

    def _new(self, name: str) -> str:
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST:
            raise InputError(f"{shown(name)} is no name; a text of 1 to {_LONGEST} letters is")
        try:
            name.encode()
        except UnicodeEncodeError as exc:
            raise InputError(f"{name!a} is no name; it has half a letter in it") from exc
        if name in self._means:
            raise InputError(f"the store has a {name!r} already; merge the two, or take another")
        number = _UNKNOWN.fullmatch(name)
        if number and int(number[1]) > self._last_unknown:
            raise InputError(f"{name!r} is what somebody unknown would be called; take another")
        return name


@contextmanager
def editing(path: str | Path) -> Iterator[IdentityStore]:
    """A store to change; it is written when the block ends well. One process at a time.

    Raises
    ------
    InputError
        when another process changes it just now.
    """
    path = a_path(path, "a store")
    if not path.exists():
        IdentityStore.read(path)  # which says that there is none
    with open(path.with_name(path.name + ".lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise InputError(f"another process changes {path}; wait for it") from exc
        store = IdentityStore.read(path)
        yield store
        store.save(path)
