"""Exact Shapley values of tree ensembles, path-dependent.

The game is that of TreeSHAP: a node whose column is known is passed as the row passes it, any
other one in both directions, weighted by the training rows that went there. Columns that an
encoder made of one input column are one player. One leaf is then the product over the players on
its path of `o` (does the row pass all their nodes) where the player is known, and `z` (share of
training rows that do) where it is not, and its Shapley values are

    value * (o_p - z_p) * integral over t in [0, 1] of  prod over q != p of (z_q (1 - t) + o_q t)

by Owen's multilinear extension. The integrand is a polynomial, so Gauss-Legendre quadrature with
half as many nodes as players is exact; every factor is positive, so nothing cancels, however deep
the trees. Leaves with equally many players are worked on together, without recursion.

Sources: Lundberg et al. (2020), "From local explanations to global understanding with explainable
AI for trees", Nature Machine Intelligence 2, Algorithm 2 (the game); Owen (1972), "Multilinear
extensions of games", Management Science 18 (the integral).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.serving.explanation.preparing import NotFollowed, Origins
from services.serving.explanation.trees import Flags, Forest, Ints
from services.serving.explanation.values import (
    Explained,
    Floats,
    Matrix,
    Tick,
    weights_of,
)

MOST_STEPS: Final = 4_000_000
"""Nodes on all paths together. Larger forests would take seconds and are sampled instead."""
_AT_ONCE: Final = 2_048
"""Leaves that are worked on together: what they need stays in the processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Leaves with equally many players on their paths.

    Attributes:
        values: shape (leaves, outputs).
        player: input columns, shape (players, leaves).
        z: shares of training rows, shape (players, leaves).
        slot: where the players' nodes are in the list of steps, shape (players, leaves).
    """

    values: Floats
    player: Ints
    z: Floats
    slot: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """All paths of a forest, in the order of leaf and player.

    Attributes:
        node: of each step, by slots.
        is_left: whether the path goes left there.
        starts: where each slot begins.
        base: the expectation of the whole forest, shape (outputs,).
    """

    node: Ints
    is_left: Flags
    starts: Ints
    leaves: tuple[Leaves, ...]
    base: Floats

    def passed(self, goes_left: Flags) -> Floats:
        """For each slot 1 where the row passes all its nodes, else 0."""
        if not len(self.starts):
            return np.zeros(0)
        missed = goes_left[self.node] != self.is_left
        return 1.0 - np.logical_or.reduceat(missed, self.starts)


def paths_of(forest: Forest, origins: Origins, columns: int) -> Paths:
    """The paths of a forest.

    Raises:
        NotFollowed: there are too many nodes on them.
    """
    inner = np.zeros(len(forest.parent), dtype=bool)
    inner[forest.parent[forest.parent >= 0]] = True
    leaf = np.flatnonzero(~inner)
    where, below = _steps(forest, leaf)
    node = forest.parent[below]
    player = np.asarray(origins, dtype=np.int64)[forest.feature[node]]
    order = np.lexsort((player, where))
    where, below, node, player = where[order], below[order], node[order], player[order]
    key = where * columns + player
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    share = _shares(forest.cover[below], forest.cover[node])
    z = np.multiply.reduceat(share, starts) if len(starts) else np.zeros(0)
    leaves = tuple(_grouped(where[starts], player[starts], z, forest.values[leaf]))
    alone = np.bincount(where[starts], minlength=len(leaf)) == 0
    base = forest.offset + forest.values[leaf[alone]].sum(axis=0)
    return Paths(
        node=node,
        is_left=forest.is_left[below],
        starts=starts,
        leaves=leaves,
        base=base + sum(part.z.prod(axis=0) @ part.values for part in leaves),
    )


def _steps(forest: Forest, leaf: Ints) -> tuple[Ints, Ints]:
    """Every step of every path: the place of its leaf, and the node below it."""
    places, below = [], []
    place, current, total = np.arange(len(leaf)), leaf, 0
    while True:
        going = forest.parent[current] >= 0
        place, current = place[going], current[going]
        total += len(current)
        if total > MOST_STEPS:
            raise NotFollowed("a forest with very many nodes")
        places.append(place)
        below.append(current)
        if not len(current):
            return np.concatenate(places), np.concatenate(below)
        current = forest.parent[current]


def _shares(below: Floats, node: Floats) -> Floats:
    share: Floats = np.divide(below, node, out=np.full(len(node), 0.5), where=node > 0)
    return share


def _grouped(where: Ints, player: Ints, z: Floats, values: Floats) -> Iterator[Leaves]:
    """Slots, which lie in the order of their leaves, by how many a leaf has."""
    counts = np.bincount(where, minlength=len(values))
    first = np.cumsum(counts) - counts
    for count in np.unique(counts[counts > 0]):
        leaves = np.flatnonzero(counts == count)
        for start in range(0, len(leaves), _AT_ONCE):
            chosen = leaves[start : start + _AT_ONCE]
            slot = first[chosen][None, :] + np.arange(count)[:, None]
            yield Leaves(values=values[chosen], player=player[slot], z=z[slot], slot=slot)


def shapley(paths: Paths, passed: Floats, weights: Floats, columns: int, tick: Tick) -> Floats:
    """The Shapley values of the weighted outputs, shape (columns,)."""
    total = np.zeros(columns)
    for part in paths.leaves:
        tick()
        found = _shapley_of_leaves(part.z, passed[part.slot], part.values @ weights)
        total += np.bincount(part.player.ravel(), weights=found.ravel(), minlength=columns)
    return total


def _shapley_of_leaves(z: Floats, o: Floats, values: Floats) -> Floats:
    """Shape (players, leaves)."""
    players = len(z)
    nodes, weights = np.polynomial.legendre.leggauss((players + 1) // 2)
    t = (nodes + 1)[:, None] / 2
    factors = z[:, None, :] * (1 - t) + o[:, None, :] * t
    behind = np.empty_like(factors)
    behind[-1] = 1.0
    for index in range(players - 1, 0, -1):
        np.multiply(behind[index], factors[index], out=behind[index - 1])
    before = np.broadcast_to((weights / 2)[:, None], factors.shape[1:]).copy()
    integral = np.empty_like(z)
    for index in range(players):
        np.einsum("ij,ij->j", before, behind[index], out=integral[index])
        before *= factors[index]
    found: Floats = (o - z) * integral * values
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeExplainer:
    """A tree ensemble behind a preprocessing.

    Attributes:
        origins: the input column of each feature of the trees.
        transform: a matrix of input columns as the trees see it.
        raw: outputs of the whole model on the scale of the forest, shape (rows, outputs); they are
            asked for beside the trees, so that a wrong reading of these cannot pass.
    """

    forest: Forest
    origins: Origins
    paths: Paths
    transform: Callable[[Matrix], Floats]
    raw: Callable[[Matrix], Floats]

    def explain(self, row: Matrix, place: int | None, tick: Tick) -> Explained:
        """What one output is made of."""
        tick()
        table = row[None, :]
        output = self.raw(table)[0]
        weights = self._weights(place, len(output))
        passed = self.paths.passed(self.forest.goes_left(self.transform(table)[0]))
        return Explained(
            method="tree",
            scale=self.forest.scale,
            base=float(self.paths.base @ weights),
            output=float(output @ weights),
            contributions=shapley(self.paths, passed, weights, len(row), tick),
        )

    def _weights(self, place: int | None, outputs: int) -> Floats:
        if self.forest.scale != "probability":
            return weights_of(place, outputs)
        weights = np.zeros(outputs)
        weights[place or 0] = 1.0
        return weights


def expectation(
    forest: Forest, origins: Sequence[int], row: Floats, known: frozenset[int]
) -> Floats:
    """The value of a set of known columns, node by node: what the values above are values of.

    Slow and plain, for checking; shape (outputs,).
    """
    goes_left = forest.goes_left(row)
    reach = np.zeros(len(forest.parent))
    for node, parent in enumerate(forest.parent):
        if parent < 0:
            reach[node] = 1.0
        elif origins[forest.feature[parent]] in known:
            reach[node] = reach[parent] * (goes_left[parent] == forest.is_left[node])
        else:
            share = _shares(forest.cover[[node]], forest.cover[[parent]])[0]
            reach[node] = reach[parent] * share
    is_leaf = forest.feature < 0
    found: Floats = forest.offset + reach[is_leaf] @ forest.values[is_leaf]
    return found
