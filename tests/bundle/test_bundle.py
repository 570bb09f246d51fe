from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_files import block, colour_network, external_tensor, model, node, number, tensor, value

from adaptive import AdaptiveError, Bundle, BundleError, EngineError, InputError, Router
from adaptive.bundle.bundle import MANIFEST, write_bundle
from adaptive.files import inside, sha256, write_json
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling

WEIGHTS = np.eye(3, dtype=np.float32)


def premodel_of(*candidates: str) -> KNNChain:
    """Three noted images, one feature; it needs no scikit-learn."""
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    X = scaling.grid(np.array([[0.0], [1.0], [2.0]]))
    outcomes = np.ones((3, len(candidates)), np.uint8)
    return KNNChain.from_arrays(["contrast"], list(candidates), scaling, X, outcomes, 1, 1)


@pytest.fixture(scope="session")
def full_bundle(tiny_candidates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that has everything a bundle may have."""
    output = tmp_path_factory.mktemp("full") / "bundle"
    write_bundle(
        output,
        Bundle.read(tiny_candidates),
        Hybrid(("cheap", "strong"), premodel_of("cheap", "strong"), thresholds=(0.5,), shift=0.1),
        certificate={"format": 1, "epsilon": 0.01},
        times={"cheap": 0.1234567, "strong": 1.0},
        board={"model": "a board"},
        names=["cheap", "strong"],
    )
    return output


@pytest.fixture
def bundle(full_bundle: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(full_bundle, tmp_path / "bundle"))


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return found


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    manifest = manifest_of(folder)
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def rehash(folder: Path) -> None:
    """State the hashes of the files as they are now."""

    def edit(manifest: dict[str, Any]) -> None:
        for entry in manifest["candidates"]:
            entry["sha256"] = sha256(folder / entry["file"])
        manifest["files"] = {name: sha256(folder / name) for name in manifest["files"]}

    change(folder, edit)


def refused(folder: Path, says: str, kind: type[AdaptiveError] = BundleError) -> None:
    """The bundle is refused, with one sentence that holds `says`."""
    for load in (Bundle.read, Router.load):
        with pytest.raises(kind) as caught:
            load(folder)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_written_bundle_reads_back(full_bundle: Path) -> None:
    read = Bundle.read(full_bundle)
    assert read.names == ("cheap", "strong")
    assert read.labels == ("blue", "green", "red")
    assert read.reference == "strong"
    assert isinstance(read.policy, Hybrid)
    assert read.policy.shift == 0.1
    assert read.policy.premodel is read.premodel is not None
    assert read.certificate == {"format": 1, "epsilon": 0.01}
    assert read.board == {"model": "a board"}
    assert read.candidate("cheap").ms == pytest.approx(0.12346)
    with Router.load(full_bundle) as router:
        assert router.classify(np.zeros((20, 20, 3), np.uint8)).label in read.labels


def test_every_file_but_the_manifest_has_a_hash(full_bundle: Path) -> None:
    manifest = manifest_of(full_bundle)
    hashed = {*manifest["files"], *(entry["file"] for entry in manifest["candidates"])}
    there = {p.relative_to(full_bundle).as_posix() for p in full_bundle.rglob("*") if p.is_file()}
    assert there - {MANIFEST} == hashed


def test_unknown_candidate_is_named_with_what_there_is(full_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"'resnet' is not in the bundle; it has \['cheap'"):
        Bundle.read(full_bundle).candidate("resnet")


def test_missing_folder_and_manifest(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere is no folder; a bundle is a folder with a manifest.json")
    refused(tmp_path, "manifest 'manifest.json' is not in")


@pytest.mark.parametrize(
    "name", ["cheap.onnx", "labels.txt", "policy.json", "certificate.json", "premodel/table.npy"]
)
def test_missing_and_altered_files(name: str, bundle: Path) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(bundle, f"{name!r} was altered: its SHA-256 is ")
    (bundle / name).unlink()
    refused(bundle, f"{name!r} is not in ")
    (bundle / name).mkdir()
    refused(bundle, f"{name!r} is no file")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b"[]", "must be a JSON object, not list"),
        (b"3", "must be a JSON object, not int"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"\xef\xbb\xbf{}", "manifest.json has no 'format'"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a":' * 100_000, "is not JSON"),
        (b"{}", "manifest.json has no 'format'"),
        (b'{"format": 1, "labels": NaN}', "holds NaN; numbers must be finite"),
        (b'{"format": 1e999}', "'format' is"),
        (random.Random(0).getrandbits(80_000_000).to_bytes(10_000_000, "big"), "is not JSON"),
    ],
    ids=["empty", "list", "number", "binary", "bom", "nest", "objects", "{}", "nan", "inf", "10MB"],
)
def test_a_manifest_that_is_none(content: bytes, says: str, bundle: Path) -> None:
    (bundle / MANIFEST).write_bytes(content)
    refused(bundle, says)


@pytest.mark.parametrize("depth", range(700, 1000, 20))
def test_a_value_nested_as_deep_as_json_allows_is_refused(depth: int, bundle: Path) -> None:
    (bundle / MANIFEST).write_text('{"format": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(BundleError):
        Bundle.read(bundle)


@pytest.mark.parametrize("number", [2, 0, -1, 10**30])
def test_another_format_is_refused(number: int, bundle: Path) -> None:
    change(bundle, lambda m: m.update(format=number))
    refused(bundle, f"manifest.json has format {number}; this version of adaptive reads up to 1")


WRONG = [True, 3, 2.5, "text", ["list"], {"an": "object"}, 10**400]


def fields_of(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value in a JSON object."""
    if isinstance(values, dict):
        return [p for key, v in values.items() for p in [(*path, key), *fields_of(v, (*path, key))]]
    if isinstance(values, list):
        return [p for i, v in enumerate(values) for p in [(*path, i), *fields_of(v, (*path, i))]]
    return []


def set_at(values: Any, path: tuple[Any, ...], new: Any) -> Any:
    *before, last = path
    for step in before:
        values = values[step]
    old, values[last] = values[last], new
    return old


def test_a_wrong_type_in_any_field_is_refused_or_harmless(bundle: Path) -> None:
    plain = manifest_of(bundle)
    places = [p for p in fields_of({"": plain}) if len(p) > 1 and "board" not in p]
    assert len(places) > 45
    for path in places:
        for wrong in WRONG:
            manifest = copy.deepcopy(plain)
            old = set_at({"": manifest}, path, wrong)
            (bundle / MANIFEST).write_text(json.dumps(manifest))
            number = path[-1] in ("ms", "scale") or path[-2] in ("mean", "std")
            if type(wrong) is type(old) or old is None or (number and wrong in (3, 2.5)):
                with contextlib.suppress(BundleError):  # of the right type, or an optional field
                    Bundle.read(bundle)
                continue
            with pytest.raises(BundleError) as caught:
                Bundle.read(bundle)
            assert len(str(caught.value)) < 1000, path


@pytest.mark.parametrize(
    ("path", "wrong", "says"),
    [
        (("labels",), 3, "manifest.json: 'labels' is int 3, not a string"),
        (("candidates",), {}, "manifest.json: 'candidates' is dict {}, not a list"),
        (("candidates",), [], "manifest.json lists no candidates"),
        (("candidates", 0), 7, "manifest.json: candidates[0] must be an object, not int 7"),
        (("candidates", 1, "ms"), "4", "candidates[1]: 'ms' is str '4', not a number"),
        (("candidates", 1, "ms"), True, "candidates[1]: 'ms' is bool True, not a number"),
        (("candidates", 1, "ms"), 0, "candidate 'strong': ms 0.0 is not above 0"),
        (("candidates", 1, "ms"), 10**400, "candidates[1]: 'ms' is int 1000"),
        (("candidates", 0, "input", "size"), 8.0, "'size' is float 8.0, not a whole number"),
        (("candidates", 0, "input", "size"), 0, "input size 0 is not a whole number of pixels"),
        (("candidates", 0, "input", "size"), 10**9, "above the 8192 pixels allowed"),
        (("candidates", 0, "input", "dtype"), "int8", "input dtype 'int8' is not one of ['uint8'"),
        (("candidates", 0, "input", "layout"), "HWC", "input layout 'HWC' is not one of ['NHWC'"),
        (("candidates", 0, "input", "resize"), "pad", "input resize 'pad' is not one of ['crop'"),
        (("candidates", 0, "input", "scale"), 255, "a uint8 input takes pixels as they are"),
        (("candidates", 1, "input", "mean"), [1, 2], "(1.0, 2.0) is not three finite numbers"),
        (("candidates", 1, "input", "std"), [1, 0, 1], "input std (1.0, 0.0, 1.0) must be above 0"),
        (("candidates", 1, "input", "std"), [1, 10**400, 1], "'std' holds 1000"),
        (("candidates", 1, "output", "kind"), "scores", "output kind 'scores' is not one of"),
        (("candidates", 1, "output", "classes"), 1, "output classes 1 is not a whole number >= 2"),
        (("candidates", 1, "output", "classes"), 4, "has 4 classes, but there are 3 labels"),
        (("candidates", 1, "output", "background"), 1, "'background' is int 1, not true or false"),
        (("candidates", 1, "name"), "cheap", "lists a candidate twice: ['cheap', 'cheap']"),
        (("reference",), "resnet", "the reference does not fit: candidate 'resnet' is not in"),
        (("candidates", 0, "sha256"), "0", "'cheap.onnx' was altered"),
        (("files", "labels.txt"), None, "manifest.json: files has no 'labels.txt'"),
    ],
)
def test_each_field_is_checked(path: tuple[Any, ...], wrong: Any, says: str, bundle: Path) -> None:
    change(bundle, lambda m: set_at(m, path, wrong))
    refused(bundle, says)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "..",
            ".",
            "a/b",
            "a b",
            "",
            "net@",
            "net@x",
            "@1",
            "net@1@2",
            "né",
            "a\n",
            "\0",
            "../up",
        ),
        *("decode", "features", "premodel", "total", "none"),
    ],
)
def test_names_that_no_candidate_may_have(name: str, bundle: Path) -> None:
    change(bundle, lambda m: m["candidates"][0].update(name=name))
    refused(bundle, "candidate")


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ({"cheap": "cheap"}, "'after' runs in a circle: cheap after cheap"),
        ({"cheap": "strong", "strong": "cheap"}, "'after' runs in a circle: "),
        ({"cheap": "gone"}, "candidate 'cheap' comes after 'gone', which is not there"),
        ({"cheap": "../x"}, "no candidate name"),
    ],
)
def test_after_is_checked(after: dict[str, str], says: str, bundle: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        for entry in manifest["candidates"]:
            entry["after"] = after.get(entry["name"])

    change(bundle, edit)
    refused(bundle, says)


OUTSIDE = {
    "../cheap.onnx": "leaves its folder",
    "sub/../../cheap.onnx": "leaves its folder",
    "/etc/passwd": "leaves its folder",
    "..\\cheap.onnx": "leaves its folder",
    "C:\\cheap.onnx": "leaves its folder",
    "cheap.onnx\0": "leaves its folder",
    "link.onnx": "goes through the symbolic link 'link.onnx'",
    "linked/cheap.onnx": "goes through the symbolic link 'linked'",
    "dangling": "goes through the symbolic link 'dangling'",
    "gone.onnx": "is not in",
    "x" * 300: "cannot be looked up",
    "\ud800": "is not in",
    "": "must name a file in the folder, not ''",
}


@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
@pytest.mark.parametrize("where", ["file", "labels", "policy", "premodel", "certificate", "files"])
def test_names_that_leave_the_folder(name: str, where: str, bundle: Path) -> None:
    shutil.copyfile(bundle / "cheap.onnx", bundle.parent / "cheap.onnx")
    (bundle / "link.onnx").symlink_to(bundle / "cheap.onnx")
    (bundle / "linked").symlink_to(bundle)
    (bundle / "dangling").symlink_to(bundle / "nothing")

    def edit(manifest: dict[str, Any]) -> None:
        if where == "file":
            manifest["candidates"][0]["file"] = name
        elif where == "files":
            manifest["files"][name] = "0" * 64
        else:
            manifest[where] = name

    change(bundle, edit)
    if name == "" and where in ("policy", "premodel", "certificate"):
        return  # an empty name is the same as none
    refused(bundle, OUTSIDE[name])


def test_a_link_in_place_of_the_manifest_or_inside_the_premodel(bundle: Path) -> None:
    real = bundle.parent / "table.npy"
    (bundle / "premodel" / "table.npy").rename(real)
    (bundle / "premodel" / "table.npy").symlink_to(real)
    refused(bundle, "goes through the symbolic link 'table.npy'")
    (bundle / MANIFEST).rename(bundle.parent / MANIFEST)
    (bundle / MANIFEST).symlink_to(bundle.parent / MANIFEST)
    refused(bundle, "goes through the symbolic link 'manifest.json'")


@pytest.mark.parametrize("name", ["labels.txt", "policy.json", "premodel/outcomes.npy"])
def test_a_file_without_a_hash_is_refused(name: str, bundle: Path) -> None:
    change(bundle, lambda m: m["files"].pop(name))
    refused(bundle, f"file {name!r}")


def test_a_file_more_in_the_premodel_is_refused(bundle: Path) -> None:
    (bundle / "premodel" / "more.bin").write_bytes(b"x")
    refused(bundle, "manifest.json has no SHA-256 for premodel file 'premodel/more.bin'")


def test_labels_must_be_as_many_as_outputs_and_readable(bundle: Path) -> None:
    (bundle / "labels.txt").write_text("blue\ngreen\n")
    rehash(bundle)
    refused(bundle, "candidate 'cheap' has 3 classes, but there are 2 labels")
    (bundle / "labels.txt").write_bytes(b"\xe9\n\xe8\n\xe7\n")
    rehash(bundle)
    refused(bundle, "labels file labels.txt cannot be read as UTF-8")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('"thresholds": [NaN]', "holds NaN; numbers must be finite"),
        ('"thresholds": [Infinity]', "holds Infinity"),
        ('"thresholds": [-Infinity]', "holds -Infinity"),
        ('"thresholds": [1e999]', "'thresholds' holds inf; it must be finite"),
        (f'"thresholds": [1{"0" * 400}]', "'thresholds' holds 1000"),
        ('"thresholds": [1.5]', "must lie between 0 and 1"),
        ('"thresholds": [-0.1]', "must lie between 0 and 1"),
        ('"thresholds": ["0.5"]', "'thresholds' holds '0.5', not a number"),
        ('"thresholds": [true]', "'thresholds' holds True, not a number"),
        ('"thresholds": 0.5', "'thresholds' is float 0.5, not a list"),
        ('"thresholds": []', "2 candidates need 1 thresholds, got []"),
        ('"thresholds": [0.5, 0.5]', "2 candidates need 1 thresholds"),
        ('"shift": 1', "has no 'thresholds'"),
        ('"thresholds": [0.5], "signal": "best"', "signal 'best' is not one of ['top'"),
        ('"thresholds": [0.5], "combine": "sum"', "combine 'sum' is not one of"),
        ('"thresholds": [0.5], "weights": [1]', "must be 2 numbers above 0"),
        ('"thresholds": [0.5], "weights": [1, 0]', "must be 2 numbers above 0"),
        ('"thresholds": [0.5], "temperatures": [1, -1]', "must be 2 numbers above 0"),
        ('"thresholds": [0.5], "upper_ms": [1]', "upper_ms has 1 times for 2 candidates"),
        ('"thresholds": [0.5], "upper_ms": [1, -1]', "must be numbers above 0"),
        ('"thresholds": [0.5], "kind": "magic"', "kind 'magic', which is not one of ['fixed'"),
        ('"thresholds": [0.5], "format": 2', "has format 2; this version of adaptive reads up to"),
        ('"thresholds": [0.5], "candidates": []', "needs at least one candidate"),
        ('"thresholds": [0.5], "candidates": ["cheap", "cheap"]', "stands twice"),
        ('"thresholds": [0.5], "candidates": ["cheap", 3]', "'candidates' holds 3, not a string"),
        ('"thresholds": [0.5], "candidates": "ab"', "'candidates' is str 'ab', not a list"),
        ('"thresholds": [0.5], "candidates": ["cheap", "vgg"]', "policy does not fit: candidate"),
        ('"kind": "random", "seed": -1', "seed -1 is not a whole number >= 0"),
        ('"kind": "random", "shares": []', "must be 2 numbers >= 0 that sum to 1"),
        ('"kind": "random", "shares": [0.5, 0.6]', "must be 2 numbers >= 0 that sum to 1"),
        ('"kind": "premodel", "on_abstain": "ask"', "on_abstain 'ask' is not one of"),
        ('"kind": "premodel", "candidates": ["strong", "vgg"]', "'vgg' is not in the premodel"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(settings: str, says: str, bundle: Path) -> None:
    head = '"format": 1, "kind": "cascade", "candidates": ["cheap", "strong"]'
    (bundle / "policy.json").write_text("{" + head + ", " + settings + "}")
    rehash(bundle)
    refused(bundle, says)


@pytest.mark.parametrize("policy", ["premodel", "hybrid"])
def test_a_policy_that_needs_a_premodel_without_one(policy: str, bundle: Path) -> None:
    change(bundle, lambda m: m.pop("premodel"))
    text = f'{{"format": 1, "kind": "{policy}", "candidates": ["cheap"], "thresholds": []}}'
    (bundle / "policy.json").write_text(text)
    rehash(bundle)
    refused(bundle, f"policy.json: a {policy} policy needs a premodel")


def test_a_premodel_for_other_candidates_is_refused(bundle: Path) -> None:
    shutil.rmtree(bundle / "premodel")
    premodel_of("resnet", "vgg").save(bundle / "premodel")
    rehash(bundle)
    refused(bundle, "the premodel does not fit: candidate 'resnet' is not in the manifest; it has")


def test_a_premodel_may_judge_more_candidates_than_the_bundle_carries(
    tiny_candidates: Path, tmp_path: Path
) -> None:
    policy = ByPremodel(("cheap",), premodel_of("cheap", "vgg"))
    write_bundle(tmp_path / "out", Bundle.read(tiny_candidates), policy)
    with Router.load(tmp_path / "out") as router:
        assert router.classify(np.zeros((9, 9, 3), np.uint8)).candidate == "cheap"


def with_external(bundle: Path, *locations: str, nested: bool = False) -> None:
    """Replace `cheap.onnx` by one whose weights lie in other files."""
    weights = [external_tensor(f"w{i}", (3, 3), name) for i, name in enumerate(locations)]
    nodes = [node("Identity", ["images"], ["answer"])]
    if nested:
        attribute = block(1, "value") + block(5, weights.pop()) + number(20, 4)
        nodes.append(node("Constant", [], ["w"], attribute))
    shape = ["n", 8, 8, 3]
    model(
        bundle / "cheap.onnx",
        nodes,
        [value("images", "uint8", shape)],
        [value("answer", "uint8", shape)],
        weights,
    )
    rehash(bundle)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("../weights.bin", "external data '../weights.bin' leaves its folder"),
        ("/etc/passwd", "external data '/etc/passwd' leaves its folder"),
        ("gone.bin", "external data 'gone.bin' is not in"),
        ("link.bin", "external data 'link.bin' goes through the symbolic link"),
        ("unlisted.bin", "keeps weights in 'unlisted.bin', which has no SHA-256 under 'files'"),
    ],
)
def test_external_data_must_lie_inside_and_be_listed(
    location: str, says: str, nested: bool, bundle: Path
) -> None:
    for name in ("unlisted.bin", "../weights.bin"):
        (bundle / name).write_bytes(bytes(36))
    (bundle / "link.bin").symlink_to(bundle / "unlisted.bin")
    with_external(bundle, location, nested=nested)
    refused(bundle, says)


def external_network(path: Path, location: str) -> None:
    nodes = [
        node("Cast", ["images"], ["pixels"], block(1, "to") + number(3, 1) + number(20, 2)),
        node("Flatten", ["pixels"], ["flat"]),
        node("MatMul", ["flat", "weights"], ["answer"]),
    ]
    model(
        path,
        nodes,
        [value("images", "uint8", ["n", 2, 2, 3])],
        [value("answer", "float32", ["n", 3])],
        [external_tensor("weights", (12, 3), location)],
    )
    (path.parent / location).parent.mkdir(exist_ok=True, parents=True)
    (path.parent / location).write_bytes(np.ones((12, 3), np.float32).tobytes())


def test_networks_in_folders_with_external_data_are_carried(tmp_path: Path) -> None:
    source = tmp_path / "source"
    entries, files = [], {}
    for name in ("a", "b"):
        (source / name).mkdir(parents=True)
        external_network(source / name / "model.onnx", "weights/data.bin")
        files[f"{name}/weights/data.bin"] = sha256(source / name / "weights/data.bin")
        entries.append(
            {
                "name": name,
                "file": f"{name}/model.onnx",
                "sha256": sha256(source / name / "model.onnx"),
                "input": {"dtype": "uint8", "layout": "NHWC", "size": 2, "resize": "stretch"},
                "output": {"kind": "logits", "classes": 3},
            }
        )
    (source / "labels.txt").write_text("x\ny\nz\n")
    files["labels.txt"] = sha256(source / "labels.txt")
    manifest = {"format": 1, "labels": "labels.txt", "candidates": entries, "files": files}
    write_json(source / MANIFEST, manifest)
    write_bundle(tmp_path / "out", Bundle.read(source), Fixed(("b",)))
    with Router.load(tmp_path / "out") as router:
        answer = router.classify(np.zeros((2, 2, 3), np.uint8))
    assert answer.top5 == (("x", 1 / 3), ("y", 1 / 3), ("z", 1 / 3)) or answer.score < 0.34
    (tmp_path / "out" / "a" / "weights" / "data.bin").write_bytes(bytes(144))
    refused(tmp_path / "out", "'a/weights/data.bin' was altered")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cheap.onnx is not an ONNX file"),
        (b"a text file, not a network", "cheap.onnx is not an ONNX file"),
        (random.Random(1).getrandbits(80_000_000).to_bytes(10_000_000, "big"), "is not an ONNX"),
        (b"PK\x03\x04" + bytes(100), "cheap.onnx is not an ONNX file"),
    ],
    ids=["empty", "text", "10MB", "zip"],
)
def test_a_network_that_is_no_onnx_file(content: bytes, says: str, bundle: Path) -> None:
    (bundle / "cheap.onnx").write_bytes(content)
    rehash(bundle)
    refused(bundle, says)


def engine_refuses(bundle: Path, *says: str) -> None:
    """The files are in order, but the runtime or the engine's check refuses the network."""
    rehash(bundle)
    Bundle.read(bundle)
    with pytest.raises(EngineError) as caught:
        Router.load(bundle)
    for text in says:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_opset_newer_than_the_runtime(bundle: Path) -> None:
    import onnxruntime

    colour_network(bundle / "cheap.onnx", WEIGHTS, 8, opset=99)
    engine_refuses(
        bundle, f"ONNX Runtime {onnxruntime.__version__} cannot load cheap.onnx (opset 99): "
    )


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"size": 9}, "reads inputs of shape ['n', 9, 9, 3], but candidate 'cheap' says NHWC of"),
        ({"layout": "NCHW"}, "reads inputs of shape ['n', 3, 8, 8], but candidate 'cheap' says"),
        ({"dtype": "float32"}, "reads tensor(float), but candidate 'cheap' says uint8"),
        ({"weights": np.eye(3, 4)}, "has 4 outputs, but candidate 'cheap' says 3 classes"),
    ],
)
def test_a_network_that_is_not_what_the_manifest_says(
    made: dict[str, Any], says: str, bundle: Path
) -> None:
    colour_network(bundle / "cheap.onnx", **{"weights": WEIGHTS, "size": 8, **made})
    engine_refuses(bundle, "cheap.onnx " + says)


def fixed_network(path: Path, images: int) -> None:
    """The mean of each channel, of so many images and no others."""
    model(
        path,
        [
            node("Cast", ["images"], ["pixels"], block(1, "to") + number(3, 1) + number(20, 2)),
            node("Flatten", ["pixels"], ["flat"]),
            node("MatMul", ["flat", "weights"], ["answer"]),
        ],
        [value("images", "uint8", [images, 8, 8, 3])],
        [value("answer", "float32", [images, 3])],
        [tensor("weights", np.tile(np.eye(3, dtype=np.float32) / 64, (64, 1)))],
    )


def test_a_fixed_batch_axis_of_several_is_refused(bundle: Path) -> None:
    fixed_network(bundle / "cheap.onnx", 4)
    says = "cheap.onnx has a fixed batch axis of 4; export it with a free one or 1"
    engine_refuses(bundle, says)


def test_a_network_for_one_image_runs_one_by_one_without_a_word(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fixed_network(bundle / "cheap.onnx", 1)
    rehash(bundle)
    images = [np.full((8, 8, 3), colour, np.uint8) for colour in ((9, 0, 0), (0, 0, 9), (0, 9, 0))]
    with Router.load(bundle, policy=Fixed(("cheap",))) as router:
        alone = [router.classify(image).index for image in images]
        together = [answer.index for answer in router.classify_batch(images)]
    assert alone == together == [0, 2, 1]
    assert caplog.records == []


def test_nothing_stays_open_when_a_later_network_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptive.engines.engine import OnnxEngine

    closed: list[str] = []
    monkeypatch.setattr(OnnxEngine, "close", lambda engine: closed.append(engine.name))
    colour_network(bundle / "strong.onnx", WEIGHTS, 8, opset=99)
    engine_refuses(bundle, "strong.onnx")
    assert closed == ["cheap"]


@given(data=st.data())
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_manifest_is_read_or_refused(data: st.DataObject, full_bundle: Path) -> None:
    """Values of a good manifest replaced, removed or swapped: a bundle or an AdaptiveError."""
    broken = full_bundle.parent / "broken"
    if not broken.exists():
        shutil.copytree(full_bundle, broken)
    manifest = manifest_of(full_bundle)
    junk = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=12)
        | st.sampled_from(["cheap", "strong", "net@1", "cheap.onnx", "..", "labels.txt", 10**400])
        | st.sampled_from(["premodel", "policy.json", "manifest.json", ".", "crop", "uint8"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
    for _ in range(data.draw(st.integers(1, 3))):
        places = fields_of(manifest)
        path = data.draw(st.sampled_from(places))
        if data.draw(st.booleans()):
            set_at(manifest, path, data.draw(junk))
        elif isinstance(path[-1], str):
            parent: Any = manifest
            for step in path[:-1]:
                parent = parent[step]
            del parent[path[-1]]
        else:
            set_at(manifest, path, copy.deepcopy(data.draw(st.sampled_from([None, [], {}, 0]))))
        if not manifest:
            break
    (broken / MANIFEST).write_text(json.dumps(manifest))
    with contextlib.suppress(AdaptiveError):
        Router.load(broken).close()


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_network_file_is_read_or_refused(data: st.DataObject, full_bundle: Path) -> None:
    from adaptive.engines.onnxfile import read_header

    content = bytearray((full_bundle / "cheap.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = full_bundle.parent / "mutated.onnx"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(BundleError):
        read_header(path)


# Writing


def test_write_refuses_an_existing_output(tiny_candidates: Path, tmp_path: Path) -> None:
    source = Bundle.read(tiny_candidates)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("x")
    for name in ("home", "file"):
        with pytest.raises(InputError, match="exists; give --force to replace it"):
            write_bundle(tmp_path / name, source, Fixed(("cheap",)))
        with pytest.raises(InputError, match="is no bundle; --force replaces only a bundle"):
            write_bundle(tmp_path / name, source, Fixed(("cheap",)), force=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"
    with pytest.raises(InputError, match="does not exist"):
        write_bundle(tmp_path / "no" / "out", source, Fixed(("cheap",)))
    write_bundle(tmp_path / "out", source, Fixed(("cheap",)))
    write_bundle(tmp_path / "out", source, Fixed(("strong",)), force=True)
    assert Bundle.read(tmp_path / "out").policy.candidates == ("strong",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "home", "out"]


@pytest.mark.parametrize(
    ("policy", "names", "says"),
    [
        (Fixed(("vgg",)), None, "the policy does not fit: candidate 'vgg' is not in"),
        (Fixed(("cheap",)), ["strong"], "the policy does not fit: candidate 'cheap' is not in"),
        (Fixed(("net@2",)), ["net@2", "strong"], "'net@2' comes after 'net@1', which is not"),
        (Fixed(("cheap",)), ["cheap"], "the reference does not fit: candidate 'strong'"),
    ],
)
def test_write_leaves_nothing_behind_when_the_parts_do_not_fit(
    policy: Fixed, names: list[str] | None, says: str, tiny_candidates: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=says):
        write_bundle(tmp_path / "out", Bundle.read(tiny_candidates), policy, names=names)
    assert list(tmp_path.iterdir()) == []


def test_without_a_policy_the_reference_answers(tiny_candidates: Path) -> None:
    assert Bundle.read(tiny_candidates).policy == Fixed(("strong",))


def test_inside_takes_plain_relative_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.onnx").touch()
    assert inside(tmp_path, "a/b.onnx", "file") == tmp_path / "a" / "b.onnx"
    assert inside(tmp_path, "./a//b.onnx", "file") == tmp_path / "a" / "b.onnx"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(bundle: Path) -> None:
    (bundle / "cheap.onnx").chmod(0)
    refused(bundle, "'cheap.onnx' cannot be read: Permission denied")


def test_a_cascade_survives_the_way_through_a_bundle(tiny_candidates: Path, tmp_path: Path) -> None:
    policy = Cascade(
        ("cheap", "strong"),
        thresholds=(0.25,),
        signal="margin",
        temperatures=(1.5, 0.5),
        combine="geometric",
        weights=(1.0, 2.0),
        upper_ms=(1.0, 2.0),
    )
    write_bundle(tmp_path / "out", Bundle.read(tiny_candidates), policy)
    assert Bundle.read(tmp_path / "out").policy == policy
