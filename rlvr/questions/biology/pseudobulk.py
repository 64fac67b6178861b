"""What a perturbation did to each gene: pseudobulks of single cells, and a test between replicates.

Cells of one culture are no independent samples: a test over cells calls nearly everything changed (Squair et al.
2021, doi:10.1038/s41467-021-25960-2). So counts are summed over the cells of a perturbation in a replicate, and
replicates are compared, by DESeq2 or by a t-test. `cell_test`, over cells, is there for data without counts or
replicates, and its results are to be called exploratory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.stats import false_discovery_control, ttest_1samp, ttest_ind, ttest_ind_from_stats

from rlvr.questions.biology.h5ad import Expression

Matrix = NDArray[np.float64]
TESTS = ("deseq2", "t")
PER_CELL = 1e4  # counts that a cell is scaled to before the logarithm


def sums(cells: Expression, group: NDArray[np.int64], groups: int) -> Matrix:
    """Summed values of each group of cells, [groups, genes]. group: of each cell; -1 is none."""
    total = np.zeros((groups, len(cells.genes)))
    for rows, values in cells.chunks():
        total += _membership(group[rows], groups) @ values
    return total


def moments(cells: Expression, group: NDArray[np.int64], groups: int) -> tuple[Matrix, Matrix]:
    """(mean, variance) of log values over the cells of each group, [groups, genes]. Counts become log(1 + count
    per 10,000); other values are taken as logarithms already."""
    first, second = np.zeros((2, groups, len(cells.genes)))
    for rows, values in cells.chunks():
        values = values.astype(np.float64)
        if cells.kind == "counts":
            depth = np.maximum(values.sum(axis=1), 1.0)
            values = (diags_array(PER_CELL / depth) @ values).tocsr().log1p()
        chosen = _membership(group[rows], groups)
        first += chosen @ values
        second += chosen @ values.power(2)
    size = np.bincount(group[group >= 0], minlength=groups)[:, None]
    mean = first / np.maximum(size, 1)
    return mean, np.maximum(second - size * mean**2, 0.0) / np.maximum(size - 1, 1)


def is_paired(samples: pd.DataFrame) -> bool:
    """Whether each replicate of a perturbation has its own controls. samples: columns perturbation ("" is control)
    and replicate."""
    control = set(samples["replicate"][samples["perturbation"] == ""])
    return bool(samples["replicate"].isin(control).all())


def compare(counts: Matrix, samples: pd.DataFrame, genes: Sequence[str], test: str) -> dict[str, pd.DataFrame]:
    """Perturbation -> one row per gene: fold (log2, over control), p, q (Benjamini-Hochberg over the genes); p and q
    are nan where a gene cannot be tested.

    counts: summed over the cells of a sample, [samples, genes]. samples: columns perturbation ("" is control) and
    replicate. "deseq2" fits one model to all samples, `~ replicate + perturbation` where each replicate has its own
    controls and `~ perturbation` otherwise. "t" takes log2 counts per million: a paired t-test, or else Welch's.
    """
    found = (_deseq2 if test == "deseq2" else _t_tests)(counts, samples.reset_index(drop=True))
    return {name: _corrected(fold, p, genes) for name, (fold, p) in found.items()}


def cell_test(
    perturbed: tuple[Matrix, Matrix, int], control: tuple[Matrix, Matrix, int], genes: Sequence[str]
) -> pd.DataFrame:
    """The same columns as `compare`, by Welch's t-test over cells: pseudoreplicated. Each side: mean, variance
    as `moments` gives them, and the number of cells."""
    (mean, variance, size), (mean_0, variance_0, size_0) = perturbed, control
    with np.errstate(all="ignore"):
        found = ttest_ind_from_stats(
            mean, np.sqrt(variance), size, mean_0, np.sqrt(variance_0), size_0, equal_var=False
        )
    return _corrected((mean - mean_0) / np.log(2), np.asarray(found.pvalue), genes)


def null_halves(replicate: pd.Series[str], paired: bool, times: int) -> Iterator[NDArray[np.bool_]]:
    """Control cells cut into two random halves, which differ in nothing: [cells], the same way every time. Paired,
    the cells of each replicate are halved; otherwise whole replicates are, which needs four."""
    names = sorted(set(replicate))
    for seed in range(times):
        random = np.random.default_rng(seed)
        if paired:
            at = pd.Series(random.random(len(replicate)), index=replicate.index)
            yield (at.groupby(replicate).rank(pct=True) > 0.5).to_numpy()
        elif len(names) >= 4:
            yield replicate.isin(random.permutation(names)[: len(names) // 2]).to_numpy()


def _membership(group: NDArray[np.int64], groups: int) -> csr_array:
    """0/1, [groups, cells]."""
    held = np.flatnonzero(group >= 0)
    return csr_array((np.ones(len(held)), (group[held], held)), shape=(groups, len(group)))


def _deseq2(counts: Matrix, samples: pd.DataFrame) -> dict[str, tuple[Matrix, Matrix]]:
    """DESeq2's Wald test (Love et al. 2014, doi:10.1186/s13059-014-0550-8), as in pydeseq2."""
    from pydeseq2.dds import DeseqDataSet  # slow to import
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    names = sorted(set(samples["perturbation"]) - {""})
    level = {"": "control"} | {name: f"p{i}" for i, name in enumerate(names)}
    data = pd.DataFrame(counts).rename(index=str, columns=str).astype(np.int64)
    design = samples.assign(perturbation=samples["perturbation"].map(level)).rename(index=str)
    inference = DefaultInference(n_cpus=1)
    found: dict[str, tuple[Matrix, Matrix]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each gene whose fit is slow to settle
        formula = "~ replicate + perturbation" if is_paired(samples) else "~ perturbation"
        fit = DeseqDataSet(counts=data, metadata=design, design=formula, quiet=True, inference=inference)
        fit.deseq2()
        for name in names:
            contrast = ["perturbation", level[name], "control"]
            stats = DeseqStats(fit, contrast=contrast, independent_filter=False, quiet=True, inference=inference)
            stats.summary()
            table = stats.results_df
            found[name] = table["log2FoldChange"].to_numpy(), table["pvalue"].to_numpy(dtype=float)
    return found


def _t_tests(counts: Matrix, samples: pd.DataFrame) -> dict[str, tuple[Matrix, Matrix]]:
    logs = np.log2(counts / counts.sum(axis=1, keepdims=True) * 1e6 + 1.0)
    control = samples.index[samples["perturbation"] == ""]
    own = pd.Series(control, index=samples["replicate"][control])
    paired = is_paired(samples)
    found: dict[str, tuple[Matrix, Matrix]] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # genes that do not vary get no p
        for name, rows in samples[samples["perturbation"] != ""].groupby("perturbation"):
            mine = logs[rows.index]
            others = logs[own[rows["replicate"]]] if paired else logs[control]
            test = ttest_1samp(mine - others, 0.0) if paired else ttest_ind(mine, others, equal_var=False)
            found[str(name)] = mine.mean(axis=0) - others.mean(axis=0), np.asarray(test.pvalue, dtype=float)
    return found


def _corrected(fold: Matrix, p: Matrix, genes: Sequence[str]) -> pd.DataFrame:
    q = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested], method="bh")
    return pd.DataFrame({"fold": fold, "p": p, "q": q}, index=pd.Index(genes, name="gene"))
