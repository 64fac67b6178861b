"""What is known before any experiment: one knowledge base, with provenance on every fact.

    from rlvr.knowledge import KnowledgeBase
    kb = KnowledgeBase.open("upstream")     # built once into the cache; "sample": data/sample/, no network
    kb.resolve("AARS"), kb.accession("P43403"), kb.terms("CD3E"), kb.edge("GATA1", "HBB")
    kb.distance("CL:0000624", "CL:0000625")

Gene Ontology, Reactome, MSigDB hallmarks, CORUM (opt-in), TRRUST, CollecTRI, Cell Ontology, PanglaoDB,
CellMarker, HGNC, human-mouse orthologs, JASPAR: releases and licences in releases.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path

from rlvr.knowledge import assemble
from rlvr.knowledge.annotations import Annotations
from rlvr.knowledge.base import KnowledgeBase, opened
from rlvr.knowledge.facts import Edge, Fact, Gene, Release, Term
from rlvr.knowledge.releases import FILES
from rlvr.source import File

__all__ = ["FILES", "Annotations", "Edge", "Fact", "Gene", "KnowledgeBase", "Release", "Term", "build", "opened"]


def build(
    files: Mapping[str, File | Path] | None = None,
    *,
    cutoff: date | str | None = None,
    exclude_references: Collection[str] = (),
    noncommercial: bool = False,
) -> KnowledgeBase:
    """Build the knowledge base from the upstream files, or find it in the cache if these inputs and options
    were built before.

    files: newer releases, by part: genes, orthologs, ontology, annotation, pathways, hallmarks, complexes,
    trrust, collectri, cells, panglaodb, cellmarker, motifs. cutoff: GO annotation made after that day
    (GAF's date column; "2018-06-30") is left out. exclude_references: facts that rest on these papers
    ("PMID:35688146") are left out: a benchmark's own, say. noncommercial: take in CORUM.
    Errors: an unknown part, a file that is missing or in another form.
    """
    return KnowledgeBase.open(assemble.upstream(files or {}, cutoff, exclude_references, noncommercial))
