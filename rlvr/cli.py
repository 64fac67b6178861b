"""The `rlvr` command.

    rlvr models list | pull NAME
    rlvr data list | pull NAME | show NAME
    rlvr verifiers list
    rlvr evaluate RECIPE [key=value ...] [--adapter DIR] [--final] --out DIR
    rlvr report RUN

Exit codes: 0, 1 (failed: one line on stderr says what, where and what to do), 2 (bad arguments).
What needs torch is imported by the commands that need it, so that `rlvr --help` is quick.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import rlvr
from rlvr import models, plugins, prompts
from rlvr.source import Source
from rlvr.types import SPLITS, Error, Question
from rlvr.verifier import Verifier

app = typer.Typer(
    help="Reinforcement learning from verifiable rewards for biology.", no_args_is_help=True, add_completion=False
)
models_app = typer.Typer(help="Policies that have a short name.", no_args_is_help=True)
data_app = typer.Typer(help="Sources of questions.", no_args_is_help=True)
verifiers_app = typer.Typer(help="What scores an answer.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
app.add_typer(verifiers_app, name="verifiers")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Row = Mapping[str, Any]
SHOWN = 3  # questions that `data show` renders
RESAMPLES = 200  # of its intervals: it informs, the report measures


def _version(asked: bool) -> None:
    if asked:
        print(rlvr.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("rlvr").setLevel(logging.INFO)


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """The known models, their licences, and whether they are here."""
    rows = [
        {
            "name": name,
            "upstream": model.upstream,
            "licence": model.licence,
            "weights": f"float32 from {model.quantisation}",
            "pulled": str(models.folder_of(name)) if models.is_pulled(name) else None,
        }
        for name, model in sorted(models.KNOWN.items())
    ]
    _print(rows, as_json)


@models_app.command("pull")
def pull_model(name: str) -> None:
    """Fetch a known model into the cache, once; prints its folder."""
    print(models.pull(name))


@data_app.command("list")
def list_data(as_json: Json = False) -> None:
    """The sources: built in, and from installed packages."""
    _print([_described("data", name, Source) for name in sorted(plugins.names("data"))], as_json)


@data_app.command("pull")
def pull_data(name: str) -> None:
    """Fetch and check every file of a source; prints where each lies."""
    source = plugins.load("data", name, Source)()
    source.announce()
    for file in source.files():
        print(file.path())
    if not source.files():
        print(f"{name} comes with rlvr: nothing to fetch", file=sys.stderr)


@data_app.command("show")
def show_data(name: str) -> None:
    """Licence, citation, counts per split and task, what shortcuts reach, and three questions as asked."""
    source = plugins.load("data", name, Source)()
    print(f"{source.name} {source.version}\nlicence: {source.licence}")
    print(f"commercial use: {_cell(source.commercial)}\ncite: {source.citation}, doi:{source.doi}\n")
    questions = list(source.questions())
    _print(_counts(questions), as_json=False)
    for task in sorted({question.task for question in questions}):
        print(f"\n{task}: what needs no reasoning, on the validation split (AUROC, 95 % interval)")
        _print(_shortcuts(task, [q for q in questions if q.task == task]), as_json=False)
    for question in _spread(questions, SHOWN):
        print(f"\n--- {question.id} (the answer: {question.truth['answer']})")
        for message in prompts.load(question.task).render(question):
            print(f"[{message['role']}] {message['content']}")


@verifiers_app.command("list")
def list_verifiers(as_json: Json = False) -> None:
    """The verifiers: built in, and from installed packages."""
    _print([_described("verifiers", name, Verifier) for name in sorted(plugins.names("verifiers"))], as_json)


@app.command()
def evaluate(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")],
    out: Annotated[Path, typer.Option(help="The folder to write rows and report.json into.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted: evaluation.questions=100")] = None,
    adapter: Annotated[Path | None, typer.Option(help="The LoRA adapter to put on the recipe's model.")] = None,
    final: Annotated[bool, typer.Option("--final", help="Use the test split; the use is entered in a ledger.")] = False,
) -> None:
    """Measure a model, or an adapter on it, on a recipe's held-out questions."""
    from rlvr.recipe import load

    asked = load(recipe, overrides or [])  # a mistake in it shows before torch is loaded

    from rlvr import evaluate as evaluation
    from rlvr.report import terminal_summary, write_report

    document = evaluation.run(asked, adapter, out, final)
    print(terminal_summary(document))
    print(f"report: {write_report(out)}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run's folder.")]) -> None:
    """Write a run's report.html, one self-contained page; prints where it is."""
    from rlvr.report import write_report

    print(write_report(run))


def _described(kind: str, name: str, base: type[Any]) -> Row:
    """What a plugin says of itself; one that does not load is listed with its error, not hidden."""
    row: dict[str, Any] = {"name": name, "from": plugins.names(kind)[name]}
    try:
        plugin = plugins.load(kind, name, base)
    except Error as error:
        return row | {"error": str(error)}
    row["version"] = plugin.version
    if issubclass(plugin, Source):
        return row | {"licence": plugin.licence, "commercial": plugin.commercial, "doi": plugin.doi}
    first = (inspect.getdoc(plugin) or "").partition("\n\n")[0]
    return row | {"kind": plugin.kind, "scores": " ".join(first.split())}


def _print(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    # A pipe has no width of its own: give it room, so that a row stays a line.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 240).print(table)


def _cell(value: Any) -> str:
    return {None: "-", True: "yes", False: "no"}.get(value, str(value))


def _counts(questions: Iterable[Question]) -> list[Row]:
    """Questions per task and split, and the share of each label."""
    groups: dict[tuple[str, int], Counter[str]] = {}
    for question in questions:
        key = question.task, SPLITS.index(question.split)
        groups.setdefault(key, Counter())[str(question.truth["answer"])] += 1
    rows: list[Row] = []
    for (task, split), labels in sorted(groups.items()):
        total = labels.total()
        shares = ", ".join(f"{label} {count} ({count / total:.0%})" for label, count in sorted(labels.items()))
        rows.append({"task": task, "split": SPLITS[split], "questions": total, "labels": shares})
    return rows


def _shortcuts(task: str, questions: Sequence[Question]) -> list[Row]:
    """The AUROCs of each shortcut, pooled and averaged per readout, on the validation questions of one task."""
    from rlvr import metrics, shortcuts

    labels = list(prompts.load(task).answers.values())
    train, held_out = ([q for q in questions if q.split == split] for split in ("train", "validation"))
    rows: list[Row] = []
    for name, probabilities in shortcuts.shortcuts(train, held_out, labels).items():
        found = metrics.summarise(
            task,
            [str(q.truth["answer"]) for q in held_out],
            probabilities,
            [labels[i] for i in probabilities.argmax(axis=1)],
            labels,
            [f"{q.truth['context']}:{q.fields['readout']}" for q in held_out],
            [str(q.fields["perturbation"]) for q in held_out],
            resamples=RESAMPLES,
        )
        aurocs = [key for key in found if key.startswith("auroc") and key != "auroc_strict"]  # shortcuts always answer
        rows.append({"shortcut": name} | {key: _interval(found[key]) for key in aurocs})
    return rows


def _interval(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "-"
    edges = [found["low"], found["high"]]
    return f"{found['value']:.3f}" + (f" ({edges[0]:.2f} to {edges[1]:.2f})" if None not in edges else "")


def _spread(questions: Sequence[Question], n: int) -> list[Question]:
    """Up to `n` training questions from all over the source, one label after another."""
    by_label: dict[str, list[Question]] = {}
    for question in questions:
        if question.split == "train":
            by_label.setdefault(str(question.truth["answer"]), []).append(question)
    groups = [group for _, group in sorted(by_label.items())] * n
    picked = [group[at * len(group) // n] for at, group in enumerate(groups[:n])]
    return list({question.id: question for question in picked}.values())


def main() -> None:
    """The console script: a user's mistake is one line, not a traceback."""
    try:
        app()
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
