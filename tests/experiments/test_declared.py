from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_files import colour_network

from adaptive.experiments.declared import DeclarationError, declared, grid, read_experiment
from adaptive.experiments.lines import line_at, lines_of

FILE = """name = "tried"
seed = [0, 1]

[[data]]
images = "photos"

[[data]]
images = "others"
limit = [10, 20]

[candidates]
folder = ["small", "large"]

[measure]
threads = [1, 2]

[[policy]]
faster = [2.0, 4]

[[policy]]
name = "careful"
max_accuracy_drop = 0.01
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("photos", "others", "small", "large"):
        (tmp_path / name).mkdir()
    return tmp_path


def problems(text: str, folder: Path) -> list[tuple[int, str]]:
    with pytest.raises(DeclarationError) as caught:
        declared(text, folder, "x.toml")
    return [(p.line, p.words) for p in caught.value.problems]


def test_lists_span_a_grid_whose_first_changes_slowest(folder: Path) -> None:
    assert list(grid({"a": [1, 2], "b": 3, "c": ["x", "y"]})) == [
        {"a": 1, "b": 3, "c": "x"},
        {"a": 1, "b": 3, "c": "y"},
        {"a": 2, "b": 3, "c": "x"},
        {"a": 2, "b": 3, "c": "y"},
    ]
    tables = list(declared(FILE, folder).tables())
    assert len(tables) == 2 * 2 + 2 * 2 * 2
    assert tables[0][0] == "data1_folder-small_threads-1"
    assert tables[-1][0] == "data2_limit-20_folder-large_threads-2"
    assert tables[-1][1]["data"] == {"images": "others", "limit": 20}
    assert len({name for name, _ in tables}) == len(tables)


def test_policies_of_a_grid_have_names_of_their_own(folder: Path) -> None:
    policies = dict(declared(FILE, folder).chosen_policies())
    assert list(policies) == [
        "faster-2_seed-0",
        "faster-2_seed-1",
        "faster-4_seed-0",
        "faster-4_seed-1",
        "careful_seed-0",
        "careful_seed-1",
    ]
    assert policies["faster-4_seed-1"] == {"faster": 4, "seed": 1}


def test_all_that_is_wrong_is_said_at_once_each_with_its_line(folder: Path) -> None:
    text = """name = "no name"
sede = 3

[data]
images = "nowhere"
limit = 0

[candidates]
folder = "small"
[[candidates.network]]
file = "x.onnx"

[measure]
threads = "two"
engine = "magic"
features = "beauty"

[[policy]]
kind = "hybrid"
faster = 2

[[policy]]
budget_ms = 1
fixed = "a"

[run]
queue = "amqp://there"
[report]
folds = 1
split = "0.5,0.6,0.2"
"""
    found = problems(text, folder)
    lines = [1, 2, 5, 6, 8, 11, 14, 15, 16, 19, 22, 27, 27, 29, 29, 30]
    assert [line for line, _ in found] == lines
    words = "\n".join(w for _, w in found)
    for part in (
        "letters, digits and . _ - are allowed",
        "'sede' is not known here",
        "is no folder of images",
        "limit is 0; a whole number of 1 or more",
        "and not both",
        "is no ONNX file",
        "threads is 'two'",
        "engine is 'magic', which is not one of",
        "features is 'beauty'",
        "goes by a premodel needs one",
        "a policy has one of",
        "redis://HOST:PORT/DB is needed",
        "a queue needs a store",
        "folds is 1",
        "split is '0.5,0.6,0.2'",
    ):
        assert part in words


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name = 'x'\nname = 'y'", 2, "is not TOML"),
        ("name = 'x'\n[data]\nimages = ['photos', 'photos']\n[candidates]\nfolder='small'", 3,
         "names a value twice"),
        ("name = 'x'\n[data]\nimages = []\n[candidates]\nfolder='small'", 3, "an empty list"),
        ("name = 'x'\ndata = 3\n[candidates]\nfolder='small'", 2, "must be a table"),
        ("name = ['x', 'y']\n[data]\nimages='photos'\n[candidates]\nfolder='small'", 1, "name is"),
        ("name = 'x'\n[data]\nimages = ['photos', 'others']\nlabels='l'\n[candidates]\n"
         "folder='small'", 4, "write a [[data]]"),
        ("name = 'x'\ndata = []\n[candidates]\nfolder='small'", 1, "there is no table [data]"),
        ("name = 'x'\n[data]\nimages='~nobody-at-all/x'\n[candidates]\nfolder='small'", 3,
         "is no path here"),
        (f"name = 'x'\n[data]\nimages='{'x' * 5000}'\n[candidates]\nfolder='small'", 3,
         "cannot be looked at: File name too long"),
        ("name = 'x'\n[data]\nimages=\"p\\u0000\"\n[candidates]\nfolder='small'", 3,
         "has a character of no text"),
        ("name = 'x'\n[data]\nimages='photos'\n[candidates]\nfolder='small'\nlabels='l'", 6,
         "a folder of candidates has its class names"),
        ("name = 'x'\n[data]\nimages='photos'\nlabels='s3://b/l'\n[candidates]\nfolder='small'", 4,
         "is no file of labels"),
        ("name = 'x'\n[data]\nimages='photos'\n[candidates]\nnetwork = []", 5, "an empty list"),
        ("name = 'x'\n[data]\nimages='photos'\n[candidates]\nfolder='small'\n[[policy]]\n"
         "faster = inf", 7, "faster is too large"),
        (f"name = 'x'\n[data]\nimages='photos'\n[candidates]\nfolder='small'\n[[policy]]\n"
         f"budget_ms = 1{'0' * 400}", 7, "budget_ms is too large"),
        (f"name = 'x'\n[data]\nimages='photos'\nlimit = {list(range(1, 1002))}\n[candidates]\n"
         "folder='small'", 2, "span 1,001 tables; at most 1,000"),
        (f"name = 'x'\nseed = {list(range(1001))}\n[data]\nimages='photos'\n[candidates]\n"
         "folder='small'\n[[policy]]\nfaster=2", 7, "span 1,001 policies; at most 1,000"),
        ("name = 'x'\n['line 9']\n['line 9']", 3, "is not TOML"),
        ("name = 'x'\nseed = [", 2, "is not TOML"),
        ("name = 'x'\n[report]\ntitle = \"\"\"\n[data]\nimages = 3\n\"\"\"\n[data]\nimages = 'no'\n"
         "[candidates]\nfolder='small'", 8, "is no folder of images"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_run(folder: Path, text: str, line: int, words: str) -> None:
    assert any(own == line and words in said for own, said in problems(text, folder))


@pytest.mark.parametrize(
    ("network", "line", "words"),
    [
        ("file = 'float.onnx'", 4, 'like = "imagenet"'),
        ("file = 'whole.onnx'\nlike = 'imagenet'", 6, "reads uint8, which takes pixels"),
        ("file = 'float.onnx'\nlike = 'beauty'", 6, "'beauty' is no scaling"),
        ("file = 'whole.onnx'\nresize = 'squeeze'", 6, "is not one of ['crop', 'cover'"),
        ("url = 'ftp://there'", 5, "is no model's address"),
        ("file = 'whole.onnx'\nname = 'a b'", 6, "is no candidate name"),
        ("file = 'whole.onnx'\nname = 'a'\n[[candidates.network]]\nfile = 'whole.onnx'\n"
         "name = 'a'", 9, "two networks are called 'a'"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_added(folder: Path, network: str, line: int, words: str) -> None:
    for name, dtype in (("float", "float32"), ("whole", "uint8")):
        colour_network(folder / f"{name}.onnx", np.eye(3), 8, dtype)
    text = f"name = 'x'\n[data]\nimages = 'photos'\n[[candidates.network]]\n{network}\n"
    ((own, said),) = problems(text, folder)
    assert own == line
    assert words in said


def test_a_file_that_notepad_wrote_is_read(folder: Path) -> None:
    text = "name = 'x'\r\n[data]\r\nimages = 'photos'\r\n[candidates]\r\nfolder = 'small'\r\n"
    (folder / "x.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_experiment(folder / "x.toml").name == "x"


def test_folders_of_one_name_are_told_apart(folder: Path) -> None:
    for name in ("a/photos", "b/photos"):
        (folder / name).mkdir(parents=True)
    text = "name = 'x'\n[data]\nimages = ['a/photos', 'b/photos']\n[candidates]\nfolder = 'small'\n"
    assert [name for name, _ in declared(text, folder).tables()] == [
        "images-photos-1",
        "images-photos-2",
    ]


def test_lines_are_those_of_the_file() -> None:
    found = lines_of('a = 1\n[b]\n"c d" = 2\n[[e]]\nf.g = 3\n\n[[e]]\nh = [\n 1,\n]\n[e.i]\nj=1\n')
    assert found["a",] == 1
    assert found["b", "c d"] == 3
    assert found["e", 0, "f", "g"] == 5
    assert found["e", 1, "h"] == 8
    assert found["e", 1, "i", "j"] == 12
    assert line_at(found, ("e", 1, "missing")) == 7
    assert line_at(found, ("nothing",)) == 1
    found = lines_of(
        'a = """\n[x]\n""" # [\nb = [ # ]]\n  [1],\n  [2]\n]\n[c] # \'\nd = "["\n[[e]]\n'
    )
    assert found == {("a",): 1, ("b",): 4, ("c",): 8, ("c", "d"): 9, ("e",): 10, ("e", 0): 10}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not there"):
        read_experiment(tmp_path / "x.toml")


def test_networks_that_are_named_one_by_one_are_one_folder(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.onnx").write_bytes(b"")
    text = "name = 'x'\n[data]\nimages = 'photos'\n[candidates]\n"
    for name in ("a", "b"):
        text += f"[[candidates.network]]\nfile = '{name}.onnx'\nlike = 'imagenet'\n"
    ((name, found),) = declared(text, folder).tables()
    assert name == "outcomes"
    assert [n["file"] for n in found["candidates"]["network"]] == ["a.onnx", "b.onnx"]
