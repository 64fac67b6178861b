"""`rlvr oracle fit | calibrate | predict`: what would happen, with how much certainty, and where nothing is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlvr.cli.printing import print_rows
from rlvr.types import Error

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Oracles: fit, calibrate, predict.", no_args_is_help=True)
Asked = Annotated[
    list[str], typer.Argument(metavar="RECIPE_OR_SOURCES", help="NAME:key=value,... for each source, or a recipe.")
]
Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Corum = Annotated[bool, typer.Option("--noncommercial", help="Use CORUM's complexes too.")]


@app.command("fit")
def fit(asked: Asked, out: Out, noncommercial: Corum = False) -> None:
    """Fit on the training split, and predict every question of the sources.

    Writes TASK.parquet (training rows are cross-fitted: from a fit without their perturbation), a reliability diagram
    of the validation split, and card.json. `oracle:predictions=OUT/TASK.parquet` rewards with it.
    """
    import pandas as pd

    from rlvr.knowledge import KnowledgeBase
    from rlvr.oracle import fitted
    from rlvr.tables import write_parquet

    base = KnowledgeBase.open("upstream", noncommercial=noncommercial)
    card: dict[str, Any] = {"what": "fitted oracle (rlvr/oracle/fitted.py)", "knowledge": base.version, "fits": []}
    found: dict[str, list[pd.DataFrame]] = {}
    for context, tables in _tables(asked).items():
        for task, made in fitted.fit(tables, base).items():
            found.setdefault(task, []).append(made.covered())
            rows = made.predictions.assign(label=tables[task]["label"].to_numpy())
            entry = {"context": context, "task": task, "rows": len(rows), "abstained": dict(made.abstained)}
            held = rows[(rows["split"] == "validation") & rows["p"].notna()]
            if len(held):
                title = out / f"{task}_{context}.png"
                entry |= _reliability(held, task, title, f"{context} {task}, validation")
            card["fits"].append(entry | {"logistic": made.logistic, "weights": dict(made.weights)})
    for task, parts in found.items():
        write_parquet(pd.concat(parts, ignore_index=True), out / f"{task}.parquet")
    _finish(out, card)


@app.command("calibrate")
def calibrate(
    predictions: Annotated[Path, typer.Argument(help="What a model exported: .csv, .parquet, .h5ad")],
    asked: Asked,
    out: Out,
    task: Annotated[Literal["effect", "direction"], typer.Option(help="What is predicted.")],
    values: Annotated[Literal["probability", "logit", "effect", "direction"], typer.Option()] = "probability",
    method: Annotated[Literal["isotonic", "temperature"], typer.Option()] = "temperature",
    context: Annotated[str | None, typer.Option(help="Of a file that names none.")] = None,
    layer: Annotated[str | None, typer.Option(help="Of an .h5ad file.")] = None,
) -> None:
    """Make probabilities of a model's predictions, learnt on half of the validation perturbations.

    The other half gives the error that is reported. Training and test rows teach nothing: a model may have seen the
    ones, and must not see the others.
    """
    import numpy as np
    import pandas as pd

    from rlvr import splits, tables
    from rlvr.oracle import LABELS, calibration, importers
    from rlvr.tables import write_parquet

    given = importers.read(predictions, values, context, layer)
    truth = pd.concat([held[task] for held in _tables(asked).values() if task in held], ignore_index=True)
    known = given.merge(truth[truth["split"] == "validation"], on=tables.KEY)
    if known.empty:
        raise Error(f"{predictions}: none of its {len(given)} pairs is a validation question; check names and context")
    half = splits.assign(sorted(set(known["perturbation"])), {"train": 0.5, "test": 0.5}, salt="calibration")
    learn = (known["perturbation"].map(half) == "train").to_numpy()
    p, label = known["p"].to_numpy(), np.asarray(known["label"] == LABELS[f"perturbation/{task}"][0], dtype=np.float64)
    made = calibration.calibrate(p[learn], label[learn], given["p"].to_numpy(), method)
    write_parquet(given.assign(p=made), out / f"{task}.parquet")
    after = known[~learn].assign(p=calibration.calibrate(p[learn], label[learn], p[~learn], method))
    card: dict[str, Any] = {"what": f"{predictions.name}, {method}", "pairs": len(given), "fits": []}
    entry = {"task": task, "rows": int(learn.sum()), "ece_before": calibration.ece(p[~learn], label[~learn])}
    card["fits"].append(entry | _reliability(after, task, out / f"{task}.png", f"{predictions.name}, held-out half"))
    _finish(out, card)


@app.command("predict")
def predict(
    pairs: Annotated[Path, typer.Argument(help="CSV of context, perturbation, readout")],
    asked: Asked,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    task: Annotated[Literal["effect", "direction"], typer.Option()],
    noncommercial: Corum = False,
) -> None:
    """Predict pairs from the training split, less whatever it holds of the perturbations that are asked about.

    p is empty where the oracle abstains.
    """
    import pandas as pd

    from rlvr.knowledge import KnowledgeBase
    from rlvr.oracle import fitted, questions
    from rlvr.source import write_atomically

    if not pairs.is_file():
        raise Error(f"{pairs}: no such file; give a CSV of context, perturbation, readout")
    wanted = questions.asked(pd.read_csv(pairs, dtype=str, keep_default_na=False), task, str(pairs))
    measured, base = _tables(asked), KnowledgeBase.open("upstream", noncommercial=noncommercial)
    strange = sorted(wanted.keys() - measured.keys())
    if strange:
        raise Error(f"{pairs}: context {strange[0]!r} is not measured; the sources have {', '.join(measured)}")
    parts = []
    for context, rows in wanted.items():
        own = set(rows["perturbation"])
        tables = {
            name: held[(held["split"] == "train") & ~held["perturbation"].isin(own)]
            for name, held in measured[context].items()
        }
        if task not in tables:
            raise Error(f"{context}: the sources do not ask {task} of it; add the source that does")
        tables[task] = pd.concat([tables[task], rows], ignore_index=True)
        parts.append(fitted.fit(tables, base)[task].predictions.tail(len(rows)))
    found = pd.concat(parts, ignore_index=True).drop(columns="split")
    write_atomically(out, found.to_csv(index=False).encode())
    print_rows([{"pairs": len(found), "abstained": int(found["p"].isna().sum()), "written": str(out)}])


def _tables(asked: list[str]) -> dict[str, dict[str, pd.DataFrame]]:
    from rlvr import audit
    from rlvr.opening import gather
    from rlvr.oracle import questions

    return questions.tables_of(gather(audit.recipe_of(asked))[1])


def _reliability(rows: pd.DataFrame, task: str, picture: Path, title: str) -> dict[str, Any]:
    import numpy as np

    from rlvr.oracle import LABELS, calibration

    p = rows["p"].to_numpy(dtype=np.float64)
    label = np.asarray(rows["label"] == LABELS[f"perturbation/{task}"][0], dtype=np.float64)
    calibration.plot(p, label, picture, title)
    return {
        "n": len(rows),
        "ece": calibration.ece(p, label),
        "reliability": calibration.reliability(p, label),
        "coverage": calibration.coverage(p, label),
    }


def _finish(out: Path, card: dict[str, Any]) -> None:
    from rlvr.source import write_atomically

    write_atomically(out / "card.json", json.dumps(card, indent=1).encode())
    shown = ("context", "task", "rows", "n", "abstained", "ece_before", "ece")
    print_rows([{key: fit[key] for key in shown if key in fit} for fit in card["fits"]])
