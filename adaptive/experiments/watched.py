"""What `adaptive experiment run --watch` looks at: an experiment's file and all that it names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, Sequence, Tuple

from adaptive.errors import InputError
from adaptive.experiments.declared import Experiment, read_experiment
from adaptive.experiments.run import output_folder

Stamp = Tuple[str, int, int]


def stamps_of(file: Path, own: Sequence[Path] = ()) -> list[Stamp]:
    """What is another value once the file, or anything that it names on this machine, changes.

    Parameters
    ----------
    own : folders that running it writes to, beside its output; what is in them does not count
    """
    found = [_stamp(file)]
    try:
        experiment = read_experiment(file)
    except InputError:  # whoever runs it says what is wrong
        return found
    written = [output_folder(experiment), *own]
    store = experiment.run.get("store")
    if store is not None and "://" not in store:
        written.append(experiment.path(store))
    without = {path.resolve() for path in written}
    for path in _named(experiment):
        found.append(_stamp(path))
        for folder, folders, files in os.walk(path):
            here = Path(folder).resolve()
            folders[:] = sorted(f for f in folders if here / f not in without)
            found += [_stamp(here / name) for name in sorted(files)]
    return found


def _named(experiment: Experiment) -> Iterator[Path]:
    """Files and folders that an experiment names, and not by a URL."""
    values = [experiment.candidates.get("folder"), experiment.candidates.get("labels")]
    values += [network.get("file") for network in experiment.candidates.get("network", [])]
    for data in experiment.data:
        values += [data.get("images"), data.get("labels")]
    values += [policy.get("file") for policy in experiment.policies]
    for value in values:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and "://" not in text:
                yield experiment.path(text)


def _stamp(path: Path) -> Stamp:
    try:
        told = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), told.st_size, told.st_mtime_ns
