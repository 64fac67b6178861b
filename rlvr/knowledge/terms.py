"""Terms of the knowledge base: found by id and by name, and how they stand to each other.

`KnowledgeBase` is this, and the genes and facts besides (base.py).
"""

from __future__ import annotations

from functools import cached_property, lru_cache

from rlvr.knowledge.facts import Term
from rlvr.knowledge.store import Store, numbers

LONGEST = 512  # characters; what is longer is no name of anything, and must not fill a cache


class Terms:
    """The terms of one built file. A term is numbered by its rank, from the rarest to the most common."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._above = lru_cache(1 << 16)(self._read_above)
        self._term = lru_cache(1 << 14)(self._read_term)

    def term(self, id: str) -> Term | None:
        """The term of that id or alternative id (GO:, R-HSA-, CL:, HALLMARK_, CORUM:)."""
        rank = self._rank.get(id)
        return None if rank is None else self._term(rank)

    def find(self, name: str, namespace: str | None = None) -> tuple[Term, ...]:
        """Terms of exactly that name or exact synonym, whatever the case; current ones first.

        namespace: biological_process, molecular_function, cellular_component, pathway, hallmark, complex, cell.
        """
        if not plain(name):
            return ()
        held = self._store.rows("SELECT rank FROM label WHERE label = ?", name.casefold())
        found = [self._term(rank) for (rank,) in held]
        kept = [t for t in found if namespace in (None, t.namespace)]
        return tuple(sorted(kept, key=lambda t: (t.obsolete, t.name.casefold() != name.casefold(), t.id)))

    def labels(self) -> list[tuple[str, str]]:
        """(name or exact synonym, id) of every current term, case folded, sorted: for a lexicon of all of them."""
        query = "SELECT label, id FROM label JOIN term ON term.rank = label.rank WHERE NOT obsolete ORDER BY 1, 2"
        return [(label, id) for label, id in self._store.rows(query)]

    def members(self, term: str) -> tuple[str, ...]:
        """The human genes that carry a term, sorted: the other way round of `terms`."""
        rank = self._rank.get(term)
        if rank is None:
            return ()
        ((held,),) = self._store.rows("SELECT genes FROM term WHERE rank = ?", rank)
        return tuple(self._symbols[i] for i in numbers(held))

    def size(self, term: str) -> int:
        """How many human genes carry a term; 0 if it is unknown."""
        rank = self._rank.get(term)
        return 0 if rank is None else self._labels[rank][2]

    def ancestors(self, term: str) -> frozenset[str]:
        """The term and everything above it by is_a and part_of; empty if it is unknown."""
        rank = self._rank.get(term)
        return frozenset() if rank is None else frozenset(self._labels[i][0] for i in self._above(rank))

    def distance(self, a: str, b: str) -> int | None:
        """Fewest is_a and part_of edges from one term to the other through a common ancestor."""
        left, right = self._rank.get(a), self._rank.get(b)
        if left is None or right is None:
            return None
        below, above = self._above(left), self._above(right)
        return min((steps + above[i] for i, steps in below.items() if i in above), default=None)

    @cached_property
    def _labels(self) -> list[tuple[str, str, int]]:
        """(id, name, size) of each term by rank."""
        return self._store.rows("SELECT id, name, size FROM term ORDER BY rank")

    @cached_property
    def _rank(self) -> dict[str, int]:
        """Rank of each term id, alternative ids included."""
        found = dict(self._store.rows("SELECT id, rank FROM alternative"))
        return found | {held[0]: rank for rank, held in enumerate(self._labels)}

    @cached_property
    def _symbols(self) -> dict[int, str]:
        return dict(self._store.rows("SELECT id, symbol FROM gene WHERE species = 'human' ORDER BY symbol"))

    def _read_term(self, rank: int) -> Term:
        query = "SELECT id, name, namespace, obsolete, replaced_by, definition, consider FROM term WHERE rank = ?"
        ((id, name, space, gone, by, text, consider),) = self._store.rows(query, rank)
        return Term(id, name, space, bool(gone), tuple(by.split()), text, tuple(consider.split()))

    def _read_above(self, rank: int) -> dict[int, int]:
        ((held, steps),) = self._store.rows("SELECT ancestors, steps FROM term WHERE rank = ?", rank)
        return dict(zip(numbers(held), steps, strict=True))


def plain(text: str) -> bool:
    """Whether it may be the name of anything."""
    return 0 < len(text) <= LONGEST and text.isprintable()
