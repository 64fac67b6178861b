"""Which type of the Cell Ontology a label of somebody's file stands for.

cell_type_of("T_cells", {}, base).id, cell_type_of("alpha", {"alpha": "CL:0000171"}, base).id
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge.facts import Term

_ID = re.compile(r"CL[:_](\d{7})", re.IGNORECASE)
# How the ontology says where a cell is. What is alpha in a pancreas is no alpha cell of a retina.
_PLACES = {"pancrea": "pancreatic", "islet": "pancreatic", "retina": "retinal", "kidney": "kidney", "lung": "lung"}
_PLACES |= {"liver": "hepatic", "pituitar": "pituitary", "stomach": "gastric", "skin": "skin", "brain": "cerebral"}
_BARE = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "pp"}  # which cell that is depends on the place


def cell_type_of(label: str, types: Mapping[str, str], knowledge: KnowledgeBase, tissue: str = "") -> Term | None:
    """The current type: the one that `types` (label -> id) names, else an id (CL:0000084, CL_0000084), else a name or
    synonym that only one type has, also in the plural, with underscores, without the word "cell", or without the tissue
    (words) that it is of. None if there is none, or several."""
    given = types.get(label, label).strip()
    if found := _ID.fullmatch(given):
        return _current(knowledge.term(f"CL:{found[1]}"))
    if label in types:
        return _current(knowledge.term(given))
    for name in _spellings(given, tissue.casefold()):
        found_terms = [term for term in knowledge.find(name, "cell") if not term.obsolete]
        exact = [term for term in found_terms if term.name.casefold() == name.casefold()]
        if exact or len(found_terms) == 1:
            return (exact or found_terms)[0]
    return None


def _current(term: Term | None) -> Term | None:
    return term if term and term.namespace == "cell" and not term.obsolete else None


def _spellings(label: str, tissue: str) -> Iterator[str]:
    """The label, then as an ontology might write it."""
    spaced = " ".join(re.sub(r"[_.]+", " ", label).split())
    single = re.sub(r"(?i)\bcells$", "cell", spaced)
    whole = single if re.search(r"(?i)\bcell$", single) else f"{single} cell"
    bare = whole.casefold().removesuffix(" cell") in _BARE
    placed = [f"{word} {whole}" for start, word in _PLACES.items() if start in tissue]
    if bare:
        yield from placed
        return
    yield label
    yield from dict.fromkeys(name for name in (spaced, single) if name != label)
    yield from placed
    if not re.search(r"(?i)\bcells?\b", spaced):
        yield f"{spaced} cell"
        if spaced.endswith("s"):
            yield spaced.removesuffix("s")
            yield f"{spaced.removesuffix('s')} cell"
