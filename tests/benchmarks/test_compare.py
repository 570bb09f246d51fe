from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Callable, Tuple

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

Command = Callable[..., Tuple[object, str, str]]


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def samples(centre: float, count: int = 40, seed: int = 0, spread: float = 0.03) -> list[float]:
    generator = np.random.default_rng(seed)
    return (centre * np.exp(generator.normal(0, spread, count))).tolist()


def write(path: Path, unit: str = "ms", better: str = "lower", **results: list[float]) -> Path:
    content = {
        "format": 1,
        "benchmark": "x",
        "machine": {"processor": "p"},
        "settings": {},
        "results": {
            name: {"unit": unit, "better": better, "samples": values}
            for name, values in results.items()
        },
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, run here: its exit code, output and errors."""

    def run(*words: object) -> tuple[object, str, str]:
        import compare

        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            compare.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_same_numbers_are_no_difference() -> None:
    from compare import ratio, verdict

    found = ratio(samples(2.0), samples(2.0, seed=1))
    assert found is not None
    assert found.low < 1 < found.high
    assert verdict(found, "ms") == "no difference beyond noise"


def test_a_tenth_more_is_slower_and_a_tenth_less_faster() -> None:
    from compare import ratio, verdict

    slower = ratio(samples(2.0), samples(2.2, seed=1))
    faster = ratio(samples(2.2), samples(2.0, seed=1))
    assert slower is not None
    assert faster is not None
    assert slower.value == pytest.approx(1.1, abs=0.03)
    assert verdict(slower, "ms") == "slower"
    assert verdict(faster, "ms") == "faster"
    assert verdict(slower, "MB") == "worse"
    assert slower.worse(0.05)
    assert not slower.worse(0.2)
    assert verdict(slower, "ms", 0.2) == "slower, within the tolerance"


def test_more_a_second_is_faster() -> None:
    from compare import ratio, verdict

    found = ratio(samples(100.0), samples(120.0, seed=1), "higher")
    assert found is not None
    assert found.value == pytest.approx(100 / 120, abs=0.03)
    assert verdict(found, "images/s") == "faster"


def test_pairs_see_what_drift_hides() -> None:
    from compare import ratio, verdict

    drift = np.linspace(1, 3, 30)
    before = drift * np.array(samples(1.0, 30, 1, 0.005))
    after = drift * np.array(samples(1.04, 30, 2, 0.005))
    assert verdict(ratio(before, after), "ms") == "no difference beyond noise"
    assert verdict(ratio(before, after, paired=True), "ms") == "slower"
    with pytest.raises(ValueError, match="30 and 29 samples make no pairs"):
        ratio(before, after[:-1], paired=True)


def test_equal_samples_rarely_make_a_false_alarm() -> None:
    from compare import ratio

    alarms = 0
    for seed in range(60):
        found = ratio(samples(1.0, 25, seed), samples(1.0, 25, 1000 + seed))
        assert found is not None
        alarms += found.worse()
    assert alarms <= 6  # 2.5% are expected; more than 6 of 60 have probability 0.0004


def test_few_samples_give_no_verdict() -> None:
    from compare import ratio, verdict

    assert ratio([1.0] * 4, [2.0] * 9) is None
    assert ratio([0.0] * 9, [2.0] * 9) is None
    assert verdict(None, "ms") == "fewer than 5 samples above 0: no verdict"


def test_command_ends_with_1_when_something_is_slower(tmp_path: Path, compared: Command) -> None:
    before = write(tmp_path / "a.json", one=samples(1.0), two=samples(1.0))
    after = write(tmp_path / "b.json", one=samples(1.0, seed=1), two=samples(1.5, seed=1))
    code, out, _ = compared(before, after)
    assert code == 1
    assert "no difference beyond noise" in out
    assert "slower" in out
    assert compared(before, after, "--tolerance", 0.7)[0] == 0
    assert compared(after, before)[0] == 0


def test_command_says_what_cannot_be_compared(tmp_path: Path, compared: Command) -> None:
    good = write(tmp_path / "a.json", one=samples(1.0))
    other = tmp_path / "b.json"
    other.write_text('{"ms": {"all": {"median": 1}}}')
    code, _, err = compared(good, other)
    assert code == 2
    assert "b.json holds no 'results' with unit, better and samples" in err
    third = write(tmp_path / "c.json", unit="us", one=samples(1.0))
    assert "'one' is in ms, lower is better, on one side and in us" in compared(good, third)[2]
    assert "no result in common" in compared(good, write(tmp_path / "d.json", x=[1.0]))[2]
    assert compared(good, tmp_path / "missing.json")[0] == 2
    assert compared(good)[0] == 2


def test_command_runs_both_in_turn(tmp_path: Path, compared: Command) -> None:
    program = tmp_path / "benchmark.py"
    program.write_text(
        "import json, sys\n"
        "value = float(sys.argv[1])\n"
        "found = {'unit': 'ms', 'better': 'lower', 'samples': [value, value + 1]}\n"
        "json.dump({'results': {'x': found}}, open(sys.argv[2], 'w'))\n"
    )
    slow, fast = (f"{sys.executable} {program} {value} {{}}" for value in (3, 2))
    code, out, _ = compared("--run", fast, slow, "--rounds", 5)
    assert code == 1
    assert "1.400 (1.400 to 1.400) slower" in out


def test_regression_check_fails_for_a_slower_path() -> None:
    """Recorded times of router and limit, and the same with 300 us more in the router."""
    import regression

    limit = np.array(samples(1.30, 9, 1, 0.02))
    router = limit + np.array(samples(0.55, 9, 2, 0.05))

    def of(times: np.ndarray) -> dict[str, object]:
        return {"results": {"x": {"better": "lower", "samples": (times / limit).tolist()}}}

    recorded = of(router)
    again = of(limit + np.array(samples(0.55, 9, 3, 0.05)))
    assert not regression.check(recorded, again, 0.03)["x"][1]
    one, failed = regression.check(recorded, of(router + 0.3), 0.03)["x"]
    assert failed
    assert one is not None
    assert one.value > 1.1
    assert regression.check(recorded, {"results": {"x": {"samples": [1.0]}}}, 0.03)["x"][1]


def test_slowed_router_still_answers_the_same() -> None:
    import regression

    def run(photo: bytes) -> bytes:
        return photo[::-1]

    assert regression.slowed(run, 0.0) is run
    assert regression.slowed(run, 1.0)(b"ab") == b"ba"


def test_recorded_baseline_can_be_read() -> None:
    from compare import read
    from regression import BASELINE, CLOCKS, POLICIES, name_of

    recorded = read(BASELINE)
    names = {name_of(policy, clock) for policy in POLICIES for clock in CLOCKS}
    assert set(recorded["results"]) == names
    assert all(len(found["samples"]) >= 5 for found in recorded["results"].values())
    assert {"processor", "cores", "date", "python"} <= set(recorded["machine"])


def test_result_keeps_samples_with_median_and_p95() -> None:
    from machine import result

    found = result([3.0, 1.0, 2.0])
    assert found == {
        "unit": "ms",
        "better": "lower",
        "samples": [3.0, 1.0, 2.0],
        "median": 2.0,
        "p95": 3.0,
    }
    assert result(range(1, 101))["p95"] == 95
    with pytest.raises(ValueError, match="'lower' or 'higher' is needed"):
        result([1.0], better="less")


def test_machine_says_versions_and_date() -> None:
    from machine import machine, machine_line

    known = machine()
    assert {"processor", "cores", "threads", "python", "numpy", "opencv", "date"} <= set(known)
    assert f"{known['cores']} cores" in machine_line(known)
