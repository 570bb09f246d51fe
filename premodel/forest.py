"""Decision trees as arrays of nodes, walked by all images and all trees at once."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from adaptive.errors import InputError
from adaptive.premodel.estimator import Shape

#: the largest number that scikit-learn's trees take: they compare in single precision
LARGEST = float(np.finfo(np.float32).max)

#: one row a node; the nodes of a tree stand together, every one after its parent
NODES: dict[str, Shape] = {
    "feature": ("<i4", ("nodes",)),
    "threshold": ("<f8", ("nodes",)),
    "child": ("<i4", ("nodes", 2)),
}


def single(X: np.ndarray) -> np.ndarray:
    """Features in single precision, as scikit-learn's trees see them; larger ones are clipped."""
    return np.asarray(np.clip(X, -LARGEST, LARGEST), np.float32)


class Forest:
    """Nodes of one or more trees.

    At an inner node an image goes to `child[node, 0]` when its feature is at most the threshold,
    else to `child[node, 1]`. At a leaf both are the node itself.

    Parameters
    ----------
    feature : ndarray of shape (nodes,), column of X
    threshold : ndarray of shape (nodes,), float64
    child : ndarray of shape (nodes, 2), node numbers
    root : ndarray of shape (trees,), node numbers
    width : number of columns of X

    Raises
    ------
    InputError
        for a feature, child or root that there is not, or a child that stands before its parent.
    """

    def __init__(
        self,
        feature: np.ndarray,
        threshold: np.ndarray,
        child: np.ndarray,
        root: np.ndarray,
        width: int,
    ) -> None:
        count = len(feature)
        own = np.arange(count)
        leaf = (child == own[:, None]).all(axis=1)
        if feature.min() < 0 or feature.max() >= width:
            raise InputError(f"array 'feature' must hold columns from 0 to {width - 1}")
        if root.min() < 0 or root.max() >= count:
            raise InputError(f"array 'root' must hold nodes from 0 to {count - 1}")
        if not (leaf | ((child > own[:, None]) & (child < count)).all(axis=1)).all():
            raise InputError(
                "array 'child' must hold, for each node, two later nodes, or twice the node itself"
            )
        self.root = root.astype(np.intp)
        self.feature = feature.astype(np.intp)
        self.threshold = threshold
        self.leaf = leaf
        self._child = child.astype(np.intp).ravel()
        self.depth = 0
        level = np.unique(self.root)
        while not leaf[level].all():
            level = np.unique(child[level])
            self.depth += 1

    def leaves(self, X: np.ndarray) -> np.ndarray:
        """Where each image ends in each tree.

        Parameters
        ----------
        X : ndarray of shape (n, features), float32, from `single`

        Returns
        -------
        ndarray of shape (n, trees), node numbers
        """
        if len(X) == 1:
            values, node = X[0], self.root
            for _ in range(self.depth):
                node = self._child.take(
                    2 * node + (values.take(self.feature.take(node)) > self.threshold.take(node))
                )
            return node[None]
        node = np.repeat(self.root[None], len(X), axis=0)
        for _ in range(self.depth):
            values = np.take_along_axis(X, self.feature.take(node), axis=1)
            node = self._child.take(2 * node + (values > self.threshold.take(node)))
        return node

    def path(self, x: np.ndarray, tree: int) -> list[int]:
        """The nodes that one image, of shape (features,), float32, meets in one tree."""
        node = int(self.root[tree])
        met = [node]
        while not self.leaf[node]:
            right = x[self.feature[node]] > self.threshold[node]
            node = int(self._child[2 * node + int(right)])
            met.append(node)
        return met


def nodes_of(tree: Any, start: int = 0) -> Mapping[str, np.ndarray]:
    """The nodes of scikit-learn's `tree_`, numbered from `start`."""
    own = np.arange(tree.node_count)
    leaf = tree.children_left < 0
    left = np.where(leaf, own, tree.children_left)
    right = np.where(leaf, own, tree.children_right)
    return {
        "feature": np.where(leaf, 0, tree.feature),
        "threshold": np.where(leaf, 0.0, tree.threshold),
        "child": np.stack([left, right], axis=1) + start,
    }
