"""CRISPRi screens for cytokine production in primary human T cells: the embedded default.

    rlvr data show tcell_cytokines

Schmidt et al., Science 2022: genome-wide knockdown, restimulation, sorting of cytokine-high and -low
cells; IL-2 in CD4+ and IFN-gamma in CD8+ T cells, two donors each. The table in `sample/` holds the
hits and as many matched non-hits (rules in `sample/make_sample.py`), so nothing is fetched. "up" means
that the knockdown raises the cytokine-high fraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from rlvr import tables
from rlvr.knowledge import Annotations
from rlvr.questions import splits
from rlvr.questions.evidence import EvidenceSource, build_questions
from rlvr.source import File
from rlvr.types import Question

SAMPLE = Path(__file__).resolve().parent / "sample"
READOUTS = {"cd4_il2": "IL-2", "cd8_ifng": "IFN-gamma"}
CONTEXTS = {
    "cd4_il2": "restimulated primary human CD4+ T cells",
    "cd8_ifng": "restimulated primary human CD8+ T cells",
}
SHARES = {"train": 0.55, "validation": 0.32, "test": 0.13}


@dataclass(frozen=True)
class TcellCytokines(EvidenceSource):
    """Options: those of evidence."""

    name: ClassVar[str] = "tcell_cytokines"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "screens: public (GEO GSE174292), by way of genedisco, Apache-2.0; GO, Reactome: CC BY 4.0"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "Schmidt et al., CRISPR activation and interference screens decode stimulation responses in primary "
        "human T cells, Science 375:eabj4008, 2022"
    )
    doi: ClassVar[str] = "10.1126/science.abj4008"
    asks: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = {context: [{}] for context in CONTEXTS}

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return ()

    def questions(self) -> Iterator[Question]:
        yield from build_questions(
            self.table(),
            Annotations.from_sample(SAMPLE),
            task="perturbation/response",
            source=self.name,
            labels=("none", "up", "down"),
            modality="CRISPRi knockdown",
            contexts=CONTEXTS,
            **self.shown,
        )

    def table(self) -> pd.DataFrame:
        """The canonical table; both cytokines of a gene fall into one split."""
        path = SAMPLE / "screens.tsv"
        raw = pd.read_csv(path, sep="\t", keep_default_na=False)
        tables.require(raw, ("context", "gene", "label"), str(path))
        return pd.DataFrame(
            {
                "perturbation": raw["gene"],
                "readout": raw["context"].map(READOUTS),
                "context": raw["context"],
                "label": raw["label"],
                "split": raw["gene"].map(splits.assign(sorted(set(raw["gene"])), SHARES, salt="tcell_cytokines")),
            }
        )
