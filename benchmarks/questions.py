"""Time and memory to make all questions of PerturbQA's K562 and RPE1, of every task, and their prompts.

    python benchmarks/questions.py [--out benchmarks/results/questions.json]

questions: without evidence, one task after the other on one core, after the knowledge base is built; they stream, and
nothing is kept. prompts: the same with three measurements each, and each prompt rendered, on two processes, one for
each line. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from rlvr import plugins, prompts
from rlvr.evaluation.provenance import machine, versions
from rlvr.files import write_atomically
from rlvr.knowledge import KnowledgeBase
from rlvr.options import build
from rlvr.source import Source

TASKS = {
    "k562": ("effect", "direction", "set_effect", "set_direction", "set_name"),
    "rpe1": ("effect", "direction"),
}
EVIDENCE = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # the children use one core each
    version = KnowledgeBase.open("upstream").version  # built before the clock starts
    result = {
        "questions": measured([(tuple(TASKS), 0, False)]),
        "prompts": measured([((line,), EVIDENCE, True) for line in TASKS]),
        "knowledge": version,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
    }
    text = json.dumps(result, indent=2) + "\n"
    if options.out:
        write_atomically(options.out, text.encode())
    print(text, end="")


def measured(jobs: list[tuple[tuple[str, ...], int, bool]]) -> dict[str, Any]:
    """What the jobs take, each in a fresh process, all at once."""
    start = time.perf_counter()
    with ProcessPoolExecutor(len(jobs), multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(make, *zip(*jobs, strict=True)))
    return {
        "questions": sum(n for n, _, _ in done),
        "processes": len(jobs),
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(sum(seconds for _, seconds, _ in done), 1),
        "peak_memory_mb": max(memory for _, _, memory in done),
    }


def make(lines: tuple[str, ...], evidence: int, render: bool) -> tuple[int, float, int]:
    """Questions made, processor seconds, and peak memory in MB."""
    count, load = 0, cache(prompts.load)
    for line in lines:
        for task in TASKS[line]:
            source = build(
                plugins.load("data", "perturbqa", Source),
                {"context": line, "task": task, "evidence": evidence},
                "source perturbqa",
            )
            for question in source.questions():
                count += 1
                if render:
                    load(question.task).render(question)
    return count, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
