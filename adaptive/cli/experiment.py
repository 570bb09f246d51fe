"""`adaptive experiment`: declared experiments, on this machine or over a queue."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Iterator

import click
from tqdm import tqdm

from adaptive.cli.listening import Listening, listening_options
from adaptive.cli.settings import configurable
from adaptive.errors import AdaptiveError, InputError
from adaptive.experiments.coordinator import Progress
from adaptive.experiments.declared import DeclarationError, Experiment, read_experiment
from adaptive.experiments.engine import ShardEngine
from adaptive.experiments.plan import ExperimentPlan, make_plan
from adaptive.experiments.run import Ran, output_folder, run_plan
from adaptive.experiments.status import progress_of, record_of, runs, status_lines
from adaptive.experiments.store import FolderStore, Store, open_store
from adaptive.experiments.watched import Stamp, stamps_of
from adaptive.experiments.work import board_model

FILE = click.argument("file", type=click.Path(path_type=Path), metavar="FILE.toml")

#: Seconds at least between two looks at the files with --watch.
WATCH_S = 1.0


@click.group(name="experiment")
def command() -> None:
    """Run experiments that a file declares; see docs/experiments.md."""


@command.command(name="check")
@FILE
def check(file: Path) -> None:
    """Say all that is wrong with FILE, each with its line; or its plan, and run nothing."""
    experiment = _read(file)
    try:
        board = experiment.run.get("board") or board_model()
        plan = make_plan(experiment, output_folder(experiment) / "candidates", board)
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from None
    done: set[str] = set()
    place = experiment.run.get("store")
    if place is None or "://" not in place:
        done = _store(experiment, None).names("results")
    _tell(plan, done)
    sys.exit(1 if plan.omitted else 0)


@configurable
@command.command(name="run")
@FILE
@click.option(
    "--queue",
    metavar="URL",
    help="redis://HOST:PORT/DB: send shards to `adaptive worker`. Without, this machine's cores "
    "run them.",
)
@click.option(
    "--store",
    metavar="URL",
    help="Where shards and results lie: a folder, or such as s3://BUCKET/PREFIX. Default a folder "
    "beside FILE.",
)
@click.option("--board", metavar="MODEL", help="The machine that times are measured on.")
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes here; default one a core.")
@click.option("--watch", is_flag=True, help="Run again whenever FILE or what it names changes.")
@click.option("--plan", "only_plan", is_flag=True, help="Print the plan, and run nothing.")
def run(
    file: Path,
    queue: str | None,
    store: str | None,
    board: str | None,
    jobs: int | None,
    watch: bool,
    only_plan: bool,
) -> None:
    """Run what FILE declares; what is done is not done again.

    Stopped, or with workers, queue or store gone for a while, it goes on where it was. Images,
    candidates, shards and policies that cannot be used are listed, and the exit code is then 1.
    """
    own = [Path(store)] if store is not None and "://" not in store else []
    with _stoppable():
        while True:
            # Before it is run, so that what changes meanwhile is run again.
            seen = stamps_of(file, own) if watch else []
            try:
                experiment = _read(file)
                ran = _run(experiment, queue, store, board, jobs, only_plan)
            except AdaptiveError as error:
                if not watch:
                    raise
                click.echo(f"adaptive: {error}", err=True)
                code = 2
            else:
                code = 1 if ran is not None and ran.omitted else 0
            if not watch or only_plan:
                sys.exit(code)
            click.echo(f"watching {file}; Ctrl-C ends")
            try:
                _wait_for_change(file, own, seen)
            except KeyboardInterrupt:
                sys.exit(code)


@configurable
@command.command(name="status")
@click.argument("name", metavar="[FILE.toml|NAME]", required=False)
@click.option("--store", metavar="URL", help="As given to run.")
def status(name: str | None, store: str | None) -> None:
    """How far runs are: that of an experiment file or of NAME, or all in the store."""
    if name is not None and name.endswith(".toml"):
        experiment = _read(Path(name))
        opened, name = _store(experiment, store), experiment.name
    elif store is None:
        raise InputError("name the experiment file, or give --store")
    else:
        opened = open_store(store)
    names = runs(opened) if name is None else [name]
    if not names:
        click.echo(f"no experiment ran with the store {opened.url}")
    failed = False
    for own in names:
        record = record_of(opened, own)
        if record is None:
            raise InputError(f"the store {opened.url} knows no run {own!r}; it has {runs(opened)}")
        told = progress_of(opened, record)
        failed = failed or bool(told["failed"])
        for line in status_lines(told):
            click.echo(line)
    sys.exit(1 if failed else 0)


@configurable
@command.command(name="report")
@click.argument("name", metavar="FILE.toml|NAME")
@click.option("--store", metavar="URL", help="As given to run.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the page there, as HTML."
)
@click.option("--force", is_flag=True, help="Replace an existing page.")
def report(name: str, store: str | None, output: Path | None, force: bool) -> None:
    """Print the report of a run that is done."""
    from adaptive.files import refuse_existing
    from adaptive.report.experiment import lines_of, page

    if name.endswith(".toml"):
        experiment = _read(Path(name))
        opened, name = _store(experiment, store), experiment.name
    elif store is None:
        raise InputError("name the experiment file, or give --store")
    else:
        opened = open_store(store)
    try:
        told = json.loads(opened.get(f"runs/{name}/report.json"))
    except KeyError:
        raise InputError(
            f"the store {opened.url} has no report of {name!r}; run the experiment to its end"
        ) from None
    if output is not None:
        refuse_existing(output, force)
        output.write_text(page(told), encoding="utf-8")
        click.echo(f"wrote {output}")
    for line in lines_of(told):
        click.echo(line)
    for line in told["omitted"]:
        click.echo(f"left out: {line}", err=True)
    sys.exit(1 if told["omitted"] else 0)


def _run(
    experiment: Experiment,
    queue: str | None,
    store: str | None,
    board: str | None,
    jobs: int | None,
    only_plan: bool,
) -> Ran | None:
    from adaptive.measuring.parallel import cores

    queue = queue or experiment.run.get("queue")
    if queue and not (store or experiment.run.get("store")):
        raise InputError("a queue needs a --store, where its workers put results")
    opened = _store(experiment, store)
    board = board or experiment.run.get("board") or board_model()
    output = output_folder(experiment)
    plan = make_plan(experiment, output / "candidates", board)
    done = opened.names("results")
    _tell(plan, done)
    if only_plan:
        return None
    with ExitStack() as stack:
        engine: ShardEngine
        if queue is not None:
            from adaptive.experiments.queue import QueueEngine

            engine = QueueEngine(queue)
        else:
            from adaptive.experiments.local import LocalEngine

            engine = LocalEngine(opened, jobs or experiment.run.get("jobs") or cores(), board)
        stack.callback(engine.close)
        bar = stack.enter_context(tqdm(total=0, unit="shard", desc="shards"))

        def watch(progress: Progress) -> None:
            now = progress.done + len(progress.failed)
            if bar.total != progress.total or now != bar.n:
                bar.total = progress.total
                bar.update(now - bar.n)
                bar.refresh()

        ran = run_plan(plan, opened, engine, output, watch)
    from adaptive.report.experiment import lines_of

    for line in lines_of(ran.report):
        click.echo(line)
    click.echo(f"wrote {output / 'report.html'}, report.md and report.json beside it")
    for line in ran.omitted:
        click.echo(f"left out: {line}", err=True)
    return ran


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM stops a run as Ctrl-C does, so that the store knows that it is stopped."""

    def told(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, told)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("adaptive: stopped; the same command goes on from there", err=True)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _wait_for_change(file: Path, own: list[Path], seen: list[Stamp]) -> None:
    pause = 0.0
    while True:
        time.sleep(pause)
        began = time.monotonic()
        if stamps_of(file, own) != seen:
            return
        # A look at very many images takes long; most of the time nobody looks.
        pause = max(WATCH_S, 10 * (time.monotonic() - began))


def _store(experiment: Experiment, given: str | None) -> Store:
    """The store that is named, or a folder beside the experiment's file."""
    named = given or experiment.run.get("store")
    if named is None:
        return FolderStore(output_folder(experiment) / "store")
    return open_store(named if given or "://" in named else str(experiment.path(named)))


def _read(file: Path) -> Experiment:
    try:
        return read_experiment(file)
    except DeclarationError as error:
        for problem in error.problems:
            click.echo(f"{file}:{problem.line}: {problem.words}", err=True)
        count = len(error.problems)
        raise InputError(
            f"{file} cannot be run; {count} {'thing is' if count == 1 else 'things are'} wrong "
            "with it"
        ) from None


def _tell(plan: ExperimentPlan, done: set[str]) -> None:
    for line in plan.lines(done):
        click.echo(line)
    for line in plan.notes:
        click.echo(f"note: {line}", err=True)
    for line in plan.omitted:
        click.echo(f"left out: {line}", err=True)


@configurable
@command.command(name="serve")
@click.option("--store", metavar="URL", required=True, help="As given to run.")
@click.option("--queue", metavar="URL", help="Where runs that are begun here send their shards.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("experiments"),
    show_default=True,
    help="Where experiment files lie that the form writes; paths in them are relative to it.",
)
@listening_options(8090)
def serve(
    store: str,
    queue: str | None,
    folder: Path,
    listening: Listening,
) -> None:
    """Show runs, reports and images on a page, and run what its form declares.

    Without --keys, experiments are begun from this machine alone.
    """
    from adaptive.experiments.begun import Begun
    from adaptive.experiments.frontend import assemble
    from adaptive.serving.process import run as run_server

    opened = open_store(store if "://" in store else str(Path(store).resolve()))
    begun = Begun(folder, opened.url, queue)
    try:
        tls = None if listening.certificate is None else listening.certificate.context
        server = assemble(opened, begun, listening.host, listening.port, listening.keys, tls)
        run_server(server, "experiments")
    finally:
        begun.close()
