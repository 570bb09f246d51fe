"""The translation example from sentences to a report, with sentences and networks made here."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import numpy as np
import pytest
from click.testing import CliRunner

EXAMPLE = Path(__file__).parents[2] / "examples" / "translation"
MODULES = ("pairs", "translators", "train", "sentences", "translate", "table", "results")

WHO = {"a dog": "ein Hund", "a cat": "eine Katze", "the girl": "das Mädchen", "a man": "ein Mann"}
DOES = {"runs": "rennt", "sleeps": "schläft", "waits": "wartet", "sings": "singt", "sits": "sitzt"}
WHERE = {
    "in the park": "im Park",
    "at the lake": "am See",
    "on the stairs": "auf der Treppe",
    "behind a wall": "hinter einer Mauer",
    "in the rain": "im Regen",
    "beside two red cars": "neben zwei roten Autos",
    "under the old bridge": "unter der alten Brücke",
}
PAIRS = [
    (f"{who} {does} {where}.", f"{WHO[who]} {DOES[does]} {WHERE[where]}.")
    for who, does, where in product(WHO, DOES, WHERE)
]


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    for package, needs in (
        ("torch", "training"),
        ("onnx", "the export"),
        ("sklearn", "a premodel"),
    ):
        pytest.importorskip(package, reason=f"{needs} needs it")
    for package in ("sentencepiece", "sacrebleu"):
        pytest.importorskip(package, reason="examples/translation/requirements.txt has it")
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def work(example: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks trained for some steps, and outcome tables of sentences beside those."""
    data = tmp_path_factory.mktemp("data")
    work = tmp_path_factory.mktemp("work")
    shuffled = [PAIRS[row] for row in np.random.default_rng(0).permutation(len(PAIRS))]
    for part, chosen in (("train", shuffled), ("tuning", shuffled[:80]), ("test", shuffled[80:])):
        for side, language in enumerate(("en", "de")):
            text = "".join(f"{pair[side]}\n" for pair in chosen)
            (data / f"{part}.{language}").write_text(text, encoding="utf-8")
    pairs = example.pairs.read_pairs(data, "train")
    assert pairs == shuffled
    example.pairs.learn_pieces([s for pair in pairs for s in pair], work / "pieces.model", 120)
    recipe = example.translators.Recipe
    for name, kind, layers, epochs in (("small", "gru", 1, 8), ("large", "transformer", 2, 25)):
        example.translators.RECIPES[name] = recipe(kind, 32, layers, 0.0, 1e-2, epochs)
        network = example.train.train(pairs, work, name, epochs, seed=1)
        example.train.export(network, work / name)
    example.table.write_table(data, work, ["tuning"], "tuning.csv", 10, 1, ["small"])
    example.table.write_table(data, work, ["test"], "test.csv", 10, 1, ["small"])
    return work


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_onnx_files_say_what_torch_says(
    example: SimpleNamespace, tmp_path: Path, kind: str
) -> None:
    import onnx
    import torch

    torch.manual_seed(3)
    recipe = example.translators.Recipe(kind, 64, 2, 0.3, 1e-3, 1)
    network = example.translators.make(recipe, 50).eval()
    example.train.export(network, tmp_path / "net")
    for part in ("encoder", "step"):
        model = onnx.load(str(tmp_path / f"net.{part}.onnx"))
        assert max(each.version for each in model.opset_import) <= 16
        assert model.ir_version <= 8  # the newest that ONNX Runtime 1.11 reads
    runs = example.translate.OnnxTranslator(tmp_path / "net")
    source = [7, 30, 9, 41, 12, 3]
    memory, state = runs.encoder.run(None, {"source": np.array([source])})
    known = [2, 8, 44, 11]
    with torch.no_grad():
        taught = network.teach(torch.tensor([source]), torch.tensor([known]))
        wanted = torch.log_softmax(network.logits(taught), dim=-1)[0].numpy()
    for place, token in enumerate(known):
        given = {"token": np.array([token]), "memory": memory, "state": state}
        said, state = runs.step.run(None, given)
        np.testing.assert_allclose(said[0], wanted[place], atol=2e-5)


@pytest.mark.slow
@pytest.mark.train
def test_greedy_decoding_takes_the_likeliest_piece_and_its_confidence(
    example: SimpleNamespace, work: Path
) -> None:
    import torch

    pieces = example.pairs.read_pieces(work / "pieces.model")
    runs = example.translate.OnnxTranslator(work / "large")
    source = example.pairs.encode(pieces, PAIRS[0][0])
    said = runs.translate(source)
    recipe = example.translators.RECIPES["large"]
    network = example.translators.make(recipe, pieces.get_piece_size()).eval()
    network.load_state_dict(torch.load(work / "large.pt", weights_only=True)["network"])
    whole = [example.pairs.BEGIN, *said.pieces]
    with torch.no_grad():
        taught = network.teach(torch.tensor([source]), torch.tensor([whole]))
        logs = torch.log_softmax(network.logits(taught), dim=-1)[0]
    assert logs.argmax(dim=1).tolist() == [*said.pieces, example.pairs.END]
    assert said.confidence == pytest.approx(float(logs.max(dim=1)[0].mean().exp()), abs=1e-4)
    # What it was trained on it can say.
    assert pieces.decode(said.pieces) == PAIRS[0][1]
    # Two that are not sure: a wider beam finds what is likelier, and scores it as torch does.
    unsure = example.translate.OnnxTranslator(work / "small")
    gained = []
    for sentence, _ in PAIRS[:10]:
        source = example.pairs.encode(pieces, sentence)
        greedy, found = unsure.translate(source), unsure.search(source)
        gained.append(found.confidence - greedy.confidence)
        memory, state = unsure.encoder.run(None, {"source": np.array([source])})
        logs = []
        for known, piece in zip([2, *found.pieces], [*found.pieces, example.pairs.END]):
            given = {"token": np.array([known]), "memory": memory, "state": state}
            told, state = unsure.step.run(None, given)
            logs.append(told[0, piece])
        assert found.confidence == pytest.approx(float(np.exp(np.mean(logs))), rel=1e-4)
    assert np.mean(gained) > 0


@pytest.mark.slow
@pytest.mark.train
def test_the_output_loss_is_the_cross_entropy_of_all_scores(example: SimpleNamespace) -> None:
    import torch

    torch.manual_seed(0)
    network = example.translators.make(example.translators.RECIPES["gru-128"], 300)
    hidden = torch.randn(150, 128, requires_grad=True)
    wanted = torch.randint(0, 300, (150,))
    for smoothing in (0.0, 0.1):
        found = []
        for loss in (
            network.loss(hidden, wanted, smoothing),
            torch.nn.functional.cross_entropy(
                network.logits(hidden), wanted, label_smoothing=smoothing
            ),
        ):
            slopes = torch.autograd.grad(3 * loss, [hidden, network.embedding.weight, network.bias])
            found.append((float(loss.detach()), slopes))
        assert found[0][0] == pytest.approx(found[1][0], rel=1e-3)
        for own, true in zip(found[0][1], found[1][1]):
            assert float((own - true).norm() / true.norm()) < 0.01  # products are in bfloat16


@pytest.mark.slow
@pytest.mark.train
def test_a_stopped_training_goes_on_to_the_same_network(
    example: SimpleNamespace, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    (tmp_path / "pieces.model").write_bytes((work / "pieces.model").read_bytes())
    train = example.train.train
    whole = train(PAIRS, tmp_path, "small", 3, seed=2).state_dict()
    (tmp_path / "small.pt").unlink()
    keep = example.train._keep

    def stopping(*arguments: Any) -> None:
        keep(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(example.train, "_keep", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(PAIRS, tmp_path, "small", 3, seed=2)
    again = train(PAIRS, tmp_path, "small", 3, seed=2).state_dict()
    for name, values in whole.items():
        assert torch.equal(values, again[name]), name
    with pytest.raises(SystemExit, match="of 3 epochs with seed 2, and this one is of 4 epochs"):
        train(PAIRS, tmp_path, "small", 4, seed=2)


@pytest.mark.slow
@pytest.mark.train
def test_features_of_a_sentence(example: SimpleNamespace) -> None:
    bag = example.sentences.common_words(["A man, a man!", "a dog's man", "The dog"], 3)
    assert bag == ["a", "man", "dog"]  # in as many sentences, by the alphabet
    cut = ["▁A", "▁ma", "n", ",", "▁a", "▁dog", "!"]
    found = example.sentences.features_of("A man, a dog!", cut, bag)
    assert found.tolist() == [4, 7, 8 / 4, 10 / 7, 2 / 13, 2, 1, 1]
    assert len(example.sentences.names_of(bag)) == len(found)
    assert example.sentences.features_of("", [], bag).tolist() == [0] * 8


@pytest.mark.slow
@pytest.mark.train
def test_the_table_goes_through_train_tune_and_evaluate(
    example: SimpleNamespace, work: Path, tmp_path: Path
) -> None:
    from sacrebleu.metrics import CHRF

    from adaptive import OutcomeTable
    from adaptive.cli.evaluate import command as evaluate
    from adaptive.cli.train import command as train
    from adaptive.cli.tune import command as tune

    with open(work / "test.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    references = (work / "test.reference.txt").read_text(encoding="utf-8").splitlines()
    said = (work / "test.large.txt").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(said) == len(references) == len(PAIRS) - 80
    for row, text, reference in zip(rows[:5], said, references):
        worth = CHRF().sentence_score(text, [reference]).score / 100
        assert float(row["large:chrf"]) == pytest.approx(worth, abs=1e-5)
    table = OutcomeTable.read(work / "test.csv")
    assert (table.quality_name, table.candidates) == ("chrf", ("large", "small", "small.beam4"))
    assert table.features[:3] == ("words", "pieces", "word_length")
    assert table.quality("large").mean() > table.quality("small").mean()

    def run(command: Any, *arguments: object) -> str:
        done = CliRunner().invoke(command, [str(argument) for argument in arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    premodel, policy, told = work / "premodel-knn", tmp_path / "p.json", tmp_path / "told.json"
    tuning = work / "tuning.csv"
    run(train, tuning, "-o", premodel, "--split", "all")
    budget = float(np.mean([table.ms(name).mean() for name in table.candidates]))
    run(tune, tuning, "--premodel", premodel, "--budget-ms", 2 * budget, "-o", policy)
    page = tmp_path / "report.html"
    given = ("--premodel", premodel, "--report", page, "--json", told)
    out = run(evaluate, policy, work / "test.csv", *given)
    assert "chrf %" in out
    found = json.loads(told.read_text())
    assert found["images"] == len(rows)
    assert found["oracle"]["chrf"]["value"] >= found["policy"]["chrf"]["value"]
    assert "chrf" in page.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.train
def test_a_corpus_scores_as_sacrebleu_says(example: SimpleNamespace, work: Path) -> None:
    from sacrebleu.metrics import BLEU, CHRF

    from adaptive import OutcomeTable

    table = OutcomeTable.read(work / "test.csv")
    results = example.results
    corpus = results.Corpus(work / "test", table.candidates, 50, 0)
    small = results.of_network(table, table.candidates.index("small"))
    said = (work / "test.small.txt").read_text(encoding="utf-8").splitlines()
    references = (work / "test.reference.txt").read_text(encoding="utf-8").splitlines()
    score, resampled = corpus.bleu(small)
    assert score == pytest.approx(BLEU().corpus_score(said, [references]).score)
    assert corpus.chrf(small) == pytest.approx(CHRF().corpus_score(said, [references]).score)
    assert resampled.min() < score < resampled.max()
    cost = [float(table.ms(name).mean()) for name in ("small", "large")]
    mix = results.mix_of(table, float(np.mean(cost)))
    assert mix.ms.mean() == pytest.approx(np.mean(cost))
    np.testing.assert_allclose(mix.weight.sum(axis=1), 1)
    large = results.of_network(table, table.candidates.index("large"))
    assert score < corpus.bleu(mix)[0] < corpus.bleu(large)[0]
    oracle = results.oracle_of(table)
    best = np.max([table.quality(name) for name in table.candidates], axis=0)
    own = np.stack([table.quality(name) for name in table.candidates], axis=1)
    np.testing.assert_allclose((oracle.weight * own).sum(axis=1), best)
