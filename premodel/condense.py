"""Fewer rows for nearest neighbours where comparing with all of them would be slow.

Rows are left out at random, so that the neighbours' shares stay unbiased chances: methods that
keep the rows near a border between classes (Hart 1968) shift them. What it costs is measured on
images that were left out, and said.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Mapping

import numpy as np

from adaptive.premodel.base import NONE, first_yes
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.neighbours import BruteForce, condensed_rows

#: Left-out images that both tables are asked about.
ASKED = 1000


def cost_of_condensing(premodel: KNNChain, X: np.ndarray, outcomes: np.ndarray) -> dict[str, Any]:
    """What a premodel that kept some rows of X answers, beside one that kept all.

    Both are asked about the same images, which neither has in its table.

    Parameters
    ----------
    premodel : fitted on X and outcomes, more of them than it kept

    Returns
    -------
    "kept" and "of", numbers of rows; "asked", number of images; "same", the share of them on
    which both choose the same candidate; "right" and "right_with_all", the share on which the
    choice is right; "difference", the mean difference of two chances
    """
    kept = condensed_rows(*X.shape)
    assert kept is not None
    left_out = np.setdiff1d(np.arange(len(X)), kept)
    spread = np.linspace(0, len(left_out) - 1, min(ASKED, len(left_out))).astype(np.int64)
    asked = left_out[spread]
    others = np.setdiff1d(np.arange(len(X)), asked)
    whole = copy(premodel)
    whole.table_ = premodel.scaling_.grid(X[others]).astype(np.int32)
    whole.outcomes_ = np.ascontiguousarray(outcomes[others], np.uint8)
    whole._search = BruteForce(whole.table_)
    chances, exact = premodel.predict(X[asked]), whole.predict(X[asked])
    chosen, best = _choices(chances), _choices(exact)
    every = np.arange(len(asked))
    return {
        "kept": len(kept),
        "of": len(X),
        "asked": len(asked),
        "same": float(np.mean(chosen == best)),
        "right": float(np.mean(outcomes[asked][every, chosen])),
        "right_with_all": float(np.mean(outcomes[asked][every, best])),
        "difference": float(np.mean(np.abs(chances - exact))),
    }


def condensed_words(cost: Mapping[str, Any]) -> str:
    """What `cost_of_condensing` found, as a sentence."""
    return (
        f"condensed: {cost['kept']:,} of the {cost['of']:,} images are kept, so that a prediction "
        f"stays fast; of {cost['asked']:,} images that are not among them the choice is the same "
        f"as with all on {100 * cost['same']:.1f}%, and right on {100 * cost['right']:.1f}% "
        f"instead of {100 * cost['right_with_all']:.1f}%; chances differ by "
        f"{cost['difference']:.3f} in the mean"
    )


def _choices(chances: np.ndarray) -> np.ndarray:
    """The candidate that each image goes to; where none is said to be right, the last."""
    choice = first_yes(chances)
    return np.where(choice == NONE, chances.shape[1] - 1, choice)
