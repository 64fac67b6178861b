"""Makes the small tables in this folder from the upstream files.

    python -m rlvr.data.sample.make_sample

Screens: gene summaries of four genome-wide CRISPRi screens (two cytokines, two donors), from the
package genedisco. Annotation: GO, Reactome, HGNC and Cell Ontology, from rlvr.knowledge. Fetched if they are
not under RLVR_DATA. It also prints how well one donor predicts the other: the noise ceiling.
"""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import combine_pvalues, false_discovery_control
from sklearn.metrics import roc_auc_score

from rlvr import tables
from rlvr.files import write_atomically
from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge.ontologies import read_cells, read_obo
from rlvr.knowledge.readers import read_symbols
from rlvr.knowledge.releases import UPSTREAM
from rlvr.source import File

HERE = Path(__file__).resolve().parent
DONORS = (1, 2)
NUMBERS = tuple(f"{what}_{d}" for d in DONORS for what in ("guides", "lfc", "p_down", "p_up"))
FDR = 0.1  # of the two donors' combined p
CONFIRMED = 0.05  # one-sided p that each donor must reach
QUIET = 0.2  # p above which, both ways and in both donors, a knockdown counts as doing nothing
CELLS = ("CL:0000988", "CL:0000164")  # blood and enteroendocrine cells: these and all below them
GUIDES = 3  # per gene, as the library was designed; twice as many means two genes in one row


class Screen(TypedDict):
    """cytokine: the gene whose product was stained, and which is no question in its own screen."""

    cytokine: str
    files: tuple[File, File]


def _file(name: str, digest: str) -> File:
    path = f"{name}.gene_summary.txt"
    member = f"genedisco/datasets/screens/{path}"
    return File(f"genedisco_screens/{path}", digest, wheel="genedisco==1.0.5", member=member)


SCREENS: dict[str, Screen] = {
    "cd4_il2": {
        "cytokine": "IL2",
        "files": (
            _file("schmidt_il2_d1", "d74983a627673a96077e04a7a5bce0d1aa66e3c5fb0ca8182a7166ef88522391"),
            _file("schmidt_il2_d2", "c860efa684b6ac0b44c61bd3c984e05ea7b3b2279726f4ef477611380c6ca9fd"),
        ),
    },
    "cd8_ifng": {
        "cytokine": "IFNG",
        "files": (
            _file("schmidt_ifng_d1", "a294aa3197c8634c3fa9665cd57f5e3451dc5531b54028a0592e6e8b51bb506d"),
            _file("schmidt_ifng_d2", "f545a6b6a2eb5d28483cb8577b9d7d66857da8279793dd089c314043c4a04c1a"),
        ),
    },
}


def read_screen(screen: Screen) -> pd.DataFrame:
    """Both donors side by side, one row per gene that may be asked about.

    Index: gene. Columns per donor d: guides_d, lfc_d (log2 fold change, cytokine-high over -low),
    p_down_d and p_up_d (MAGeCK, one-sided). MAGeCK's `neg` is depletion from cytokine-high: down.
    """
    names = {"num": "guides", "neg|lfc": "lfc", "neg|p-value": "p_down", "pos|p-value": "p_up"}
    donors = []
    for donor, file in zip(DONORS, screen["files"], strict=True):
        path = file.path()
        raw = pd.read_csv(path, sep="\t")
        tables.require(raw, ("id", *names), str(path))
        donors.append(raw.set_index("id").rename(columns={old: f"{new}_{donor}" for old, new in names.items()}))
    both = pd.concat(donors, axis=1, join="inner").rename_axis("gene").sort_index()[list(NUMBERS)]
    control = both.index.str.startswith("NO-TARGET")
    doubled = (both[["guides_1", "guides_2"]] > GUIDES + 1).any(axis=1)
    return both[~control & ~doubled & (both.index != screen["cytokine"])]


def label(screen: pd.DataFrame) -> pd.DataFrame:
    """The screen with q_down, q_up (Benjamini-Hochberg over Fisher's combination of the donors) and
    label: up, down, none, or missing where the measurement does not say."""
    out = screen.assign(label=pd.Series(pd.NA, index=screen.index, dtype="string"))
    for way, sign in (("down", -1), ("up", 1)):
        p = screen[[f"p_{way}_1", f"p_{way}_2"]]
        out[f"q_{way}"] = false_discovery_control(combine_pvalues(p.to_numpy(), method="fisher", axis=1).pvalue)
        agree = (np.sign(screen[["lfc_1", "lfc_2"]]) == sign).all(axis=1)
        out.loc[(out[f"q_{way}"] <= FDR) & agree & (p <= CONFIRMED).all(axis=1), "label"] = way
    quiet = (screen[[f"p_{way}_{d}" for way in ("down", "up") for d in DONORS]] > QUIET).all(axis=1)
    out.loc[quiet & (screen[["guides_1", "guides_2"]] >= GUIDES).all(axis=1), "label"] = "none"
    return out


def match(labelled: pd.DataFrame, annotations: np.ndarray, core: np.ndarray) -> pd.DataFrame:
    """The hits, and as many non-hits, each like one hit in core-machinery membership and nearest to it
    in log annotation count (the assignment with the least total distance). annotations, core: one entry
    per row. Without this, "core machinery" and "well studied" would answer the question."""
    # Candidates in hashed order: among equally good ones the alphabet must not choose.
    order = np.array(sorted(range(len(labelled)), key=lambda i: sha256(str(labelled.index[i]).encode()).digest()))
    named = labelled["label"].to_numpy(dtype=object, na_value="")
    hits = np.flatnonzero(np.isin(named, ["up", "down"]))
    quiet = order[named[order] == "none"]
    size = np.log1p(annotations.astype(float))
    distance = np.abs(size[hits][:, None] - size[quiet][None, :])
    distance += 1e3 * (core[hits][:, None] != core[quiet][None, :])
    chosen = quiet[linear_sum_assignment(distance)[1]]
    return labelled.iloc[np.sort(np.concatenate([hits, chosen]))]


def noise_ceiling(screen: pd.DataFrame, hits: int) -> dict[str, float | int]:
    """How well donor 1 predicts donor 2, over all genes of a screen: AUROC of donor 1's -log p for
    donor 2's hits (its `hits` smallest p) against donor 2's quiet genes; among those hits AUROC of donor
    1's log fold change for the direction, and the share with the same sign."""
    p = screen[["p_down_2", "p_up_2"]].to_numpy()
    hit, quiet = np.zeros(len(p), dtype=bool), (p > QUIET).all(axis=1)
    hit[np.argsort(p.min(axis=1), kind="stable")[:hits]] = True
    up = p[:, 1] < p[:, 0]
    strength = -np.log(screen[["p_down_1", "p_up_1"]].min(axis=1).to_numpy())
    fold = screen["lfc_1"].to_numpy()
    return {
        "genes": len(screen),
        "hits_of_donor_2": hits,
        "effect_auroc": round(float(roc_auc_score(hit[hit | quiet], strength[hit | quiet])), 4),
        "direction_auroc": round(float(roc_auc_score(up[hit], fold[hit])), 4),
        "sign_agreement": round(float(np.mean((fold[hit] > 0) == up[hit])), 4),
        "lfc_correlation": round(float(np.corrcoef(fold, screen["lfc_2"])[0, 1]), 4),
    }


def main() -> None:
    """Write the tables and noise_ceiling.json beside this file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    knowledge = KnowledgeBase.open()
    annotations = knowledge.annotations()
    parts, ceiling = [], {}
    for context, screen in SCREENS.items():
        measured = read_screen(screen)
        genes = list(measured.index)
        kept = match(label(measured), annotations.annotations(genes), annotations.core(genes))
        ceiling[context] = noise_ceiling(measured, int((kept["label"] != "none").sum()))
        parts.append(kept.reset_index().assign(context=context))
        print(context, kept["label"].value_counts().to_dict(), ceiling[context])
    screens = pd.concat(parts)
    _write("screens.tsv", screens[["context", "gene", "label", *NUMBERS, "q_down", "q_up"]])

    asked = sorted(set(screens["gene"]))
    _write_annotation(knowledge, asked)
    _write_symbols(knowledge, {*asked, *(screen["cytokine"] for screen in SCREENS.values())})
    _write_cells(knowledge)
    write_atomically(HERE / "noise_ceiling.json", (json.dumps(ceiling, indent=2) + "\n").encode())


def _write_annotation(knowledge: KnowledgeBase, genes: list[str]) -> None:
    """Each gene's most specific terms, and those terms with all their ancestors. Only what two genes
    share is ever shown, so only such a term keeps its name."""
    carried = {g: [t for t in knowledge.terms(g) if t.startswith(("GO:", "R-HSA-"))] for g in genes}
    above = {t: knowledge.ancestors(t) - {t} for t in set().union(*carried.values())}
    specific = {g: set(held).difference(*(above[t] for t in held)) for g, held in carried.items()}
    carriers = Counter(t for held in carried.values() for t in held)
    parents = {entry.term.id: entry.parents for entry in read_obo(UPSTREAM["ontology"].file.path(), "GO:")}
    named = {t: term.name if (term := knowledge.term(t)) and carriers[t] > 1 else "" for t in carriers}
    rows = [(t, named[t], knowledge.size(t), "|".join(parents.get(t, ()))) for t in sorted(carriers)]
    _write("go_terms.tsv", pd.DataFrame(rows, columns=["term", "name", "genes", "parents"]))
    held = [(g, "|".join(sorted(specific[g]))) for g in genes]
    _write("go_annotation.tsv", pd.DataFrame(held, columns=["gene", "terms"]))


def _write_symbols(knowledge: KnowledgeBase, genes: set[str]) -> None:
    """HGNC's previous and alias symbols of the sample's genes, and their UniProt accessions: those that stand for
    one gene among all."""
    approved = {symbol for g in genes if (symbol := knowledge.resolve(g))}
    kept: dict[tuple[str, int], list[str]] = {}
    for name, rank, symbol in read_symbols(UPSTREAM["genes"].file.path()).names:
        if symbol in approved and rank and knowledge.resolve(name) == symbol:
            kept.setdefault((symbol, rank), []).append(name)
    proteins = {s: [a for a in knowledge.accessions(s) if knowledge.accession(a)] for s in approved}
    table = [
        (s, *("|".join(held) for held in (kept.get((s, 1), ()), kept.get((s, 2), ()), proteins[s])))
        for s in sorted(approved)
    ]
    _write("genes.tsv", pd.DataFrame(table, columns=["symbol", "prev_symbol", "alias_symbol", "uniprot_ids"]))


def _write_cells(knowledge: KnowledgeBase) -> None:
    """The Cell Ontology's blood and enteroendocrine cells, with all their ancestors."""
    entries = {entry.term.id: entry for entry in read_cells(UPSTREAM["cells"].file.path())}
    below = [t for t in entries if not knowledge.ancestors(t).isdisjoint(CELLS)]
    kept = sorted(set().union(*(knowledge.ancestors(t) for t in below)))
    rows = [(t, entries[t].term.name, "|".join(entries[t].parents), "|".join(entries[t].synonyms)) for t in kept]
    _write("cells.tsv", pd.DataFrame(rows, columns=["term", "name", "parents", "synonyms"]))


def _write(name: str, table: pd.DataFrame) -> None:
    out = io.StringIO()
    table.to_csv(out, sep="\t", index=False, float_format="%.5g", lineterminator="\n")
    write_atomically(HERE / name, out.getvalue().encode())
    print(f"{name}: {len(table)} rows, {len(out.getvalue()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
