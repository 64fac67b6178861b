"""How well oracles and shortcuts rank PerturbQA, by its official metric: one command, one table.

    python benchmarks/perturbqa/oracles.py [--contexts k562 rpe1] [--final]

Writes benchmarks/results/perturbqa_oracles.json. Without --final the held-out split is validation, carved from the
official training perturbations, and everything learns from the rest. With --final it is the official test split, and
everything learns from all official training perturbations; that use is entered in the ledger of test splits. Every row
is AUROC within each readout, averaged over the readouts with both labels (auroc_macro_gene), beside the pooled one,
each with an interval over perturbations and a permutation null. The knowledge base takes in CORUM (non-commercial, as
PerturbQA is). Strata are by the perturbation: whether a protein complex of the Gene Ontology holds another one of
training, and whether it is core machinery.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr import metrics, provenance
from rlvr.evidence import build_questions
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle import calibration
from rlvr.oracle.fitted import LABELS, Fitted, fit
from rlvr.plugins import load
from rlvr.shortcuts import shortcuts
from rlvr.source import Source, write_atomically

RESULT = Path(__file__).resolve().parents[1] / "results" / "perturbqa_oracles.json"
LEDGER = RESULT.parent / provenance.LEDGER.name
RESAMPLES, PERMUTATIONS = 500, 200
KEPT = ("auroc_macro_gene", "auroc", "accuracy", "macro_f1", "mcc")
Table = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """The rows that are scored, and what each system says of them."""

    task: str
    rows: pd.DataFrame
    systems: Mapping[str, Table]

    def system(self, name: str, keep: NDArray[np.bool_]) -> metrics.System:
        names = LABELS[self.task]
        table = self.systems[name][keep]
        return {
            "labels": self.rows.loc[keep, "label"].tolist(),
            "probabilities": table,
            "answers": [names[i] for i in table.argmax(axis=1)],
            "label_names": names,
            "readouts": self.rows.loc[keep, "readout"].tolist(),
            "clusters": self.rows.loc[keep, "perturbation"].tolist(),
        }


def held_out(task: str, table: pd.DataFrame, fitted: Fitted, base: KnowledgeBase, split: str) -> HeldOut:
    """The oracle and every shortcut on the held-out rows. Where the oracle abstains it says the readout's rate."""
    names = LABELS[task]
    questions = list(
        build_questions(
            table,
            base.annotations(),
            task=f"perturbation/{task}",
            source="perturbqa",
            labels=names,
            k=0,
            modality="CRISPRi knockdown",
            contexts={table["context"].iloc[0]: "cells"},
        )
    )
    train = [q for q in questions if q.split == "train"]
    asked = [q for q in questions if q.split == split]
    rows = table[table["split"] == split].reset_index(drop=True)
    systems = {k: v for k, v in shortcuts(train, asked, names).items() if k not in ("majority", "evidence_vote")}
    p = fitted.predictions.loc[(table["split"] == split).to_numpy(), "p"].to_numpy(dtype=np.float64)
    p = np.where(np.isnan(p), systems["readout_frequency"][:, 0], p)
    return HeldOut(task, rows, {"oracle": np.column_stack([p, 1 - p]), **systems})


def scored(found: HeldOut, table: pd.DataFrame, base: KnowledgeBase) -> dict[str, Any]:
    """Every system over all rows; the oracle, the complexes and the vote in the strata; paired differences."""
    annotations = base.annotations()
    names = sorted(set(found.rows["perturbation"]))
    learnt = sorted(set(table.loc[table["split"] == "train", "perturbation"]))
    related = np.asarray(annotations.partners(names, learnt).any(axis=1))
    partner = dict(zip(names, related.tolist(), strict=True))
    core = dict(zip(names, annotations.core(names).tolist(), strict=True))
    has, is_core = (found.rows["perturbation"].map(fact).to_numpy(dtype=np.bool_) for fact in (partner, core))
    everything = np.ones(len(found.rows), dtype=np.bool_)
    task = f"perturbation/{found.task}"
    report: dict[str, Any] = {"all": {}}
    for name in found.systems:
        system = found.system(name, everything)
        row = metrics.summarise(task, **system, resamples=RESAMPLES)
        report["all"][name] = {k: row[k] for k in KEPT} | {
            "null": metrics.permutation_null(task, system, permutations=PERMUTATIONS)["auroc_macro_gene"]
        }
    for stratum, keep in (("partner", has), ("no_partner", ~has), ("no_core", ~is_core)):
        chosen = ("oracle", "complex_partners", "neighbour_vote")
        report[stratum] = {
            name: metrics.summarise(task, **found.system(name, keep), resamples=RESAMPLES)["auroc_macro_gene"]
            for name in chosen
        } | {"perturbations": len(set(found.rows.loc[keep, "perturbation"]))}
        for other in chosen[1:]:
            report[stratum][f"oracle - {other}"] = gain(found, other, keep)
    for other in ("complex_partners", "neighbour_vote"):
        report["all"][f"oracle - {other}"] = gain(found, other, everything)
    truth = np.asarray(found.rows["label"] == LABELS[found.task][0], dtype=np.float64)
    report["ece"] = calibration.ece(found.systems["oracle"][:, 0], truth)
    report["reliability"] = calibration.reliability(found.systems["oracle"][:, 0], truth)
    return report


def gain(found: HeldOut, other: str, keep: NDArray[np.bool_]) -> metrics.Interval:
    """What the oracle has over another system, on the same resamples."""
    first, second = found.system("oracle", keep), found.system(other, keep)
    return metrics.compare(f"perturbation/{found.task}", first, second, resamples=RESAMPLES)["auroc_macro_gene"]


def measure(context: str, final: bool) -> dict[str, Any]:
    """One cell line, both tasks."""
    source = load("data", "perturbqa", Source)
    base = KnowledgeBase.open("upstream", noncommercial=True)
    split = "test" if final else "validation"
    tables = {}
    for task in LABELS:
        table: pd.DataFrame = source(context=context, task=task).table()  # type: ignore[call-arg, attr-defined]
        table = table.assign(split=table["split"].replace("validation", "train")) if final else table
        tables[task] = table[table["split"].isin(("train", split))].reset_index(drop=True)
    started, used = time.perf_counter(), time.process_time()
    fitted = fit(tables, base)
    seconds = {"fit_and_predict": time.perf_counter() - started, "processor": time.process_time() - used}
    report: dict[str, Any] = {"seconds": seconds}
    for task, table in tables.items():
        found = held_out(task, table, fitted[task], base, split)
        report[task] = {"n": len(found.rows), "abstained": dict(fitted[task].abstained)} | scored(found, table, base)
        if final:
            use = {
                "source": [{"name": "perturbqa", "context": context, "task": task}],
                "task": f"perturbation/{task}",
                "n": len(found.rows),
                "what": "fitted oracle and shortcut rows (benchmarks/perturbqa/oracles.py)",
            }
            provenance.enter(use, LEDGER)
    return report


def show(report: Mapping[str, Any], context: str) -> None:
    """One line per row of the table."""
    for task in LABELS:
        held = report[task]
        for stratum in ("all", "partner", "no_partner", "no_core"):
            for name, row in held[stratum].items():
                if name == "perturbations":
                    continue
                of = row.get("auroc_macro_gene", row)
                null = f"  null {row['null']['mean']:.3f} to {row['null']['high']:.3f}" if "null" in row else ""
                value = "undefined" if of["value"] is None else f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"
                print(f"{context:5} {task:9} {stratum:10} {name:26} {value}  genes {of['n']}{null}")
        print(f"{context:5} {task:9} oracle ECE {held['ece']:.3f}, rows {held['n']}, abstained {held['abstained']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", nargs="+", default=["k562", "rpe1"])
    parser.add_argument("--final", action="store_true", help="The official test split; entered in the ledger.")
    asked = parser.parse_args()
    split = "test" if asked.final else "validation"
    held = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for context in asked.contexts:
        report = measure(context, asked.final)
        show(report, context)
        made = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": provenance.machine()}
        held.setdefault(split, {})[context] = {**made, **report}
        write_atomically(RESULT, json.dumps(held, indent=1).encode())


if __name__ == "__main__":
    main()
