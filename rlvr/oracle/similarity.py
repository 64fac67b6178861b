"""How alike two genes are by what is known of them: kernels that `rlvr oracle fit` votes with.

A kernel is the cosine of TF-IDF rows over one kind of annotation, squared where that served better on the training
perturbations of PerturbQA. It holds nothing of the experiment. `mix` is their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge.annotations import COMPLEX_MOST, COMPLEX_ROOT
from rlvr.questions.splits.kin import stem

Floats = NDArray[np.float32]
SMALL = 60  # human genes: terms at most this common name a machine or a step, not a whole process
GENOME = 20_000
# kernel -> (kind of annotation, power of the cosine)
KERNELS = {
    "all1": ("all", 1),
    "all2": ("all", 2),
    "process": ("biological_process", 2),
    "component": ("cellular_component", 2),
    "function": ("molecular_function", 1),
    "pathway": ("pathway", 2),
    "machine": ("machine", 1),
    "small": ("small", 1),
    "family": ("family", 1),
}
# what the mix sums: the kernel's kind, its power, its weight
MIX = (
    ("all", 1, 1.0),
    ("all", 2, 1.0),
    ("machine", 1, 1.0),
    ("small", 1, 1.0),
    ("pathway", 1, 1.0),
    ("family", 1, 0.5),
)


@dataclass(frozen=True)
class Annotated:
    """Genes with their terms. Symbols that the knowledge base does not know have none."""

    base: KnowledgeBase
    symbols: tuple[str, ...]

    @cached_property
    def genes(self) -> NDArray[np.str_]:
        """[n] the approved symbol, or the name itself: equal where two names are one gene."""
        return np.array([self.base.current(symbol) for symbol in self.symbols])

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """[n] whether the gene carries any annotation."""
        return np.asarray(np.diff(self.rows("all").indptr) > 0)

    def rows(self, kind: str) -> csr_array:
        """[n, terms] unit TF-IDF rows over one kind of annotation; a gene without any has an empty row."""
        held = [self._held(symbol, kind) for symbol in self.symbols]
        return _unit(held, self.base.size if kind != "family" else None)

    def between(self, others: Annotated, kind: str) -> tuple[csr_array, csr_array]:
        """The rows of both, over the same terms: their product is the cosine."""
        both = Annotated(self.base, (*self.symbols, *others.symbols)).rows(kind)
        return both[: len(self.symbols)], both[len(self.symbols) :]

    def _held(self, symbol: str, kind: str) -> Sequence[str]:
        if kind == "family":
            found = stem(self.base.current(symbol))
            return [found] if found else []
        keep = self._kinds[kind]
        return [term for term in self.base.terms(symbol) if keep(term)]

    @cached_property
    def _kinds(self) -> dict[str, Callable[[str], bool]]:
        namespace: dict[str, str] = {}

        def of(term: str) -> str:
            if term not in namespace:
                found = self.base.term(term)
                namespace[term] = found.namespace if found else ""
            return namespace[term]

        def machine(term: str) -> bool:
            if of(term) == "complex":
                return True
            return self.base.size(term) <= COMPLEX_MOST and COMPLEX_ROOT in self.base.ancestors(term)

        kinds: dict[str, Callable[[str], bool]] = {
            "all": lambda term: of(term) != "hallmark",
            "small": lambda term: of(term) != "hallmark" and self.base.size(term) <= SMALL,
            "machine": machine,
        }
        for name in ("biological_process", "molecular_function", "cellular_component", "pathway"):
            kinds[name] = lambda term, name=name: of(term) == name  # type: ignore[misc]
        return kinds


def kernels(genes: Annotated) -> dict[str, Floats]:
    """name -> [n, n] similarity of every two genes; 0 between names of one gene, so that nothing votes for itself."""
    cosines = {}
    for kind in dict.fromkeys([*(kind for kind, _ in KERNELS.values()), *(kind for kind, _, _ in MIX)]):
        rows = genes.rows(kind)
        cosines[kind] = np.clip((rows @ rows.T).toarray(), 0.0, 1.0).astype(np.float32)
    found = {name: cosines[kind] ** power for name, (kind, power) in KERNELS.items()}
    found["mix"] = np.asarray(sum(weight * cosines[kind] ** power for kind, power, weight in MIX) / 5)
    same = genes.genes[:, None] == genes.genes[None, :]
    for kernel in found.values():
        kernel[same] = 0.0
    return found


def coordinates(kernel: Floats, dimensions: int) -> Floats:
    """[n, d] whose inner products are nearest to the kernel: its leading eigenvectors, scaled. What the smaller ones
    would add is noise to a ridge: 100 served better than 300 or 60."""
    d = min(dimensions, len(kernel))
    values, vectors = eigh(kernel.astype(np.float64), subset_by_index=[len(kernel) - d, len(kernel) - 1])
    found: Floats = np.ascontiguousarray((vectors * np.sqrt(np.clip(values, 0, None)))[:, ::-1], dtype=np.float32)
    return found


def placed(kernel: Floats, basis: NDArray[np.bool_], dimensions: int) -> Floats:
    """[n, d] the coordinates of the basis, and of the other genes by their similarity to it (Nystroem's extension)."""
    own = coordinates(kernel[np.ix_(basis, basis)], dimensions)
    length = np.square(own).sum(axis=0)  # an eigenvalue each
    found: Floats = kernel[:, basis] @ np.divide(own, length, out=np.zeros_like(own), where=length > 1e-6)
    found[basis] = own
    return found


def compressed(rows: csr_array, dimensions: int) -> Floats:
    """[n, d] whose inner products are nearest to those of sparse rows (truncated SVD)."""
    d = min(dimensions, min(rows.shape) - 1)
    if d < 1:
        return np.zeros((rows.shape[0], 1), dtype=np.float32)
    left, values, _ = svds(rows, k=d, random_state=0)
    found: Floats = np.ascontiguousarray((left * values)[:, ::-1], dtype=np.float32)
    return found


def _unit(held: Sequence[Sequence[str]], size: Callable[[str], int] | None) -> csr_array:
    column: dict[str, int] = {}
    places = [[column.setdefault(term, len(column)) for term in terms] for terms in held]
    starts = np.cumsum([0, *map(len, places)])
    flat = np.fromiter((i for row in places for i in row), dtype=np.int32, count=int(starts[-1]))
    rows = csr_array((np.ones(len(flat)), flat, starts), shape=(len(held), max(len(column), 1)))
    counts = np.bincount(flat, minlength=rows.shape[1]) if size is None else np.array([size(t) for t in column] or [1])
    weighted = rows @ diags_array(np.log(GENOME / np.clip(counts, 1, GENOME)))
    length = np.sqrt(weighted.power(2).sum(axis=1))
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    unit: csr_array = (diags_array(scale) @ weighted).tocsr()
    return unit
