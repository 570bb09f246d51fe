"""CONTRIBUTING.md names what is there, and each addition is one file, as it says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from adaptive import Bundle, BundleError, InputError, Router
from adaptive.bundle.bundle import write_bundle
from adaptive.cli import group
from adaptive.engines.choose import MAKERS, EngineOptions
from adaptive.engines.choose import register as register_engine
from adaptive.evaluation.replay import replay
from adaptive.evaluation.verdict import verdict
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.files import POLICIES, policy_from_json, read_policy, write_policy
from adaptive.policy.files import register as register_policy
from adaptive.policy.fixed import Fixed
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.registry import KINDS
from adaptive.premodel.registry import register as register_premodel
from adaptive.premodel.scaling import Scaling
from adaptive.premodel.tree import Tree

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]*(?:\.(?:py|md|html|json)|/))`", GUIDE))
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert len(named) > 20
    # Named after the folder in the same sentence.
    assert [name for name in missing if not (ROOT / "adaptive/tuning" / name).exists()] == []
    for name in re.findall(r"`((?:[\w]+/)+)NAME\.py`", GUIDE):
        assert (ROOT / name).is_dir()


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("adaptive/policy/files.py", ("POLICIES", "register")),
        ("adaptive/policy/base.py", ("start", "next", "ways", "settings", "from_settings")),
        ("adaptive/policy/base.py", ("premodel_role", "needs_features", "words", "why_start")),
        ("adaptive/policy/base.py", ("why_path", "grounds")),
        ("tests/policy/test_policies.py", ("MAKE",)),
        ("adaptive/engines/engine.py", ("OpenEngine",)),
        ("adaptive/engines/choose.py", ("MAKERS", "register")),
        ("tests/support/engines.py", ("ENGINES",)),
        ("premodel/estimator.py", ("Estimator", "SETTINGS", "ARRAYS")),
        ("premodel/registry.py", ("KINDS", "register")),
        ("tests/premodel/conftest.py", ("CLASSES",)),
        ("features/extract.py", ("STAGES",)),
        ("features/schema.py", ("EXTRA",)),
        ("adaptive/images/decode.py", ("FORMATS",)),
    ],
)
def test_names_that_it_tells_to_extend_are_there(file: str, names: tuple[str, ...]) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for name in names:
        assert f"`{name}" in GUIDE or f"{name}`" in GUIDE
        assert re.search(rf"^\s*(?:def |class )?{name}\b", text, re.M), (file, name)


# What follows does each addition in a temporary folder, as one file of another package does.

#: A policy: all that a class has to bring.
POLICY = '''
from dataclasses import dataclass

import numpy as np

from adaptive.policy.base import STOP, Policy
from adaptive.policy.grounds import Grounds


@dataclass
class Patient(Policy):
    """Ask the last candidate where the first is not sure."""

    kind = "patient"
    least: float = 0.5

    def start(self, chances, count, limits):
        return np.zeros(count, np.intp)

    def next(self, history, limits):
        if len(history.path) == 2:
            return np.full(len(history), STOP)
        unsure = history.outputs[-1].confidence < self.least
        return np.where(unsure, len(self.candidates) - 1, STOP)

    def ways(self):
        return ((0, len(self.candidates) - 1),)

    def grounds(self, history, limits):
        return Grounds("top", float(history.outputs[-1].confidence[0]), self.least)

    def words(self):
        return f"{self.candidates[0]}, and {self.candidates[-1]} where that is not sure"

    def settings(self):
        return {"least": self.least}

    @classmethod
    def from_settings(cls, fields, given):
        return cls(**given, least=fields.get("least", float))
'''

#: One with a premodel that is heard beside the networks.
ADVISED = '''
from dataclasses import dataclass

import numpy as np

from adaptive.policy.base import ADVISES, STOP, Policy


@dataclass
class Advised(Policy):
    """Ask the last candidate too where the premodel expects the first to be wrong."""

    kind = "advised"
    premodel_role = ADVISES

    def start(self, chances, count, limits):
        return np.zeros(count, np.intp)

    def next(self, history, limits):
        on = (history.chances[:, 0] < 0.5) & (len(history.path) == 1)
        return np.where(on, len(self.candidates) - 1, STOP)

    def ways(self):
        return ((0, len(self.candidates) - 1),)
'''

ENGINE = '''
from adaptive.engines.engine import OnnxEngine


class Counted(OnnxEngine):
    """ONNX Runtime that counts its runs."""

    ran = 0

    def run(self, *inputs):
        Counted.ran += 1
        return super().run(*inputs)
'''

PREMODEL = '''
import numpy as np

from adaptive.premodel.estimator import Estimator


class Prior(Estimator):
    """How often each candidate was right, whatever the image."""

    kind = "prior"
    SETTINGS = {"seed": (int,)}
    ARRAYS = {"share": ("<f8", ("candidates",))}

    def __init__(self, features, candidates, seed=0, schema_version=None):
        super().__init__(features, candidates, schema_version)
        self.seed = seed

    def _check_settings(self):
        pass

    def _train(self, X, outcomes):
        share = outcomes.mean(axis=0)
        return {"share": share}, {}, lambda X: np.tile(share, (len(X), 1))

    def _prepare(self, arrays):
        self._share = arrays["share"]

    def _chances(self, X):
        return np.tile(self._share, (len(X), 1))

    def _reasons(self, X):
        return {"share": self._share.tolist()}
'''

FEATURE = '''
import numpy as np


def extract(image):
    """How red an image is, -1..1: `image` is its pixels, (height, width, 3), RGB."""
    red, green, blue = image.reshape(-1, 3).mean(axis=0)
    return {"redness": float(2 * red - green - blue) / 510}
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Installs one file as a package of its own, with its entry point."""
    added = []

    def put(source: str, group: str = "", entry: str = "") -> Any:
        name = f"added_{len(added)}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(source)
        if group:
            folder = tmp_path / f"{name}-1.0.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            key, _, value = entry.partition("=")
            (folder / "entry_points.txt").write_text(f"[{group}]\n{key} = {name}:{value}\n")
        added.append(name)
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.import_module(name)

    before = [(known, dict(known)) for known in (POLICIES, KINDS, MAKERS)]
    yield put
    for known, were in before:
        known.clear()
        known.update(were)
    for name in added:
        sys.modules.pop(name, None)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(group, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


NAMES = ("cheap", "strong")


def test_a_policy_of_ones_own_is_one_file(
    install: Callable[..., Any],
    tiny_candidates: Path,
    tiny_images: Path,
    tiny_table_path: Path,
    tmp_path: Path,
) -> None:
    own = install(POLICY, "adaptive.policies", "patient=Patient")
    policy = own.Patient(NAMES, least=0.9)
    file = tmp_path / "policy.json"
    write_policy(policy, file)
    assert read_policy(file) == policy
    bundle, page = tmp_path / "bundle", tmp_path / "page.html"
    run(
        "bundle",
        "--candidates",
        tiny_candidates,
        "--policy",
        tmp_path / "policy.json",
        "-o",
        bundle,
    )
    with Router.load(bundle) as router:
        answers = [
            router.classify(path, explain=True) for path in sorted(tiny_images.glob("*.png"))
        ]
    assert {len(answer.path) for answer in answers} == {1, 2}
    for answer in answers:
        first, *rest = (step.grounds for step in answer.explanation.steps)
        assert (first.signal, first.threshold) == ("top", 0.9)
        assert (first.value < 0.9) == bool(rest)
    table = OutcomeTable.read(tiny_table_path)
    done = replay(policy, table)
    assert [int(c) for c in done.ran.sum(axis=1)] == [len(answer.path) for answer in answers]
    found = verdict(policy, table)
    assert not found.has_premodel
    assert found.find("policy", "random mix")
    assert not found.find("policy", "cascade")  # it would only meet its like
    told = run("evaluate", bundle, tiny_table_path, "--part", "all", "--report", page)
    assert "patient" in told
    assert page.stat().st_size > 1000


def test_a_policy_with_a_premodel_gets_a_hybrids_verdict(
    install: Callable[..., Any], tiny_candidates: Path, tiny_table_path: Path, tmp_path: Path
) -> None:
    own = install(ADVISED)
    assert register_policy(own.Advised) is own.Advised
    table = OutcomeTable.read(tiny_table_path)
    values, right = np.random.default_rng(0).normal(size=(20, 1)), np.eye(2, dtype=int)
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    premodel = KNNChain.from_arrays(
        ["contrast"], NAMES, scaling, scaling.grid(values), np.tile(right, (10, 1)), 5, 1
    )
    policy = own.Advised(NAMES, premodel)
    write_bundle(tmp_path / "bundle", Bundle.read(tiny_candidates), policy, names=NAMES)
    policy = Bundle.read(tmp_path / "bundle").policy
    assert policy.needs_features
    assert policy.premodel is not None
    cascade = Cascade(NAMES, thresholds=(0.5,))
    found = verdict(policy, table, cascades=[cascade])
    assert [c.subject for c in found.comparisons if c.opponent == "cascade"] == [
        "policy",
        "premodel",
    ]
    assert [b.subject for b in found.break_even] == ["premodel", "policy"]


def test_a_name_is_not_given_twice(install: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="'fixed' is there already: Fixed"):
        register_policy(type("Other", (Fixed,), {}))
    with pytest.raises(InputError, match="'tree' is there already: Tree"):
        register_premodel(type("Other", (Tree,), {}))
    with pytest.raises(InputError, match="engine 'onnx' is there already"):
        register_engine("onnx", install(ENGINE).Counted)


def test_an_engine_of_ones_own_is_one_file(
    install: Callable[..., Any], tiny_bundle: Path, tiny_images: Path
) -> None:
    own = install(ENGINE, "adaptive.engines", "counted=Counted")
    image = tiny_images / "000.png"
    with Router.load(tiny_bundle, engine="onnx") as plain:
        expected = plain.classify(image)
    with Router.load(tiny_bundle, engine="counted") as router:
        before = own.Counted.ran
        answer = router.classify(image)
        assert own.Counted.ran - before == len(answer.path)
    assert (answer.label, answer.score) == (expected.label, expected.score)
    before = own.Counted.ran
    assert expected.label in run("classify", "--bundle", tiny_bundle, "--engine", "counted", image)
    assert own.Counted.ran > before
    with pytest.raises(InputError, match=r"engine 'other' is not one of .*'counted'"):
        EngineOptions("other")
    with pytest.raises(InputError, match="precision 'fp16' is for TensorRT's engines"):
        EngineOptions("counted", "fp16")


def test_a_premodel_of_ones_own_is_one_file(
    install: Callable[..., Any],
    tiny_candidates: Path,
    tiny_images: Path,
    tiny_table_path: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip("sklearn")
    install(PREMODEL, "adaptive.premodels", "prior=Prior")
    premodel, bundle = tmp_path / "premodel", tmp_path / "bundle"
    told = run(
        *("train", tiny_table_path, "--classifier", "prior", "-o", premodel),
        *("--split", "all", "--order", "cheap,strong", "--features", "paper7"),
    )
    assert "prior on 90 images" in told
    run("bundle", "--candidates", tiny_candidates, "--premodel", premodel, "-o", bundle)
    share = OutcomeTable.read(tiny_table_path).quality("cheap").mean()
    with Router.load(bundle) as router:
        answer = router.classify(tiny_images / "000.png", explain=True)
    assert answer.votes is not None
    assert answer.votes["cheap"] == pytest.approx(share)
    assert answer.explanation.neighbours is None
    assert "premodel" in run("evaluate", bundle, tiny_table_path, "--part", "all")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("patient=Nobody", r"which cannot be imported: .*Nobody"),
        ("patient=Policy", "which is nothing that can stand under that name"),
    ],
)
def test_what_an_entry_point_names_wrongly_is_said(
    install: Callable[..., Any], entry: str, says: str
) -> None:
    install(POLICY, "adaptive.policies", entry)
    with pytest.raises(BundleError, match=says):
        policy_from_json({"format": 1, "kind": "patient", "candidates": ["a"]})


def test_a_feature_of_ones_own_is_one_file(
    install: Callable[..., Any], tiny_candidates: Path, tiny_images: Path, tmp_path: Path
) -> None:
    """A column of a CSV, and the function that computes it where images are answered."""
    pytest.importorskip("sklearn")
    own = install(FEATURE)
    premodel, bundle, lines = tmp_path / "premodel", tmp_path / "bundle", ["image,redness,best"]
    for path in sorted(tiny_images.glob("*.png")):
        redness = own.extract(np.asarray(Image.open(path)))["redness"]
        lines.append(f"{path.name},{redness!r},{'strong' if redness > 0 else 'cheap'}")
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    run("train", tmp_path / "own.csv", "--order", "cheap,strong", "-o", premodel)
    run("bundle", "--candidates", tiny_candidates, "--premodel", premodel, "-o", bundle)
    with Router.load(bundle, extractor=own.extract) as router:
        for line in lines[1::20]:
            name, redness, best = line.split(",")
            answer = router.classify(tiny_images / name)
            assert answer.features == {"redness": float(redness)}
            assert answer.candidate == best
