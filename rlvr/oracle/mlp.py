"""A small network on gene embeddings: the kind of oracle that rbio1 learns from (doi:10.1101/2025.08.18.670981).

    rlvr oracle fit perturbqa:context=k562 --kind mlp [--embeddings ESM.parquet] --out DIR

The perturbed gene's embedding goes through one hidden layer; each readout has its own vector, whose product with what
comes out is added to the readout's log odds, and a term that all readouts share. Effect and direction share the layers.
Eight networks that differ in their first weights are averaged. Embeddings are computed from the knowledge base
(rlvr.oracle.similarity.coordinates), or read: any table of ESM, GenePT, Geneformer or scGPT gene vectors as Parquet
with the columns gene, d0, d1, ... Folds and probabilities are those of crossfit.

Tried on the training folds of PerturbQA: coordinates of the mix of kernels alone, and three networks (RPE1 effect .004
less, once stacked), and 760 coordinates instead of 300 (no better).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, dropout, gelu

from rlvr import tables
from rlvr.oracle.crossfit import EDGE, Crossfit, Fitted
from rlvr.oracle.similarity import Annotated, Floats, coordinates, kernels
from rlvr.oracle.votes import Measured
from rlvr.types import Error

# kernel -> how many of its coordinates go into an embedding that is computed here
COORDINATES = {"mix": 100, "all1": 40, "component": 40, "pathway": 40, "machine": 40, "process": 40}
MEMBERS, WIDE, NARROW, EPOCHS, BATCHES, RATE = 8, 128, 32, 40, 6, 5e-3
FEW = 50  # perturbations, too few for an average
DECAY = {"layers": 1e-3, "readouts": 1e-2}
SHARE = {"effect": 1.0, "direction": 0.3}  # of each task in the loss


class Network(nn.Module):
    """MEMBERS networks side by side: embeddings [n, width] -> what comes out of each [MEMBERS, n, NARROW]; a readout's
    score is its product with that, and a sum."""

    def __init__(self, width: int, readouts: int, tasks: list[str]) -> None:
        super().__init__()
        self.first, self.second = _drawn(width, WIDE), _drawn(WIDE, NARROW)
        self.first_bias, self.second_bias = _drawn(1, WIDE), _drawn(1, NARROW)
        self.readouts = nn.ParameterDict({task: _drawn(readouts, NARROW, 0.02) for task in tasks})
        self.shared = nn.ParameterDict({task: _drawn(NARROW, 1, 0.02) for task in tasks})
        self.centre = nn.Buffer(torch.zeros(MEMBERS, 1, NARROW))

    def layers(self, vectors: torch.Tensor) -> torch.Tensor:
        seen = dropout(vectors.expand(MEMBERS, *vectors.shape), 0.2, self.training)
        hidden = gelu(seen @ self.first + self.first_bias)
        return dropout(hidden, 0.3, self.training) @ self.second + self.second_bias

    def forward(self, h: torch.Tensor, task: str, readout: torch.Tensor) -> torch.Tensor:
        """[MEMBERS, n] scores of n pairs; h: [MEMBERS, n, NARROW] of their perturbations."""
        score: torch.Tensor = (h * self.readouts[task][:, readout]).sum(dim=2) + (h @ self.shared[task]).squeeze(2)
        return score


def _drawn(rows: int, columns: int, spread: float | None = None) -> nn.Parameter:
    """As nn.Linear draws its weights, or normal ones of this spread."""
    if spread:
        return nn.Parameter(torch.randn(MEMBERS, rows, columns) * spread)
    return nn.Parameter((torch.rand(MEMBERS, rows, columns) * 2 - 1) / np.sqrt(rows if rows > 1 else columns))


@dataclass(frozen=True)
class Embeddings:
    """gene -> vector. Of one width, finite."""

    genes: tuple[str, ...]
    vectors: Floats

    @property
    def scaled(self) -> Floats:
        """[genes, width] of mean square 1."""
        return np.asarray(self.vectors / np.float32(np.sqrt((self.vectors**2).mean()) + 1e-9))

    def of(self, genes: Annotated) -> Floats:
        """[n, width], scaled; zeros for a gene that has none, under its symbol or approved one."""
        place, scaled = {gene: i for i, gene in enumerate(self.genes)}, self.scaled
        found = np.zeros((len(genes.symbols), self.vectors.shape[1]), dtype=np.float32)
        for row, (symbol, approved) in enumerate(zip(genes.symbols, genes.genes.tolist(), strict=True)):
            i = place.get(symbol, place.get(approved))
            if i is not None:
                found[row] = scaled[i]
        return found

    def table(self) -> pd.DataFrame:
        """gene, d0, d1, ..., as they are read."""
        columns = [f"d{i}" for i in range(self.vectors.shape[1])]
        return pd.DataFrame(self.vectors, columns=columns).assign(gene=list(self.genes))[["gene", *columns]]


def computed(genes: Annotated) -> Embeddings:
    """Leading eigenvectors of the annotation kernels, side by side, of those genes that are annotated."""
    held, found = kernels(genes), []
    for name, width in COORDINATES.items():
        np.fill_diagonal(held[name], 1.1)
        found.append(coordinates(held[name], width))
    known = genes.known
    return Embeddings(tuple(np.array(genes.symbols)[known].tolist()), np.hstack(found)[known])


def read(path: Path) -> Embeddings:
    """A table of gene, d0, d1, ... Errors: another form, a gene twice, holes in the columns, numbers that are none."""
    where = f"embeddings {path}"
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it as Parquet") from error
    tables.require(table, ("gene",), where)
    columns = [f"d{i}" for i in range(len(table.columns) - 1)]
    if strange := [str(column) for column in table.columns if column not in ("gene", *columns)]:
        raise Error(
            f"{where}: column {strange[0]!r}; name the {len(columns)} columns of numbers d0 to d{len(columns) - 1}"
        )
    if not columns or table.empty:
        raise Error(f"{where}: {len(table)} genes of width {len(columns)}; give one vector for each gene")
    if table["gene"].duplicated().any():
        raise Error(f"{where}: gene {table.loc[table['gene'].duplicated(), 'gene'].iloc[0]!r} comes twice; keep one")
    vectors = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float32)
    faulty = ~np.isfinite(vectors).all(axis=1)
    if faulty.any():
        raise Error(f"{where}: gene {table['gene'][int(faulty.argmax())]!r}: not all numbers; {int(faulty.sum())} such")
    return Embeddings(tuple(table["gene"].astype(str)), vectors)


def of(cross: Crossfit, embeddings: Embeddings, seed: int = 0) -> dict[str, Fitted]:
    """Task -> predictions. Errors: embeddings of other genes."""
    where = embeddings.of(cross.genes)
    missing = np.abs(where).max(axis=1) == 0
    if missing[cross.fold >= 0].all():
        raise Error("embeddings: none of the training perturbations is in the table; its genes must be human symbols")
    scores = {task: np.zeros(len(cross.rows)) for task in cross.tasks}
    for use, asked in cross.parts():
        network = train(where, cross.measured, use & ~missing, len(cross.targets.symbols), cross.tasks, seed)
        for task in cross.tasks:
            rows = cross.rows.iloc[asked]
            scores[task][asked] = said(network, where, task, *(rows[name].to_numpy() for name in ("p", "g")))
    return {task: cross.finished(task, scores[task][cross.of(task)], {}, {"no embedding": missing}) for task in scores}


def train(
    where: Floats, measured: Mapping[str, Measured], use: np.ndarray, readouts: int, tasks: list[str], seed: int
) -> Network:
    """One network, from the perturbations in `use`. where: [perturbations, width]."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(where.shape[1], readouts, tasks)
        place = torch.from_numpy(np.cumsum(use) - 1)
        known = torch.from_numpy(where[use])
        pairs = {task: _pairs(measured[task].of(use), readouts) for task in tasks}
        vectors = list(network.readouts.parameters())
        layers = [p for name, p in network.named_parameters() if not name.startswith("readouts")]
        optimiser = torch.optim.AdamW(
            [
                {"params": vectors, "weight_decay": DECAY["readouts"]},
                {"params": layers, "weight_decay": DECAY["layers"]},
            ],
            lr=RATE,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=EPOCHS * BATCHES)
        for _ in range(EPOCHS):
            group = torch.randint(BATCHES, (len(known),), generator=generator)
            for batch in range(BATCHES):
                chosen = group == batch
                local = torch.cumsum(chosen, dim=0) - 1
                h = network.layers(known[chosen])
                loss = h.sum() * 0.0
                for task, (perturbation, readout, value, weight, odds) in pairs.items():
                    rows = torch.nonzero(chosen[place[perturbation]]).ravel()
                    if len(rows):
                        # Direction has few rows for a readout, and would learn its rate instead of what ranks them.
                        seen = h - h.mean(dim=1, keepdim=True) if task == "direction" else h
                        logit = odds[rows] + network(seen[:, local[place[perturbation[rows]]]], task, readout[rows])
                        truth, weights = (values[rows].expand(MEMBERS, -1) for values in (value, weight))
                        each = binary_cross_entropy_with_logits(logit, truth, weights, reduction="none")
                        loss = loss + SHARE[task] * each.mean()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    network.eval()
    # A readout's own rate hides in what the network says of it on average: take that away. What it says of those it has
    # learnt from is another matter, so the average is over those it has not, if there are enough.
    others = where[~use][np.abs(where[~use]).max(axis=1) > 0]
    with torch.no_grad():
        heard = network.layers(torch.from_numpy(others) if len(others) >= FEW else known)
        network.centre.copy_(heard.mean(dim=1, keepdim=True))
    return network


def said(network: Network, where: Floats, task: str, perturbation: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """[n] scores of pairs: log odds beyond what is said of the readout on average. perturbation: places in `where`."""
    with torch.no_grad():
        h = network.layers(torch.from_numpy(where)) - network.centre
        found = network(h[:, torch.from_numpy(perturbation)], task, torch.from_numpy(readout)).mean(dim=0)
    return np.asarray(found.numpy(), dtype=np.float64)


def _pairs(held: Measured, readouts: int) -> tuple[torch.Tensor, ...]:
    """perturbation, readout, value, weight, log odds of the readout. Readouts with many rows of both labels would fill
    the loss, though each counts once in the macro AUROC: they weigh less."""
    n = np.bincount(held.readout, minlength=readouts)
    rate = np.clip(np.bincount(held.readout, held.value, readouts) / np.maximum(n, 1), 10 * EDGE, 1 - 10 * EDGE)
    weight = (1 / np.sqrt(n * rate * (1 - rate) + 3))[held.readout]
    odds = np.log(rate / (1 - rate))[held.readout]
    floats = (torch.from_numpy(np.asarray(x, dtype=np.float32)) for x in (held.value, weight / weight.mean(), odds))
    return torch.from_numpy(held.perturbation), torch.from_numpy(held.readout), *floats
