"""What PerturbQA's oracles know of a cell line of which they have seen nothing: the second table beside oracles.py.

    python benchmarks/perturbqa/transfer.py [--contexts k562 rpe1 hepg2 jurkat] [--final]

Writes benchmarks/results/perturbqa_transfer.json: a row for each line that is learnt from and each other that is asked
about, on the latter's held-out pairs. Nothing of the line asked about is learnt from, except by `own`:

    measured      the answer that the same knockdown had for the same readout in the other line's training; even else
    transferred   the ensemble fitted on the other line, less whatever that line has of the perturbations asked about
    both          measured where there is a measurement, transferred elsewhere
    own           the ensemble fitted on the line's own training perturbations

So `transferred` is of a new perturbation in a new line, and `measured` of a known one in a new line. Strata: whether
the other line's training holds the perturbation, and the rows whose readout it holds. AUROC is within each readout,
averaged over those with both labels, beside the pooled one; intervals are over perturbations, differences paired.
Nothing is chosen here: the kind of oracle is that of oracles.py, and so are splits and ledger (--final: the official
test split).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.perturbqa.oracles import CHOSEN, LEDGER, LINES, RESAMPLES, HeldOut, Table, every_kind, present
from rlvr.evaluation import metrics, provenance
from rlvr.files import write_atomically
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle.crossfit import LABELS, prepare
from rlvr.plugins import load
from rlvr.source import Source

RESULT = Path(__file__).resolve().parents[1] / "results" / "perturbqa_transfer.json"
PAIR = ["perturbation", "readout"]
DIFFERENCES = (("own", "transferred"), ("both", "measured"), ("both", "own"))
Tables = Mapping[str, pd.DataFrame]


def tables(context: str) -> Tables:
    """Task -> the canonical table of a line."""
    source = load("data", "perturbqa", Source)
    return {task: source(context=context, task=task).table() for task in LABELS}  # type: ignore[call-arg, attr-defined]


def split(held: Tables, asked: str) -> tuple[Tables, Tables]:
    """Each task's rows to learn from, and those that are asked about, which are of the split `asked`; from validation
    rows is learnt where the test split is asked about."""
    learnt = ("train", "validation") if asked == "test" else ("train",)
    return (
        {task: table[table["split"].isin(learnt)].assign(split="train") for task, table in held.items()},
        {task: table[table["split"] == asked].reset_index(drop=True) for task, table in held.items()},
    )


def believed(learnt: Tables, asked: Tables, base: KnowledgeBase) -> tuple[dict[str, Table], dict[str, dict[str, int]]]:
    """Task -> [rows asked about] the ensemble's p of yes or up, and why it abstained how often. Where it does it says
    what it would without the perturbation, or an even guess."""
    joined = {}
    for task in LABELS:
        context = learnt[task]["context"].iloc[0]
        joined[task] = pd.concat([learnt[task], asked[task].assign(context=context)], ignore_index=True)
    fitted = every_kind(prepare(joined, base))[0][CHOSEN]
    said = {}
    for task, found in fitted.items():
        held = found.predictions[(joined[task]["split"] != "train").to_numpy()]
        said[task] = held["p"].fillna(held["prior"]).fillna(0.5).to_numpy(dtype=np.float64)
    return said, {task: dict(found.abstained) for task, found in fitted.items()}


def looked_up(learnt: pd.DataFrame, asked: pd.DataFrame, positive: str) -> Table:
    """[rows asked about] 1, 0, or NaN where the pair was not measured."""
    known = (learnt["label"] == positive).groupby([learnt[name] for name in PAIR]).mean()
    return np.asarray(known.reindex(pd.MultiIndex.from_frame(asked[PAIR])), dtype=np.float64)


def scored(asked: pd.DataFrame, systems: Mapping[str, Table], task: str, learnt: pd.DataFrame) -> dict[str, Any]:
    """Every system in all rows and in the strata, and the paired differences."""
    two = {name: np.column_stack([p, 1 - p]) for name, p in systems.items()}
    found = HeldOut(task, asked, two)
    seen, readout = (asked[name].isin(set(learnt[name])).to_numpy() for name in PAIR)
    report: dict[str, Any] = {}
    strata = {"all": np.ones(len(seen), dtype=np.bool_), "seen": seen, "unseen": ~seen, "readout": readout}
    for stratum, keep in strata.items():
        report[stratum] = {"n": int(keep.sum()), "perturbations": int(asked.loc[keep, "perturbation"].nunique())}
        if not keep.any():
            continue
        rows = {name: found.system(name, keep) for name in two}
        drawn = metrics.measured(f"perturbation/{task}", rows, resamples=RESAMPLES, only=("auroc_macro_gene", "auroc"))
        report[stratum] |= {name: metrics.intervals(drawn[name]) for name in two}
        report[stratum] |= {f"{a} - {b}": metrics.differences(drawn[a], drawn[b]) for a, b in DIFFERENCES}
    return report


def show(report: Mapping[str, Any], name: str) -> None:
    """One line per row of the table."""
    for task in LABELS:
        counts = f"measured {report[task]['measured']}, abstained {report[task]['abstained']}"
        print(f"{name:14} {task:9} rows {report[task]['all']['n']}, {counts}")
        for stratum in ("all", "seen", "unseen", "readout"):
            for system, row in report[task][stratum].items():
                if isinstance(row, int):
                    continue
                of, pooled = row["auroc_macro_gene"], row["auroc"]
                if of["value"] is None or pooled["value"] is None:
                    print(f"{name:14} {task:9} {stratum:7} {system:18} undefined")
                    continue
                value = f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]  genes {of['n']}"
                print(f"{name:14} {task:9} {stratum:7} {system:18} {value}  pooled {pooled['value']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", nargs="+", choices=LINES, default=list(LINES))
    parser.add_argument("--final", action="store_true", help="The official test split; entered in the ledger.")
    chosen = parser.parse_args()
    held_out = "test" if chosen.final else "validation"
    base = KnowledgeBase.open("upstream", noncommercial=True)
    lines = {context: split(tables(context), held_out) for context in present(chosen.contexts)}
    own = {context: believed(learnt, asked, base)[0] for context, (learnt, asked) in lines.items()}
    for start, end in permutations(lines, 2):
        asked = lines[end][1]
        new = {name for table in asked.values() for name in table["perturbation"]}
        source = split(tables(start), "test")[0]  # all official training rows: those of `start` are not what is scored
        others = {task: table[~table["perturbation"].isin(new)] for task, table in source.items()}
        transferred, silent = believed(others, asked, base)
        report: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="seconds")}
        for task in LABELS:
            told = looked_up(source[task], asked[task], LABELS[task][0])
            systems = {
                "measured": np.where(np.isnan(told), 0.5, told),
                "transferred": transferred[task],
                "both": np.where(np.isnan(told), transferred[task], told),
                "own": own[end][task],
            }
            report[task] = {"measured": int((~np.isnan(told)).sum()), "abstained": silent[task]}
            report[task] |= scored(asked[task], systems, task, source[task])
            if chosen.final:
                use = {
                    "source": [{"name": "perturbqa", "context": end, "task": task}],
                    "task": f"perturbation/{task}",
                    "n": len(asked[task]),
                    "what": f"transfer from {start} (benchmarks/perturbqa/transfer.py)",
                }
                provenance.enter(use, LEDGER)
        name = f"{start} to {end}"
        show(report, name)
        kept = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        kept.setdefault(held_out, {})[name] = report | {
            "machine": provenance.machine(),
            "versions": provenance.versions(),
        }
        write_atomically(RESULT, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
