"""What each network, each policy, the random mix and the oracle come to on other sentences.

    python examples/translation/results.py WORK

Policies are tuned on WORK/tuning.csv, all of it, and judged on WORK/test.csv. WORK/premodel-*
are premodels that `adaptive train` made of tuning.csv. Nothing is chosen by what is printed.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from adaptive import ByPremodel, OutcomeTable, Split, Tuner, load_premodel
from adaptive.evaluation.replay import replay
from adaptive.evaluation.verdict import verdict
from adaptive.intervals import random_mix
from adaptive.premodel.cost import predict_ms
from adaptive.report.cascades import best_cascades

#: Budgets of tuned policies: shares of the way from the cheapest network's mean time to the
#: dearest one's.
BUDGETS = (0.25, 0.5, 0.75)
SHARES = Split(1.0, 0.0, 0.0)
DRAWS = 20  # random mixes of which corpus chrF is averaged


@dataclass(frozen=True)
class System:
    """Something that translates every sentence: by whom, and at what cost.

    weight : (sentences, networks), each network's share in a sentence's translation
    ms : (sentences,)
    """

    name: str
    weight: np.ndarray
    ms: np.ndarray


class Corpus:
    """The translations of all networks, with what BLEU is made of, and resampled sentences."""

    def __init__(self, stem: Path, names: tuple, resamples: int, seed: int) -> None:
        def lines(name: str) -> list:
            return Path(f"{stem}.{name}.txt").read_text(encoding="utf-8").split("\n")[:-1]

        self.references = lines("reference")
        self.texts = [lines(name) for name in names]
        self.draw = np.random.default_rng(seed)
        judge = BLEU(effective_order=True)
        self.counts = np.array(
            [
                [
                    [*score.counts, *score.totals, score.sys_len, score.ref_len]
                    for score in map(judge.sentence_score, texts, zip(self.references))
                ]
                for texts in self.texts
            ],
            float,
        ).swapaxes(0, 1)  # (sentences, networks, 10)
        count = len(self.references)
        self.times = self.draw.multinomial(count, np.full(count, 1 / count), resamples)

    def bleu(self, system: System) -> tuple:
        """BLEU of the corpus, and of each resampled one; a mix has its expected counts."""
        own = np.einsum("nk,nkc->nc", system.weight, self.counts)
        sums = np.concatenate([own.sum(axis=0)[None], self.times @ own])
        scores = np.array([_bleu(row) for row in sums])
        return scores[0], scores[1:]

    def chrf(self, system: System) -> float:
        """The corpus's chrF by sacrebleu, averaged over draws where networks are mixed."""
        fixed = bool((system.weight.max(axis=1) == 1).all())
        found = []
        for _ in range(1 if fixed else DRAWS):
            reached = self.draw.random(len(self.references))[:, None]
            chosen = (system.weight.cumsum(axis=1) > reached).argmax(axis=1)
            said = [self.texts[network][row] for row, network in enumerate(chosen)]
            found.append(CHRF().corpus_score(said, [self.references]).score)
        return float(np.mean(found))


def _bleu(counts: np.ndarray) -> float:
    """sacrebleu's BLEU of counts that need not be whole."""
    said, wanted = np.rint(counts[8:]).astype(int).tolist()
    matched, possible = counts[:4].tolist(), counts[4:8].tolist()
    return BLEU.compute_bleu(matched, possible, said, wanted, smooth_method="exp").score


def of_policy(name: str, policy, table: OutcomeTable, premodel_ms: float = 0.0) -> System:
    """A policy, replayed."""
    done = replay(policy, table, premodel_ms=premodel_ms)
    place = [table.candidates.index(each) for each in policy.candidates]
    weight = np.zeros((len(table), len(table.candidates)))
    weight[np.arange(len(table)), np.array(place)[done.candidate]] = 1
    return System(name, weight, done.ms)


def of_network(table: OutcomeTable, number: int) -> System:
    """One network for every sentence."""
    weight = np.zeros((len(table), len(table.candidates)))
    weight[:, number] = 1
    name = table.candidates[number]
    return System(f"always {name}", weight, table.ms(name))


def mix_of(table: OutcomeTable, cost: float) -> System:
    """The random mix of two networks of this mean cost that is best by mean sentence chrF."""
    ms = [table.ms(name) for name in table.candidates]
    quality = [float(table.quality(name).mean()) for name in table.candidates]
    mix = random_mix([float(each.mean()) for each in ms], quality, cost)
    weight = np.zeros((len(table), len(ms)))
    weight[:, mix.first] += mix.share_first
    weight[:, mix.second] += 1 - mix.share_first
    return System("random mix", weight, np.einsum("nk,kn->n", weight, np.array(ms)))


def oracle_of(table: OutcomeTable) -> System:
    """Of each sentence the network with the best chrF, of equals the fastest."""
    quality = np.stack([table.quality(name) for name in table.candidates], axis=1)
    ms = np.stack([table.ms(name) for name in table.candidates], axis=1)
    order = np.argsort(ms.mean(axis=0), kind="stable")
    chosen = order[quality[:, order].argmax(axis=1)]
    weight = np.eye(len(order))[chosen]
    return System("oracle", weight, (weight * ms).sum(axis=1))


def policies(tuning: OutcomeTable, premodels: dict, seed: int) -> list:
    """(name, policy, what a prediction is charged with), tuned on all of `tuning`."""
    found = []
    for name, premodel in premodels.items():
        alone = ByPremodel(premodel.candidates, premodel)
        found.append((f"premodel {name}", alone, predict_ms(premodel)))
    cost = [float(tuning.ms(name).mean()) for name in tuning.candidates]
    for share in BUDGETS:
        budget = min(cost) + share * (max(cost) - min(cost))
        tuner = Tuner(tuning, SHARES, kind="cascade", seed=seed)
        found.append((f"cascade, {budget:.1f} ms", tuner.within(budget).policy, 0.0))
        for name, premodel in premodels.items():
            charged = predict_ms(premodel)
            tuner = Tuner(
                tuning, SHARES, premodel=premodel, premodel_ms=charged, kind="hybrid", seed=seed
            )
            tuned = tuner.within(budget)
            if tuned.policy is not None:
                found.append((f"hybrid {name}, {budget:.1f} ms", tuned.policy, charged))
    return found


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("work", type=Path)
    ask.add_argument("--resamples", type=int, default=1000)
    ask.add_argument("--seed", type=int, default=0)
    told = ask.parse_args()
    tuning = OutcomeTable.read(told.work / "tuning.csv")
    table = OutcomeTable.read(told.work / "test.csv")
    premodels = {
        path.name[len("premodel-") :]: load_premodel(path)
        for path in sorted(told.work.glob("premodel-*"))
    }
    corpus = Corpus(told.work / "test", table.candidates, told.resamples, told.seed)
    quality = np.stack([table.quality(name) for name in table.candidates], axis=1)

    def span(values: np.ndarray) -> str:
        low, high = np.quantile(values, [0.025, 0.975])
        return f"{low:+.2f} to {high:+.2f}"

    print(
        f"{len(tuning)} sentences tune, {len(table)} judge; {platform.machine()}, "
        f"seed {told.seed}, {told.resamples} resamples"
    )
    print(
        f"splitting into pieces takes {table.decode_ms.mean():.3f} ms more, all features "
        f"{table.features_ms.mean():.3f} ms\n"
    )
    print(
        "| | mean ms | BLEU | chrF | sentence chrF | BLEU over the mix, 95% | "
        "sentence chrF over the mix, 95% |\n|---|---|---|---|---|---|---|"
    )

    def line(system: System, against_mix: bool = True) -> None:
        score, scores = corpus.bleu(system)
        own = 100 * (system.weight * quality).sum(axis=1)
        cells = [system.name, f"{system.ms.mean():.2f}", f"{score:.2f}"]
        cells += [f"{corpus.chrf(system):.2f}", f"{own.mean():.2f}"]
        if against_mix:
            mix = mix_of(table, float(system.ms.mean()))
            base, bases = corpus.bleu(mix)
            gain = own - 100 * (mix.weight * quality).sum(axis=1)
            resampled = corpus.times @ gain / len(table)
            cells += [f"{score - base:+.2f} ({span(scores - bases)})"]
            cells += [f"{gain.mean():+.2f} ({span(resampled)})"]
        print("| " + " | ".join(cells) + " |" + ("" if against_mix else " | |"), flush=True)

    for number in range(len(table.candidates)):
        line(of_network(table, number), against_mix=False)
    cost = [float(table.ms(name).mean()) for name in table.candidates]
    for share in BUDGETS:
        line(mix_of(table, min(cost) + share * (max(cost) - min(cost))), against_mix=False)
    tuned = policies(tuning, premodels, told.seed)
    for name, policy, charged in tuned:
        line(of_policy(name, policy, table, charged))
    line(oracle_of(table), against_mix=False)

    cascades = best_cascades(tuning)
    for name, policy, charged in tuned:
        found = verdict(policy, table, charged, cascades)
        print("\n".join(["", f"{name}: {policy.words()}", found.words()[0]]))


if __name__ == "__main__":
    main()
