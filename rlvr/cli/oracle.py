"""`rlvr oracle fit | calibrate | predict`: what would happen, with how much certainty, and where nothing is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlvr.cli.printing import print_rows
from rlvr.types import Error

if TYPE_CHECKING:
    import pandas as pd

    from rlvr.oracle.mlp import Embeddings
    from rlvr.source import Source

app = typer.Typer(help="Oracles: fit, calibrate, predict.", no_args_is_help=True)
Asked = Annotated[
    list[str], typer.Argument(metavar="RECIPE_OR_SOURCES", help="NAME:key=value,... for each source, or a recipe.")
]
Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Corum = Annotated[bool, typer.Option("--noncommercial", help="Use CORUM's complexes too.")]
Kinds = Literal["fitted", "mlp", "ensemble"]
Kind = Annotated[Kinds, typer.Option(help="Votes of related perturbations, a network, or both.")]
Table = Annotated[Path | None, typer.Option("--embeddings", help="Parquet of gene, d0, d1, ... for the network.")]


@app.command("fit")
def fit(asked: Asked, out: Out, kind: Kind = "fitted", embeddings: Table = None, noncommercial: Corum = False) -> None:
    """Fit on the training split, and predict every question of the sources.

    Writes TASK.parquet (training rows are cross-fitted: from a fit without their perturbation), a reliability diagram
    of the validation split, card.json and CARD.md. `oracle:predictions=
    OUT/TASK.parquet` rewards with it.
    """
    import pandas as pd

    from rlvr.knowledge import KnowledgeBase
    from rlvr.oracle import calibration, card, kinds
    from rlvr.oracle.crossfit import FOLDS, LABELS, prepare
    from rlvr.tables import write_parquet

    vectors = _embeddings(kind, embeddings)
    sources, held = _tables(asked)
    base = KnowledgeBase.open("upstream", noncommercial=noncommercial)
    fits: list[dict[str, Any]] = []
    found: dict[str, list[pd.DataFrame]] = {}
    for context, tables in held.items():
        made = kinds.fit(kind, prepare(tables, base), vectors)
        for task, said in made.items():
            found.setdefault(task, []).append(said.covered())
            table = tables[task].reset_index(drop=True)
            entry = {"context": context, "task": task, "rows": len(table), "abstained": dict(said.abstained)}
            entry |= {"training": card.training(table), "logistic": said.logistic, "weights": dict(said.weights)}
            rows = said.predictions[(table["split"] == "validation").to_numpy()]
            if rows["p"].notna().any():
                entry |= card.quality(rows, table.loc[rows.index, "label"], task)
                told = rows["p"].notna()
                truth = (table.loc[rows.index, "label"][told] == LABELS[task][0]).to_numpy(dtype=float)
                title = f"{context} {task}, validation"
                calibration.plot(rows["p"][told].to_numpy(), truth, out / f"{task}_{context}.png", title)
            fits.append(entry)
    for task, parts in found.items():
        write_parquet(pd.concat(parts, ignore_index=True), out / f"{task}.parquet")
    about = {"what": kinds.WHAT[kind], "folds": FOLDS, "data": card.data(sources), "knowledge": card.knowledge(base)}
    card.write(out, about | {"fits": fits})
    _show(fits)


@app.command("calibrate")
def calibrate(
    predictions: Annotated[Path, typer.Argument(help="What a model exported: .csv, .parquet, .h5ad")],
    asked: Asked,
    out: Out,
    task: Annotated[Literal["effect", "direction"], typer.Option(help="What is predicted.")],
    values: Annotated[Literal["probability", "logit", "effect", "direction"], typer.Option()] = "probability",
    method: Annotated[Literal["isotonic", "temperature"], typer.Option()] = "temperature",
    context: Annotated[str | None, typer.Option(help="Of a file that names none.")] = None,
    layer: Annotated[str | None, typer.Option(help="Of an .h5ad file: X, a layer, or a key of obsm.")] = None,
) -> None:
    """Make probabilities of a model's predictions, learnt on half of the validation perturbations.

    The other half gives the error that is reported. Training and test rows teach nothing: a model may have seen the
    ones, and must not see the others.
    """
    import numpy as np
    import pandas as pd

    from rlvr import tables
    from rlvr.oracle import LABELS, calibration, card, importers, questions
    from rlvr.questions import splits
    from rlvr.tables import write_parquet

    if values in ("effect", "direction") and values != task:
        raise Error(f"--values {values} says nothing of --task {task}; give --values {task}")
    given = importers.read(predictions, values, context, layer)
    sources, held = _tables(asked)
    truth = pd.concat([rows[task] for rows in held.values() if task in rows], ignore_index=True)
    given = questions.renamed(given, truth, str(predictions))
    measured = given.merge(truth, on=tables.KEY)
    known = measured[measured["split"] == "validation"]
    if known.empty:
        have, want = (", ".join(map(str, rows[[*tables.KEY]].iloc[0])) for rows in (given, truth))
        raise Error(
            f"{predictions}: none of its {len(given)} pairs is a validation question; check names and context: it has "
            f"{have}, and questions ask {want}"
        )
    half = splits.assign(sorted(set(known["perturbation"])), {"train": 0.5, "test": 0.5}, salt="calibration")
    learn = (known["perturbation"].map(half) == "train").to_numpy()
    p, label = known["p"].to_numpy(), np.asarray(known["label"] == LABELS[f"perturbation/{task}"][0], dtype=np.float64)
    calibration.require(label[~learn], "the half of the validation perturbations that measures the error")
    if calibration.turned(p[learn], label[learn]):
        raise Error(
            f"{predictions}: on validation a higher value means less, or nothing: a wrong sign, or it ranks no pair; "
            "mend the export"
        )
    after = known[~learn].assign(p=calibration.calibrate(p[learn], label[learn], p[~learn], method))
    entry: dict[str, Any] = {"task": task, "rows": int(learn.sum())}
    entry |= {"abstained": {"not predicted": len(truth) - len(measured)}}
    entry |= {"of": f"{predictions.name}, {method}", "ece_before": calibration.ece(p[~learn], label[~learn])}
    entry |= card.quality(after, after["label"], task)
    said = card.calibrated(out, entry, sources)
    made = calibration.calibrate(p[learn], label[learn], given["p"].to_numpy(), method)
    write_parquet(given.assign(p=made), out / f"{task}.parquet")
    calibration.plot(after["p"].to_numpy(), label[~learn], out / f"{task}.png", f"{predictions.name}, held-out half")
    card.write(out, said)
    _show([entry])


@app.command("predict")
def predict(
    pairs: Annotated[Path, typer.Argument(help="CSV of context, perturbation, readout")],
    asked: Asked,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    task: Annotated[Literal["effect", "direction"], typer.Option()],
    kind: Kind = "fitted",
    embeddings: Table = None,
    noncommercial: Corum = False,
) -> None:
    """Predict pairs from the training split, less whatever it holds of the perturbations that are asked about.

    p and lift are empty where the oracle abstains.
    """
    import pandas as pd

    from rlvr.files import write_atomically
    from rlvr.knowledge import KnowledgeBase
    from rlvr.oracle import kinds, questions
    from rlvr.oracle.crossfit import prepare
    from rlvr.oracle.predictions import read_table

    if not pairs.is_file():
        raise Error(f"{pairs}: no such file; give a CSV of context, perturbation, readout")
    wanted = questions.asked(read_table(pairs, str(pairs)), task, str(pairs))
    vectors = _embeddings(kind, embeddings)
    measured, base = _tables(asked)[1], KnowledgeBase.open("upstream", noncommercial=noncommercial)
    strange = sorted(wanted.keys() - measured.keys())
    if strange:
        raise Error(f"{pairs}: context {strange[0]!r} is not measured; the sources have {', '.join(measured)}")
    parts = []
    for context, rows in wanted.items():
        genes = {base.current(name) for name in rows["perturbation"].unique()}
        names = {name for held in measured[context].values() for name in held["perturbation"].unique()}
        own = {name for name in names if base.current(name) in genes}  # however a gene is called
        tables = {
            name: held[(held["split"] == "train") & ~held["perturbation"].isin(own)]
            for name, held in measured[context].items()
        }
        if task not in tables:
            raise Error(f"{context}: the sources do not ask {task} of it; add the source that does")
        tables[task] = pd.concat([tables[task], rows], ignore_index=True)
        parts.append(kinds.fit(kind, prepare(tables, base), vectors)[task].predictions.tail(len(rows)))
    found = pd.concat(parts, ignore_index=True).drop(columns=["split", "prior"])
    write_atomically(out, found.to_csv(index=False).encode())
    print_rows([{"pairs": len(found), "abstained": int(found["p"].isna().sum()), "written": str(out)}])


def _tables(asked: list[str]) -> tuple[list[Source], dict[str, dict[str, pd.DataFrame]]]:
    from rlvr.evaluation import audit
    from rlvr.loading import gather
    from rlvr.oracle import questions

    sources, gathered = gather(audit.recipe_of(asked))
    return sources, questions.tables_of(gathered)


def _embeddings(kind: str, path: Path | None) -> Embeddings | None:
    if path is None:
        return None
    if kind == "fitted":
        raise Error(f"--embeddings {path}: the fitted oracle has no use for them; add --kind mlp or ensemble")
    from rlvr.oracle import mlp

    return mlp.read(path)


def _show(fits: list[dict[str, Any]]) -> None:
    shown = ("context", "task", "rows", "n", "abstained", "ece_before", "ece")
    print_rows([{key: fit[key] for key in shown if key in fit} for fit in fits])
