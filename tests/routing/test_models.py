"""Candidates that are a program's own callables: what they get and say, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from PIL import Image

from adaptive import (
    Audit,
    Cascade,
    EngineError,
    Fixed,
    InputError,
    InputSpec,
    Limits,
    Model,
    Pixels,
    Random,
    Router,
)

LABELS = ("bright", "dark")


def image_of(grey: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def by_mean(images: list[np.ndarray]) -> np.ndarray:
    """Probabilities by how bright images are, which are of any size."""
    bright = np.array([image.mean() / 255 for image in images])
    return np.stack([bright, 1 - bright], axis=1)


def by_sign(batch: np.ndarray) -> np.ndarray:
    """Logits, of an array in -1..1."""
    bright = batch.mean(axis=(1, 2, 3)) * 8
    return np.stack([bright, -bright], axis=1)


SYMMETRIC = InputSpec(32, "float32", "NHWC", "cover", (0.5,) * 3, (0.5,) * 3, 255.0)


def cascade(least: float = 0.8, **settings: Any) -> Cascade:
    return Cascade(("tiny", "large"), thresholds=(least,), **settings)


@pytest.fixture
def router():
    models = {"tiny": by_mean, "large": Model(by_sign, SYMMETRIC, "logits")}
    with Router.of(models, LABELS, policy=cascade()) as made:
        yield made


def test_an_image_is_answered_by_the_candidate_that_is_sure(router: Router) -> None:
    dark = router.classify(image_of(10))
    assert (dark.label, dark.path) == ("dark", ("tiny",))
    assert dark.score == pytest.approx(1 - 10 / 255)
    grey = router.classify(image_of(153))
    assert (grey.label, grey.candidate, grey.path) == ("bright", "large", ("tiny", "large"))
    # (153 / 255 - 0.5) / 0.5 = 0.2, so the logits are 1.6 and -1.6
    assert grey.score == pytest.approx(1 / (1 + np.exp(-3.2)), abs=1e-6)


def test_without_a_policy_the_last_candidate_answers_and_is_the_default() -> None:
    with Router.of({"a": by_mean, "b": by_mean}, LABELS) as router:
        assert router.policy == Fixed(("b",))
    with Router.of({"a": by_mean, "b": by_mean}, LABELS, reference="a") as router:
        assert router.classify(image_of(9)).path == ("a",)


def test_batches_give_the_answers_of_single_images(router: Router) -> None:
    images = [image_of(grey, 40 + grey % 7, 50) for grey in range(0, 250, 12)]
    together = router.classify_batch(images, batch=4)
    for image, answer in zip(images, together):
        alone = router.classify(image)
        assert (answer.label, answer.path) == (alone.label, alone.path)
        assert answer.score == pytest.approx(alone.score, abs=1e-6)


def test_images_come_upright_at_their_own_size_or_smaller_where_that_is_enough() -> None:
    seen: list[tuple[int, ...]] = []

    def looks(images: list[np.ndarray]) -> np.ndarray:
        seen.extend(image.shape for image in images)
        return np.full((len(images), 2), 0.5)

    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = io.BytesIO()
    Image.new("RGB", (1600, 800)).save(encoded, "JPEG", exif=exif)
    for spec, size in ((None, (1600, 800, 3)), (Pixels(300), (800, 400, 3))):
        with Router.of({"f": looks}, LABELS, input=spec, check=False) as router:
            router.classify(encoded.getvalue())
        assert seen.pop() == size
    with Router.of({"f": looks}, LABELS, input=Pixels(100), check=False) as router:
        router.classify(np.zeros((90, 500, 3), np.uint8))
        router.classify(np.zeros((400, 500, 3), np.uint8))
    assert seen[0] == (90, 500, 3)
    assert 100 <= seen[1][0] <= 400


def test_prepared_arrays_are_what_the_input_says() -> None:
    seen: list[np.ndarray] = []

    def looks(batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        return np.full((len(batch), 2), 0.5)

    with Router.of({"f": looks}, LABELS, input=InputSpec(16, scale=255.0)) as router:
        router.classify_batch([image_of(51), image_of(255)])
    assert (seen[-1].shape, seen[-1].dtype) == ((2, 3, 16, 16), np.float32)
    np.testing.assert_allclose(seen[-1][:, 0, 0, 0], [0.2, 1.0], rtol=1e-6)


def test_no_more_images_at_a_time_than_a_model_takes() -> None:
    counts: list[int] = []

    def one_by_one(images: list[np.ndarray]) -> np.ndarray:
        counts.append(len(images))
        return by_mean(images)

    with Router.of({"f": Model(one_by_one, most=2)}, LABELS) as router:
        answers = router.classify_batch([image_of(g) for g in (10, 20, 200, 30, 40)])
    assert counts == [2, 2, 2, 1]
    assert [a.label for a in answers] == ["dark", "dark", "bright", "dark", "dark"]


def test_models_are_closed_once_with_the_router() -> None:
    closed: list[str] = []
    model = Model(by_mean, close=lambda: closed.append("large"))
    with Router.of({"tiny": by_mean, "large": model}, LABELS) as router:
        assert closed == []
    router.close()
    assert closed == ["large"]
    with pytest.raises(EngineError, match="candidate 'large' is closed"):
        router.classify(image_of(9))


def test_limits_hold_with_the_costs_that_models_name() -> None:
    models = {"tiny": Model(by_mean, ms=1.0), "large": Model(by_mean, ms=50.0)}
    policy = cascade(0.99, costs_ms=(1.0, 50.0))
    with Router.of(models, LABELS, policy=policy) as router:
        assert router.classify(image_of(120)).path == ("tiny", "large")
        assert router.classify(image_of(120), Limits(allowance_ms=10)).path == ("tiny",)


@pytest.mark.parametrize(
    ("says", "output", "words"),
    [
        (lambda x: np.full((1, 2), 0.5), "probabilities", "of shape (1, 2) for 2 images"),
        (lambda x: np.full(2, 0.5), "probabilities", "of shape (2,) for 2 images"),
        (lambda x: 1 / 0, "probabilities", "batch of 2: ZeroDivisionError: division by zero"),
        (lambda x: "cat", "probabilities", "answered with 'cat'; an array of numbers"),
        (lambda x: None, "probabilities", "answered with None; an array of numbers"),
        (lambda x: 5, "answers", "answered with 5 for 2 images; a list of one pair an image"),
        (lambda x: [(1, 0.5)], "answers", "answered with [(1, 0.5)] for 2 images"),
        (lambda x: [1, 2], "answers", "answered an image with 1; a pair"),
        (lambda x: [("a", 1.5)] * 2, "answers", "is 1.5 confident; that is a number from 0 to 1"),
        (lambda x: [("a", float("nan"))] * 2, "answers", "is nan confident"),
    ],
)
def test_what_fails_when_it_is_tried_is_said(says: Callable, output: str, words: str) -> None:
    labels = None if output == "answers" else LABELS
    with pytest.raises(EngineError) as refused:
        Router.of({"f": says}, labels, output=output)
    assert words in str(refused.value)
    assert "it was tried on 2 made images of 224 x 224 pixels" in str(refused.value)


@pytest.mark.parametrize(
    ("says", "output", "words"),
    [
        (
            lambda x: np.full((2, 2), 3.0),
            "probabilities",
            "numbers from 3 to 3 whose rows sum to 6, which are no probabilities; if they are "
            'logits, say output="logits"',
        ),
        (lambda x: np.array([[1.5, -0.5]] * 2), "probabilities", "no probabilities"),
        (lambda x: np.full((2, 2), 0.5), "logits", 'no logits; say output="probabilities"'),
        (lambda x: np.full((2, 3), 1 / 3), "probabilities", "3 numbers an image, but there are 2"),
        (lambda x: np.full((2, 2), np.nan), "logits", "numbers that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_router_is_made(
    says: Callable, output: str, words: str
) -> None:
    with pytest.raises(InputError) as refused:
        Router.of({"f": says}, LABELS, output=output)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"models": {}}, "is no mapping from a candidate's name to what answers"),
        ({"models": [by_mean]}, "is no mapping from a candidate's name to what answers"),
        ({"models": {"f": 7}}, "candidate 'f' is 7, which cannot be called"),
        ({"models": {"a b": by_mean}}, "'a b' is no candidate name"),
        ({"labels": None}, "labels are needed"),
        ({"labels": ["one"]}, "at least two are needed"),
        ({"labels": "cat"}, "labels"),
        ({"input": 224}, "input 224 is no InputSpec"),
        ({"output": "classes"}, "'classes'"),
        ({"output": "answers"}, "labels are of classes"),
        ({"reference": "g"}, "candidate 'g' is not in the models"),
        ({"policy": cascade()}, "candidate 'tiny' is not in the bundle"),
        ({"policy": "fixed"}, "policy 'fixed' is no Policy"),
        ({"workers": 0}, "workers"),
    ],
)
def test_arguments_of_a_wrong_kind_are_one_sentence(given: dict[str, Any], words: str) -> None:
    arguments = {"models": {"f": by_mean}, "labels": LABELS, **given}
    with pytest.raises(InputError) as refused:
        Router.of(**arguments)
    assert words in str(refused.value)


def test_models_are_not_called_where_nothing_is_to_be_checked() -> None:
    def never(images: list[np.ndarray]) -> np.ndarray:
        raise AssertionError("called")

    Router.of({"f": never}, LABELS, check=False).close()


def test_a_model_that_takes_one_size_is_checked_on_images_of_ones_own() -> None:
    def stacked(images: list[np.ndarray]) -> np.ndarray:
        if images[0].shape != (60, 80, 3):
            raise ValueError("not the camera's size")
        return by_mean(images)

    with pytest.raises(EngineError, match=r"not the camera's size.*; check=\[image, ...\]"):
        Router.of({"f": stacked}, LABELS)
    with Router.of({"f": stacked}, LABELS, check=[image_of(9)]) as router:
        router.warm_up(image=image_of(0))
        assert router.classify(image_of(9)).label == "dark"


def test_an_error_of_a_model_is_an_engine_error_with_its_cause() -> None:
    def fails(images: list[np.ndarray]) -> np.ndarray:
        raise OSError("the cloud is away")

    broken = Router.of({"f": fails}, LABELS, check=False)
    with broken, pytest.raises(EngineError, match="OSError: the cloud is away") as said:
        broken.classify(image_of(9))
    assert isinstance(said.value.__cause__, OSError)


# Answers that are no classes.


def mask_of(least: int) -> Callable[[list[np.ndarray]], list[tuple[np.ndarray, float]]]:
    """What is brighter than some value; surer, the brighter the image."""

    def segment(images: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
        return [(image[:, :, 0] > least, float(image.mean()) / 255) for image in images]

    return segment


@pytest.fixture
def segmenting():
    models = {"tiny": mask_of(100), "large": mask_of(5)}
    policy = cascade(0.5, abstain_below=0.1)
    with Router.of(models, output="answers", policy=policy) as made:
        yield made


def test_answers_of_ones_own_are_routed_by_their_confidence(segmenting: Router) -> None:
    sure, unsure = segmenting.classify(image_of(200)), segmenting.classify(image_of(50))
    assert (sure.path, sure.candidate, sure.label, sure.top5) == (("tiny",), "tiny", None, ())
    assert sure.answer.shape == (60, 80)
    assert sure.answer.all()
    assert sure.score == pytest.approx(200 / 255)
    assert unsure.path == ("tiny", "large")
    assert unsure.answer.all()  # large's, not tiny's, which has nothing
    assert unsure.score == pytest.approx(50 / 255)
    assert "answer" not in unsure.to_json()


def test_an_answer_that_is_too_unsure_is_none(segmenting: Router) -> None:
    answer = segmenting.classify(image_of(10))
    assert answer.abstained
    assert answer.answer is None
    assert "its confidence of 0.04 is below 0.1, so the policy abstains" in answer.reason


def test_batches_of_own_answers_are_those_of_single_images(segmenting: Router) -> None:
    images = [image_of(grey) for grey in (200, 10, 50, 220, 49)]
    for image, answer in zip(images, segmenting.classify_batch(images, batch=2)):
        alone = segmenting.classify(image)
        assert (answer.path, answer.candidate) == (alone.path, alone.candidate)
        assert answer.score == pytest.approx(alone.score)
        np.testing.assert_array_equal(answer.answer, alone.answer)


def test_own_answers_are_warmed_up(segmenting: Router) -> None:
    segmenting.warm_up()
    assert segmenting.classify(image_of(200)).candidate == "tiny"


def test_own_answers_are_explained_without_classes(segmenting: Router) -> None:
    told = segmenting.classify(image_of(50), explain=True).explanation
    assert [(s.candidate, s.label) for s in told.steps] == [("tiny", None), ("large", None)]
    assert told.steps[0].score == pytest.approx(50 / 255)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"policy": cascade(0.5, signal="margin")}, "the policy reads probabilities"),
        ({"policy": cascade(0.5, temperatures=(1.0, 2.0))}, "the policy reads probabilities"),
        ({"audit": Audit(0.5)}, "audits, logs and observers read classes"),
        ({"labels": LABELS}, "labels are of classes"),
    ],
)
def test_what_reads_classes_is_refused_with_own_answers(given: dict[str, Any], words: str) -> None:
    models = {"tiny": mask_of(100), "large": mask_of(5)}
    with pytest.raises(InputError) as refused:
        Router.of(models, **{"output": "answers", **given})
    assert words in str(refused.value)


def test_candidates_answer_alike_or_not_at_all() -> None:
    models = {"tiny": by_mean, "large": Model(mask_of(5), output="answers")}
    with pytest.raises(InputError, match="all candidates of a router answer alike"):
        Router.of(models, LABELS)


def test_any_policy_that_needs_no_probabilities_routes_own_answers() -> None:
    models = {"tiny": mask_of(100), "large": mask_of(5)}
    with Router.of(models, output="answers", policy=Random(("tiny", "large"))) as router:
        paths = {router.classify(image_of(200)).path for _ in range(40)}
    assert paths == {("tiny",), ("large",)}


# Torch modules, which are run on tensors.


@pytest.mark.train
def test_a_torch_module_is_a_candidate_as_it_is() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
    spec = InputSpec(8, scale=255.0)
    with pytest.raises(InputError, match=r"a torch module in training mode; call its eval\(\)"):
        Router.of({"net": module}, LABELS, input=spec, output="logits")
    module.eval()
    with pytest.raises(InputError, match=r"reads tensors; say how images are prepared"):
        Router.of({"net": module}, LABELS, output="logits")
    with Router.of({"net": module}, LABELS, input=spec, output="logits") as router:
        answer = router.classify(image_of(120))
    with torch.no_grad():
        wanted = module(torch.full((1, 3, 8, 8), 120 / 255)).softmax(1)[0].numpy()
    assert answer.score == pytest.approx(float(wanted.max()), abs=1e-5)
    half = torch.nn.Sequential(module, torch.nn.Softmax(1)).eval()

    def bfloat(batch: np.ndarray) -> Any:
        with torch.no_grad():
            return half(torch.from_numpy(batch)).to(torch.bfloat16)

    with Router.of({"net": bfloat}, LABELS, input=spec) as router:
        assert router.classify(image_of(120)).label == answer.label


def test_torch_is_not_loaded_for_functions(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys, numpy as np; from adaptive import Router; "
        "r = Router.of({'f': lambda x: np.full((len(x), 2), .5)}, ['a', 'b']); "
        "r.classify(np.zeros((9, 9, 3), np.uint8)); "
        "print(sorted({'torch', 'onnxruntime', 'flask', 'PIL.Image'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
