"""Time and size of the knowledge base: seconds to build, size of its file, microseconds of each query.

    python benchmarks/knowledge.py [--out benchmarks/results/knowledge.json]

Builds into a temporary cache. Each query runs n times on genes drawn at random among those with annotation, the
first time in the process (cold) and again (warm).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rlvr.evaluation.provenance import machine, versions
from rlvr.knowledge import FILES, KnowledgeBase

SEED = 0
N = 5000  # genes drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLVR_CACHE"] = folder
        for file in FILES:
            file.path()  # fetching and unpacking is not building
        start, processor = time.perf_counter(), time.process_time()
        base = KnowledgeBase.open("upstream")
        built = {
            "seconds": round(time.perf_counter() - start, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "file_mb": round(base.path.stat().st_size / 1e6, 1),
        }
        result = {
            "build": built,
            "microseconds_per_query": queries(base),
            "version": base.version,
            "machine": machine(),
            "versions": versions(),
            "seed": SEED,
        }
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)


def queries(base: KnowledgeBase) -> dict[str, Any]:
    """Query -> mean microseconds cold and warm, and n."""
    draw = random.Random(SEED)
    genes = draw.sample([gene for gene in base.symbols() if base.terms(gene)], N)
    terms = [draw.choice(base.terms(gene)) for gene in genes]
    factors = [factor for factor in genes if base.targets(factor)]
    edges = [(factor, target) for factor in factors for target in base.targets(factor)][:N]
    asked: dict[str, Sequence[tuple[str, ...]]] = {
        "resolve": [(gene,) for gene in genes],
        "terms": [(gene,) for gene in genes],
        "shares": list(pairwise(genes)),
        "edge": edges,
        "distance": list(pairwise(terms)),
        "facts": list(zip(genes, terms, strict=True)),
        "term": [(term,) for term in terms],
    }
    fresh = KnowledgeBase(base.path)  # with empty caches
    fresh.size(terms[0])  # reads the ids of all terms, once
    return {
        name: {"n": len(held), "cold": timed(getattr(fresh, name), held), "warm": timed(getattr(fresh, name), held)}
        for name, held in asked.items()
    }


def timed(query: Callable[..., Any], arguments: Sequence[tuple[str, ...]]) -> float:
    start = time.perf_counter()
    for held in arguments:
        query(*held)
    return round(1e6 * (time.perf_counter() - start) / len(arguments), 2)


if __name__ == "__main__":
    main()
