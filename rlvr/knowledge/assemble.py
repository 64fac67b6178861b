"""What is built, and under which version: the upstream files with the options, or the sample tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from rlvr.files import cache_dir
from rlvr.knowledge import ontologies, readers, store
from rlvr.knowledge.annotations import read_sample
from rlvr.knowledge.facts import Term
from rlvr.knowledge.ontologies import Entry
from rlvr.knowledge.readers import Claim
from rlvr.knowledge.releases import UPSTREAM, Origin
from rlvr.knowledge.rows import Rows
from rlvr.plugins import folders
from rlvr.source import File
from rlvr.types import Error, suggest

log = logging.getLogger(__name__)
SAMPLE = {
    "genes": "genes.tsv",
    "ontology": "go_terms.tsv",
    "cells": "cells.tsv",
    "annotation": "go_annotation.tsv",
}
ROOTS = {
    "GO:0003674": ("molecular_function", "enables"),  # first: its terms may also be part of a process
    "GO:0005575": ("cellular_component", "part_of"),
    "GO:0008150": ("biological_process", "involved_in"),
}


def upstream(
    files: Mapping[str, File | Path], cutoff: date | str | None, exclude: Collection[str], noncommercial: bool
) -> Path:
    """The built file for these inputs and options (see `rlvr.knowledge.build`)."""
    origins = {part: origin for part, origin in UPSTREAM.items() if noncommercial or not origin.opt_in}
    for part, file in files.items():
        if part not in UPSTREAM:
            raise Error(f"files: there is no part {part!r}{suggest(part, UPSTREAM)}; known: {', '.join(UPSTREAM)}")
        given = file if isinstance(file, File) else _pinned(file)
        origins[part] = replace(UPSTREAM[part], file=given, release=Path(given.name).name)
    papers = sorted(f"PMID:{p}" if p.isdigit() else p for p in set(exclude))
    options: dict[str, Any] = {"cutoff": _day(cutoff), "exclude_references": papers, "noncommercial": noncommercial}
    key = [store.FORMAT, options, [(part, o.release, o.file.sha256) for part, o in origins.items()]]
    version = sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir() / "knowledge" / f"upstream-{version}.sqlite"

    def fill(write: store.Write) -> None:
        given = {part: _local(files.get(part), origin) for part, origin in origins.items()}
        rows = Rows((options["cutoff"] or "").replace("-", ""), frozenset(papers))
        for part, origin in origins.items():
            log.info("%s %s", origin.source, origin.release)
            rows.read(part, origin, given[part])
        rows.write(write, version, options)

    return store.built(path, fill, "upstream")


def _local(given: File | Path | None, origin: Origin) -> Path:
    return given if isinstance(given, Path) else origin.file.path()


def _pinned(path: Path) -> File:
    if not path.is_file():
        raise Error(f"files: {path} is not there; download it first, or correct the path")
    return File(path.name, sha256(path.read_bytes()).hexdigest())


def _day(cutoff: date | str | None) -> str | None:
    if cutoff is None:
        return None
    try:
        return (cutoff if isinstance(cutoff, date) else date.fromisoformat(cutoff)).isoformat()
    except ValueError as error:
        raise Error(f"cutoff {cutoff!r} is no date; write it as 2018-06-30") from error


def sample() -> Path:
    """The built file of the tables in data/sample/."""
    return sample_of(next(folder / "sample" for folder in folders("data")))


def sample_of(folder: Path) -> Path:
    """The built file of a folder with the sample tables."""
    for name in SAMPLE.values():
        if not (folder / name).is_file():
            raise Error(f"{folder / name} is missing; restore it with data/sample/make_sample.py")
    pins = {part: _pinned(folder / name) for part, name in SAMPLE.items()}
    version = sha256(json.dumps([store.FORMAT, [pin.sha256 for pin in pins.values()]]).encode()).hexdigest()[:16]

    def fill(write: store.Write) -> None:
        direct, nodes, sizes = read_sample(folder)
        above = ontologies.distances({t: node.parents for t, node in nodes.items()})
        places = {t: next((ROOTS[r] for r in ROOTS if r in above[t]), ("pathway", "member_of")) for t in nodes}
        rows = Rows()
        for part in SAMPLE:
            rows.release(part, replace(UPSTREAM[part], file=pins[part]))
        symbols = readers.read_symbols(folder / SAMPLE["genes"])
        rows.name(symbols.names)
        rows.encode(symbols.accessions)
        rows.enter(Entry(Term(t, node.name, places[t][0]), node.parents) for t, node in nodes.items())
        rows.enter(ontologies.read_cell_table(folder / SAMPLE["cells"]))
        for gene, held in direct.items():
            for term in held:
                rows.add("annotation", Claim(gene, places[term][1], term))
        rows.write(write, version, {"cutoff": None, "exclude_references": [], "noncommercial": False}, sizes)

    return store.built(cache_dir() / "knowledge" / f"sample-{version}.sqlite", fill, "sample")
