"""How well oracles and shortcuts rank PerturbQA, by its official metric: one command, one table.

    python benchmarks/perturbqa/oracles.py [--contexts k562 rpe1 hepg2 jurkat] [--seeds 0 1] [--final]

Writes benchmarks/results/perturbqa_oracles.json. Cell lines whose files are not here are named and left out. Every row
is AUROC within each readout, averaged over the readouts with both labels (auroc_macro_gene), beside the pooled one,
with intervals over perturbations; the oracles have a permutation null as well. Each line is learnt from by itself.

Without --final two things are measured, and choices rest on the first: cross-validation over all official training
perturbations in five folds, once for each seed that deals them; and the split that the source calls validation, carved
from the official training perturbations, with everything learnt from the rest. With --final the held-out split is the
official test split, everything learns from all official training perturbations, and that use is entered in the ledger
of test splits.

evidence_vote is the vote of the four measured neighbours that a prompt shows, neighbour_vote that of all, fitted, mlp
and ensemble are the kinds of `rlvr oracle fit`. The knowledge base takes in CORUM (non-commercial, as PerturbQA is).
Strata are by the perturbation: whether a protein complex or a paralog of it is in training, and whether it is core
machinery. Where an oracle abstains it says what it would without the perturbation, and the row counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr.evaluation import metrics, provenance
from rlvr.evaluation.shortcuts import shortcuts
from rlvr.files import write_atomically
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle import calibration, ensemble, kinds
from rlvr.oracle.crossfit import FOLDS, LABELS, Crossfit, Fitted, prepare
from rlvr.plugins import load
from rlvr.questions.evidence import build_questions
from rlvr.questions.splits import groups
from rlvr.source import Source

RESULT = Path(__file__).resolve().parents[1] / "results" / "perturbqa_oracles.json"
LEDGER = RESULT.parent / provenance.LEDGER.name
LINES = ("k562", "rpe1", "hepg2", "jurkat")
KINDS: tuple[kinds.Kind, ...] = get_args(kinds.Kind)
CHOSEN = "ensemble"  # by cross-validation, on both tasks; what the others are compared with
BESIDE = ("complex_partners", "evidence_vote", "neighbour_vote")
RESAMPLES, PERMUTATIONS = 500, 200
KEPT = ("auroc_macro_gene", "auroc", "accuracy", "macro_f1", "mcc")
Table = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOut:
    """The rows that are scored, and what each system says of them."""

    task: str
    rows: pd.DataFrame
    systems: Mapping[str, Table]

    def system(self, name: str, keep: Mask) -> metrics.System:
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


def held_out(task: str, table: pd.DataFrame, oracles: Mapping[str, Fitted], base: KnowledgeBase, split: str) -> HeldOut:
    """The oracles and every shortcut on the held-out rows."""
    names = LABELS[task]
    questions = list(
        build_questions(
            table,
            base.annotations(),
            task=f"perturbation/{task}",
            source="perturbqa",
            labels=names,
            k=4,
            modality="CRISPRi knockdown",
            contexts={table["context"].iloc[0]: "cells"},
        )
    )
    train = [question for question in questions if question.split == "train"]
    asked = [question for question in questions if question.split == split]
    found = shortcuts(train, asked, names)
    systems = {}
    for kind, fitted in oracles.items():
        held = fitted.predictions[(table["split"] == split).to_numpy()]
        p = held["p"].fillna(held["prior"]).fillna(0.5).to_numpy(dtype=np.float64)
        systems[kind] = np.column_stack([p, 1 - p])
    rows = table[table["split"] == split].reset_index(drop=True)
    return HeldOut(task, rows, systems | {name: said for name, said in found.items() if name != "majority"})


def scored(found: HeldOut, table: pd.DataFrame, base: KnowledgeBase) -> dict[str, Any]:
    """Every system over all rows; the oracles and what stands beside them in the strata; paired differences."""
    annotations, task = base.annotations(), f"perturbation/{found.task}"
    names = sorted(set(found.rows["perturbation"]))
    learnt = sorted(set(table.loc[table["split"] == "train", "perturbation"]))
    family = groups([*names, *learnt], base, by="family")
    families = {family.get(name, name) for name in learnt}
    paralog = np.array([family.get(name, name) in families for name in names])
    related = np.asarray(annotations.partners(names, learnt).any(axis=1)) | paralog
    kin = dict(zip(names, related.tolist(), strict=True))
    core = dict(zip(names, annotations.core(names).tolist(), strict=True))
    has, is_core = (found.rows["perturbation"].map(fact).to_numpy(dtype=np.bool_) for fact in (kin, core))
    strata = {"all": np.ones(len(has), dtype=np.bool_), "kin": has, "no_kin": ~has, "no_core": ~is_core}
    report: dict[str, Any] = {}
    for stratum, keep in strata.items():
        asked = [name for name in found.systems if stratum == "all" or name in (*KINDS, *BESIDE)]
        only = KEPT if stratum == "all" else ("auroc_macro_gene",)
        drawn = metrics.measured(
            task, {name: found.system(name, keep) for name in asked}, resamples=RESAMPLES, only=only
        )
        report[stratum] = {name: metrics.intervals(drawn[name]) for name in asked}
        for other in (*BESIDE, *KINDS):
            if other != CHOSEN:
                report[stratum][f"{CHOSEN} - {other}"] = metrics.differences(drawn[CHOSEN], drawn[other])
        report[stratum]["perturbations"] = len(set(found.rows.loc[keep, "perturbation"]))
    truth = np.asarray(found.rows["label"] == LABELS[found.task][0], dtype=np.float64)
    for kind in KINDS:
        system, p = found.system(kind, strata["all"]), found.systems[kind][:, 0]
        null = metrics.permutation_null(task, system, permutations=PERMUTATIONS)["auroc_macro_gene"]
        report["all"][kind] |= {"null": null, "ece": calibration.ece(p, truth)}
        report["all"][kind] |= {"reliability": calibration.reliability(p, truth)}
        report["all"][kind] |= {"coverage": calibration.coverage(p, truth)}
    return report


def every_kind(cross: Crossfit) -> tuple[dict[str, dict[str, Fitted]], dict[str, dict[str, float]]]:
    """kind -> task -> predictions, and the seconds of each kind; those of the ensemble come on top of its parts."""
    found: dict[str, dict[str, Fitted]] = {}
    spent: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        started, used = time.perf_counter(), time.process_time()
        found[kind] = ensemble.of(cross, dict(found)) if kind == "ensemble" else kinds.fit(kind, cross)
        spent[kind] = {"wall": time.perf_counter() - started, "processor": time.process_time() - used}
    return found, spent


def cross_validated(
    tables: Mapping[str, pd.DataFrame], base: KnowledgeBase, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """task -> kind -> the macro AUROC of each fold and, of all folds together, of p and lift, and the ECE; and the
    seconds that a fit takes."""
    cross = prepare(tables, base, seed=seed)
    oracles, spent = every_kind(cross)
    report: dict[str, Any] = {}
    for task in cross.tasks:
        rows, place = tables[task], cross.place[cross.of(task)]
        truth = np.asarray(rows["label"] == LABELS[task][0], dtype=np.float64)
        report[task] = {}
        for kind, held in oracles.items():
            said = held[task].predictions
            p = said["p"].fillna(said["prior"]).to_numpy(dtype=np.float64)
            systems = {"p": p, "lift": said["lift"].fillna(0.5).to_numpy(dtype=np.float64)}
            folds = [_macro(rows[place == number], p[place == number], task) for number in range(FOLDS)]
            report[task][kind] = {"folds": folds, "mean": float(np.mean(folds)), "ece": calibration.ece(p, truth)}
            report[task][kind] |= {f"together, {name}": _macro(rows, said, task) for name, said in systems.items()}
    return report, spent


def _macro(rows: pd.DataFrame, p: Table, task: str) -> float:
    found = HeldOut(task, rows.reset_index(drop=True), {"": np.column_stack([p, 1 - p])})
    system = found.system("", np.ones(len(rows), dtype=np.bool_))
    only = ("auroc_macro_gene",)
    return metrics.measured(f"perturbation/{task}", {"": system}, resamples=0, only=only)[""][only[0]].value


def measure(context: str, final: bool, seeds: list[int]) -> dict[str, Any]:
    """One cell line, both tasks."""
    source = load("data", "perturbqa", Source)
    base = KnowledgeBase.open("upstream", noncommercial=True)
    split = "test" if final else "validation"
    tables: dict[str, pd.DataFrame] = {}
    for task in LABELS:
        table: pd.DataFrame = source(context=context, task=task).table()  # type: ignore[call-arg, attr-defined]
        table = table.assign(split=table["split"].replace("validation", "train")) if final else table
        tables[task] = table[table["split"].isin(("train", split))].reset_index(drop=True)
    oracles, spent = every_kind(prepare(tables, base))
    report: dict[str, Any] = {"seconds": {"fit and predict": spent}}
    for task, table in tables.items():
        found = held_out(task, table, {kind: held[task] for kind, held in oracles.items()}, base, split)
        silent = {kind: dict(held[task].abstained) for kind, held in oracles.items()}
        report[task] = {"n": len(found.rows), "abstained": silent} | scored(found, table, base)
        if final:
            use = {
                "source": [{"name": "perturbqa", "context": context, "task": task}],
                "task": f"perturbation/{task}",
                "n": len(found.rows),
                "what": "fitted oracles and shortcut rows (benchmarks/perturbqa/oracles.py)",
            }
            provenance.enter(use, LEDGER)
    if not final:
        whole = {task: table.assign(split="train") for task, table in tables.items()}
        report["cross-validation"] = {}
        for seed in seeds:
            report["cross-validation"][f"seed {seed}"], spent = cross_validated(whole, base, seed)
            report["seconds"][f"fit, no row to predict, seed {seed}"] = spent
    report["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return report


def show(report: Mapping[str, Any], context: str) -> None:
    """One line per row of the table."""
    for task in LABELS:
        held = report[task]
        for stratum in ("all", "kin", "no_kin", "no_core"):
            for name, row in held[stratum].items():
                if name == "perturbations":
                    continue
                of = row["auroc_macro_gene"]
                value = "undefined" if of["value"] is None else f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"
                pooled = f"  pooled {row['auroc']['value']:.3f}" if "auroc" in row and " - " not in name else ""
                more = f"  null {row['null']['mean']:.3f} to {row['null']['high']:.3f}" if "null" in row else ""
                more += f"  ECE {row['ece']:.3f}" if isinstance(row.get("ece"), float) else ""
                print(f"{context:6} {task:9} {stratum:8} {name:27} {value}  genes {of['n']}{pooled}{more}")
        print(f"{context:6} {task:9} rows {held['n']}, abstained {held['abstained']}")
    for seed, tasks in report.get("cross-validation", {}).items():
        for task, rows in tasks.items():
            for kind, row in rows.items():
                folds = " ".join(f"{value:.3f}" for value in row["folds"])
                together = f"together p {row['together, p']:.3f} lift {row['together, lift']:.3f}  ECE {row['ece']:.3f}"
                print(f"{context:6} {task:9} {seed:8} {kind:9} {row['mean']:.4f}  folds {folds}  {together}")
    for what, spent in report["seconds"].items():
        seconds = ", ".join(f"{kind} {of['wall']:.0f} s ({of['processor']:.0f} s busy)" for kind, of in spent.items())
        print(f"{context:6} {what}: {seconds}")
    print(f"{context:6} memory {report['megabytes']} MB")


def present(contexts: list[str]) -> list[str]:
    """Those lines whose files are here; the others are named."""
    files = {file.name: file for file in load("data", "perturbqa", Source).files()}
    here = [c for c in contexts if all(files[f"perturbqa/{c}-{task}.csv"].here() for task in ("de", "dir"))]
    absent = [context for context in contexts if context not in here]
    print(f"cell lines here: {', '.join(here) or 'none'}; absent: {', '.join(absent) or 'none'}")
    return here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", nargs="+", choices=LINES, default=list(LINES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1], help="Of the folds of cross-validation.")
    parser.add_argument("--final", action="store_true", help="The official test split; entered in the ledger.")
    asked = parser.parse_args()
    split = "test" if asked.final else "validation"
    for context in present(asked.contexts):
        report = measure(context, asked.final, asked.seeds)
        show(report, context)
        held = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        made = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": provenance.machine()}
        held.setdefault(split, {})[context] = {**made, **report}
        write_atomically(RESULT, json.dumps(held, indent=1).encode())


if __name__ == "__main__":
    main()
