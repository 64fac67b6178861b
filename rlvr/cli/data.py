"""`rlvr data list | pull NAME | show NAME | export RECIPE`: where questions come from, on what terms, how they look."""

from __future__ import annotations

import heapq
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rlvr import plugins, prompts
from rlvr.answers import Letters
from rlvr.cli.printing import Json, Row, cell, print_rows
from rlvr.options import build
from rlvr.prompts import Template
from rlvr.source import Source
from rlvr.types import SPLITS, Error, Question
from rlvr.verifier import Verifier
from rlvr.yaml_file import each_once, set_values

app = typer.Typer(help="Sources of questions.", no_args_is_help=True)

SHOWN = 3  # questions that `show` renders
LABELS = 6  # that one row of counts spells out
RESAMPLES = 200  # of the shortcuts' intervals: `show` informs, the report measures
Options = Annotated[list[str] | None, typer.Argument(help="The source's options: key=value")]


@app.command("list")
def list_data(as_json: Json = False) -> None:
    """The sources: built in, and from installed packages."""
    print_rows([_described(name, origin) for name, origin in sorted(plugins.names("data").items())], as_json)


@app.command("pull")
def pull_data(name: str, options: Options = None) -> None:
    """Fetch and check every file of a source; prints where each lies."""
    source = _opened(name, options or [])
    source.announce()
    for file in source.files():
        print(file.path())
    if not source.files():
        print(f"{name} comes with rlvr: nothing to fetch", file=sys.stderr)


@app.command("show")
def show_data(name: str, options: Options = None) -> None:
    """Licence, citation, files, counts per split and task, what was left out, which verifiers fit, what shortcuts
    reach, and three questions as asked."""
    from rlvr import knowledge

    source = _opened(name, options or [])
    print(f"{source.name} {source.version}\nlicence: {source.licence}")
    print(f"commercial use: {cell(source.commercial)}\ncite: {source.citation}, doi:{source.doi}")
    for file in source.files():
        if file not in knowledge.FILES:  # `rlvr knowledge show` lists these
            print(f"file: {file.name} sha256:{file.sha256}")
    survey = Survey()
    with Console(stderr=True).status("") as status:  # moves on a terminal alone
        for number, question in enumerate(source.questions(), 1):
            survey.add(question)
            if number % 1000 == 0:
                status.update(f"{source.name}: {number} questions")
    for stem, version in knowledge.opened().items():
        print(f"knowledge base: {version} ({stem}); its sources and licences: rlvr knowledge show")
    print()
    if not survey.rows:
        raise Error(f"{source.name} has no question; check its options and files")
    print_rows(survey.counts())
    _print_left_out(source)
    for task, example in sorted(survey.first.items()):
        print(f"\n{task}: {_verifiers(example, survey.template(task))}")
    for task, kept in sorted(survey.rankable.items()):
        if rows := _shortcuts(task, kept):
            print(f"\n{task}: what needs no reasoning, on the validation split (95 % interval)")
            print_rows(rows)
    for question in survey.examples(SHOWN):
        answer = textwrap.shorten(cell(question.truth["answer"]), 100)
        print(f"\n--- {question.id} (the answer: {answer})")
        print(_rendered(question, survey.template(question.task)))


class Survey:
    """What one pass over a source's questions finds. It keeps counts, a few examples, and, of tasks with a closed
    set of labels, the questions that shortcuts are measured on; the others, some of them long, stream by."""

    def __init__(self) -> None:
        self.rows = 0
        self.first: dict[str, Question] = {}  # of each task
        self.rankable: dict[str, list[Question]] = {}
        self._labels: dict[tuple[str, str], Counter[str]] = {}
        self._examples: dict[tuple[str, str], list[tuple[str, str, Question]]] = {}
        self._templates: dict[str, Template | None] = {}

    def add(self, question: Question) -> None:
        self.rows += 1
        self.first.setdefault(question.task, question)
        template = self.template(question.task)
        if template is not None:
            template.check(question)
        label = _label(question, template)
        self._labels.setdefault((question.task, question.split), Counter())[label] += 1
        if question.split == "train":
            # Those of the highest hashes: from all over the source, and the same at every look.
            few = self._examples.setdefault((question.task, label), [])
            entry = (sha256(question.id.encode()).hexdigest(), question.id, question)
            (heapq.heappush if len(few) < SHOWN else heapq.heappushpop)(few, entry)
        if template is not None and template.slot_words and question.split != "test":
            self.rankable.setdefault(question.task, []).append(question)

    def template(self, task: str) -> Template | None:
        """The task's own prompt; None for a task that a package brought, whose prompt its recipes name."""
        if task not in self._templates:
            self._templates[task] = prompts.find(task)
        return self._templates[task]

    def counts(self) -> list[Row]:
        """Questions per task and split, an empty one too, and the share of each label."""
        held = [
            (task, split, self._labels.get((task, split), Counter())) for task in sorted(self.first) for split in SPLITS
        ]
        return [
            {"task": task, "split": split, "questions": labels.total(), "labels": _shares(labels)}
            for task, split, labels in held
        ]

    def examples(self, n: int) -> list[Question]:
        """Up to `n` training questions: the tasks in turn, of each one label after another."""
        by_task: dict[str, list[list[Question]]] = {}
        for (task, _), few in sorted(self._examples.items()):
            by_task.setdefault(task, []).append([question for *_, question in sorted(few, reverse=True)])
        per_task = [_in_turn(groups) for groups in by_task.values()]
        return _in_turn(per_task)[:n]


@app.command("export")
def export_data(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")],
    to: Annotated[Path, typer.Option(help="The file to write, JSON lines: question_id, task, messages.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted: evaluation.questions=100")] = None,
    final: Annotated[
        bool, typer.Option("--final", help="The test split; its use counts once answers come back.")
    ] = False,
) -> None:
    """Write the prompts that `rlvr evaluate` would ask, to be answered elsewhere; prints how many.

    The answers, JSON lines of question_id and completion, come back with `rlvr evaluate RECIPE --completions FILE`.
    """
    from rlvr.evaluation.prompt_file import write_prompts
    from rlvr.recipe import load

    print(f"{write_prompts(load(recipe, overrides or []), to, final)} prompts: {to}")


def _print_left_out(source: Source) -> None:
    """What of the files is not asked about, and every symbol that stands for no single gene."""
    if source.drops:
        print("\nleft out:")
        for why, count in source.drops.items():
            print(f"  {count} {why}")
    by_reason: dict[str, list[str]] = {}
    for symbol, why in source.unresolved().items():
        by_reason.setdefault(why, []).append(symbol)
    for why, symbols in sorted(by_reason.items()):
        print(f"{len(symbols)} symbols that stand for no single gene ({why}): {', '.join(symbols)}")


def _verifiers(question: Question, template: Template | None) -> str:
    """Those to begin with, by the task's prompt, and all others that can judge such a question."""
    begin = [*template.verifiers] if template else []
    others = [name for name in sorted(plugins.names("verifiers")) if name not in begin and _judges(name, question)]
    return f"verified by {', '.join(begin) or 'no default'}; can be verified by {', '.join(others)} too"


def _judges(name: str, question: Question) -> bool:
    """Whether a verifier applies: one that does not load does not, one that needs options is asked by its tasks."""
    try:
        verifier = plugins.load("verifiers", name, Verifier)
    except Error:
        return False
    try:
        return build(verifier, {}, f"verifier {name}").applies(question)
    except Error:
        return any(fnmatchcase(question.task, pattern) for pattern in verifier.tasks)


def _in_turn(groups: Iterable[Sequence[Question]]) -> list[Question]:
    """The first of each group, then the second of each, and so on."""
    return [question for rank in zip_longest(*groups) for question in rank if question is not None]


def _label(question: Question, template: Template | None) -> str:
    """The label of a question; "" where the answer is a number, a list, a mapping or a sequence."""
    answer = question.truth["answer"]
    is_open = not isinstance(answer, str) or (template is not None and isinstance(template.answers, Letters))
    return "" if is_open else str(answer)


def _shares(labels: Counter[str]) -> str:
    total = labels.total()
    named = sorted(labels) if len(labels) <= LABELS else [label for label, _ in labels.most_common(LABELS)]
    shares = [f"{label} {labels[label]} ({labels[label] / total:.0%})" for label in named if label]
    more = f"; and {len(labels) - LABELS} more" if len(labels) > LABELS else ""
    return ("; ".join(shares) or "-") + more


def _rendered(question: Question, template: Template | None) -> str:
    if template is None:
        return f"(no prompt for {question.task}: its recipe must name one)\n" + json.dumps(
            dict(question.fields), indent=2, ensure_ascii=False
        )
    return "\n".join(f"[{message['role']}] {message['content']}" for message in template.render(question))


def _shortcuts(task: str, questions: Sequence[Question]) -> list[Row]:
    """The AUROCs of each shortcut, pooled and averaged per readout, on the validation questions of one task; its
    accuracy where the task has no AUROC."""
    from rlvr.evaluation import metrics, shortcuts

    labels = list(dict.fromkeys(prompts.load(task).slot_words.values()))
    train, held_out = ([q for q in questions if q.split == split] for split in ("train", "validation"))
    if not train or not held_out:
        return []
    rows: list[Row] = []
    for name, probabilities in shortcuts.shortcuts(train, held_out, labels).items():
        found = metrics.summarise(
            task,
            [str(q.truth["answer"]) for q in held_out],
            probabilities,
            [labels[i] for i in probabilities.argmax(axis=1)],
            labels,
            [q.readout for q in held_out],
            [q.cluster for q in held_out],
            resamples=RESAMPLES,
        )
        aurocs = [key for key in found if key.startswith("auroc") and key != "auroc_strict"]  # shortcuts always answer
        rows.append({"shortcut": name} | {key: _interval(found[key]) for key in aurocs or ["accuracy"]})
    return rows


def _interval(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "-"
    edges = [found["low"], found["high"]]
    return f"{found['value']:.3f}" + (f" ({edges[0]:.2f} to {edges[1]:.2f})" if None not in edges else "")


def _opened(name: str, options: Sequence[str]) -> Source:
    """A source with its options, given as key=value."""
    values: dict[str, Any] = {}
    set_values(values, each_once(list(options)), "option", "path=mine.csv")
    return build(plugins.load("data", name, Source), values, f"source {name}")


def _described(name: str, origin: str) -> Row:
    """What a source says of itself; one that does not load is listed with its error, not hidden."""
    row = {"name": name, "from": origin}
    try:
        source = plugins.load("data", name, Source)
    except Error as error:
        return row | {"error": str(error)}
    return row | {
        "version": source.version,
        "licence": source.licence,
        "commercial": source.commercial,
        "doi": source.doi,
    }
