"""`rlvr predict`: which genes will move a readout, which way, how sure, and on what measured evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr.cli.printing import print_rows


def predict(
    genes: Annotated[Path, typer.Argument(help="CSV: a column perturbation or gene, if need be readout; or a list.")],
    context: Annotated[str, typer.Option(help="The cells or the screen: k562, rpe1, cd4_il2, ...")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and predictions.html.")],
    readout: Annotated[str | None, typer.Option(help="What is read out, where the file does not say.")] = None,
    oracle: Annotated[Path | None, typer.Option(help="What `rlvr oracle fit` wrote; default: fitted here.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="RUN/adapter: the trained policy answers instead.")] = None,
    effect_rate: Annotated[
        float | None, typer.Option(help="Share of these genes that you expect to have an effect; else the readout's.")
    ] = None,
    up_rate: Annotated[float | None, typer.Option(help="Of those with an effect, the share that raises it.")] = None,
    knowledge: Annotated[str, typer.Option(help="upstream, sample, or a built file.")] = "upstream",
) -> None:
    """Before an experiment: which of these genes will move this readout, which way, how sure.

    Measured pairs are answered by their measurement, others by the oracle, calibrated; it abstains where it knows
    nothing.
    """
    from rlvr.knowledge import KnowledgeBase
    from rlvr.predict import predict as predicted

    base = KnowledgeBase.open(knowledge)
    prior = {task: share for task, share in (("effect", effect_rate), ("direction", up_rate)) if share is not None}
    found = predicted(genes, context, out, base=base, readout=readout, kept=oracle, adapter=adapter, prior=prior)
    print_rows([{"call": call, "pairs": n} for call, n in sorted(found.calls().items())])
    for why, n in sorted(found.abstained().items()):
        print(f"unknown, {why}: {n}")
    for row in found.quality:
        value, error = row.auroc["value"], row.ece
        auroc = "not defined" if value is None else f"{value:.3f}"
        print(
            f"oracle on {row.n} validation pairs, {row.task}: AUROC per gene {auroc}, "
            f"ECE {'too few pairs' if error is None else f'{error:.3f}'}"
        )
    print(f"answers: {out / 'predictions.csv'}, page: {out / 'predictions.html'}")
