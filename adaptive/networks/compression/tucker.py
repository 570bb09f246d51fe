"""Factors of a layer's weights: Tucker-2 of convolutions, singular vectors of everything else.

A kernel of shape (N, C, height, width) becomes a 1 x 1 convolution from C to C' channels, a core
of the old size from C' to N', and a 1 x 1 convolution from N' to N (Kim et al. 2016; Huynh 2019,
section 3.4.4). The higher-order SVD (De Lathauwer et al. 2000) gives a first answer and
alternating steps (HOOI) the best one nearby.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from adaptive.errors import InputError

#: Ranks are multiples of this: a runtime computes channels in blocks.
BLOCK = 8


@dataclass(frozen=True)
class Tucker:
    """A kernel as three.

    Attributes
    ----------
    first : ndarray of shape (C', C), from the input's channels to fewer
    core : ndarray of shape (N', C', height, width)
    last : ndarray of shape (N, N'), from fewer channels to the output's
    """

    first: np.ndarray
    core: np.ndarray
    last: np.ndarray

    def kernel(self) -> np.ndarray:
        """The kernel that these three make together, (N, C, height, width)."""
        made: np.ndarray = np.einsum(
            "ni,ijhw,jc->nchw", self.last, self.core, self.first, optimize=True
        )
        return made


def tucker(kernel: np.ndarray, ranks: tuple[int, int], steps: int = 3) -> Tucker:
    """The factors of a kernel at ranks (C', N').

    steps : of HOOI after the higher-order SVD

    Raises
    ------
    InputError
        when a rank is below 1 or above the number of channels.
    """
    outputs, inputs = kernel.shape[:2]
    check_rank(ranks[0], inputs, "input")
    check_rank(ranks[1], outputs, "output")
    values = kernel.astype(np.float64)
    left = _leading(_unfolded(values, 1), ranks[0])
    right = _leading(_unfolded(values, 0), ranks[1])
    for _ in range(steps):
        right = _leading(_unfolded(_times(values, left, 1), 0), ranks[1])
        left = _leading(_unfolded(_times(values, right, 0), 1), ranks[0])
    core = _times(_times(values, right, 0), left, 1)
    return Tucker(left.T.copy(), core, right)


def two_factors(weight: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (N, C) as (N, rank) and (rank, C), the nearest of that rank.

    Raises
    ------
    InputError
        when the rank is below 1 or above the smaller side.
    """
    check_rank(rank, min(weight.shape), "matrix")
    left, sizes, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    root = np.sqrt(sizes[:rank])
    return left[:, :rank] * root, right[:rank] * root[:, None]


def check_rank(rank: int, most: int, what: str) -> None:
    """Raise InputError unless a rank lies in 1..most."""
    if not 1 <= rank <= most:
        raise InputError(f"the {what}'s rank must lie in 1..{most}, got {rank}")


def check_share(share: float) -> None:
    """Raise InputError unless a share of the variance can be kept."""
    if not 0 < share <= 1:
        raise InputError(f"the share of variance to keep must lie above 0 and up to 1, got {share}")


def smallest_ranks(
    kept: np.ndarray, size: int, share: float, in_cost: float = 1.0
) -> tuple[int, int]:
    """The ranks (C', N') with the fewest products that keep `share` of the variance.

    For every C' that is allowed the smallest N' that keeps it is found by halves, since what is
    kept grows with either rank; of these pairs the cheapest is taken. Huynh's double binary
    search finds the smallest rank of each side; here the two are weighed against each other.

    Parameters
    ----------
    kept : as `kept_by_pairs` gives it
    size : positions of the kernel, 9 for 3 x 3
    in_cost : input positions an output position, the square of the stride
    """
    check_share(share)
    outputs, inputs = kept.shape
    rights = allowed_ranks(outputs)
    best: tuple[float, tuple[int, int]] | None = None
    for left in allowed_ranks(inputs):
        row = kept[[right - 1 for right in rights], left - 1]
        at = int(np.searchsorted(row, share - 1e-9))
        if at == len(rights):
            continue
        right = rights[at]
        cost = left * (in_cost * inputs + right * size) + outputs * right
        if best is None or cost < best[0]:
            best = cost, (left, right)
    return (inputs, outputs) if best is None else best[1]


def smallest_rank(kept: np.ndarray, share: float) -> int:
    """The smallest allowed rank that keeps `share`; `kept` as `kept_by_ranks` gives it."""
    check_share(share)
    ranks = allowed_ranks(len(kept))
    at = int(np.searchsorted(kept[[rank - 1 for rank in ranks]], share - 1e-9))
    return ranks[min(at, len(ranks) - 1)]


def kept_by_pairs(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """Share of the variance that each pair of ranks keeps, shape (N, C), mean over the kernels.

    The squares of the entries of the full core, summed up to a corner: what the higher-order
    SVD keeps there. HOOI keeps at least as much.

    kernels : of one convolution's groups, each (N, C, height, width)
    """
    return np.asarray(np.mean([_kept(kernel) for kernel in kernels], axis=0))


def kept_by_ranks(weights: Sequence[np.ndarray]) -> np.ndarray:
    """Share of the variance that each rank of matrices (N, C) keeps, shape (min(N, C),)."""
    kept = []
    for weight in weights:
        values = weight.astype(np.float64)
        gram = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
        squares = np.linalg.eigvalsh(gram)[::-1].clip(0)
        kept.append(np.cumsum(squares) / max(float(squares.sum()), 1e-300))
    return np.asarray(np.mean(kept, axis=0))


def allowed_ranks(channels: int) -> list[int]:
    """Multiples of 8 below the number of channels, and that number itself."""
    return [*range(BLOCK, channels, BLOCK), channels]


def _kept(kernel: np.ndarray) -> np.ndarray:
    """What each pair of ranks keeps of one kernel."""
    values = kernel.astype(np.float64)
    outputs, inputs = kernel.shape[:2]
    left = _leading(_unfolded(values, 1), inputs)
    right = _leading(_unfolded(values, 0), outputs)
    core = _times(_times(values, right, 0), left, 1)
    squares = np.square(core).sum(axis=(2, 3))
    total = max(float(squares.sum()), 1e-300)
    kept: np.ndarray = squares.cumsum(axis=0).cumsum(axis=1) / total
    return kept


def _unfolded(values: np.ndarray, side: int) -> np.ndarray:
    """The kernel as a matrix with one row an output (side 0) or input (side 1) channel."""
    return np.moveaxis(values, side, 0).reshape(values.shape[side], -1)


def _times(values: np.ndarray, basis: np.ndarray, side: int) -> np.ndarray:
    """The kernel with one side's channels seen in a basis, (channels, rank)."""
    product = basis.T @ _unfolded(values, side)
    shape = [basis.shape[1], *np.delete(values.shape, side)]
    return np.moveaxis(product.reshape(shape), 0, side)


def _leading(matrix: np.ndarray, count: int) -> np.ndarray:
    """The leading left singular vectors, (rows, count), the largest first."""
    _, vectors = np.linalg.eigh(matrix @ matrix.T)
    leading: np.ndarray = vectors[:, ::-1][:, :count]
    return leading
