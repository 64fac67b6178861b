"""`rlvr evaluate`, `rlvr report` and `rlvr score`: what is measured of a model, a run, or saved rollouts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.cli.printing import Json, print_rows
from rlvr.types import Error
from rlvr.yaml_file import each_once

if TYPE_CHECKING:
    from rlvr.policy import Server
    from rlvr.recipe import Recipe

SUITE = Path(__file__).parents[1] / "evaluation" / "suite" / "recipe.yaml"
LISTED = 10  # of the question ids that no source knows


class Backend(Enum):
    """What samples a model on this machine."""

    transformers = "transformers"
    vllm = "vllm"


class Stage(Enum):
    """What an evaluation stands for in a report."""

    before = "before"
    warm_start = "warm_start"
    after = "after"


def evaluate(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path; `suite`: the unified benchmark.")],
    out: Annotated[Path, typer.Option(help="The folder to write rows and report.json into.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(callback=each_once, help="key=value, dotted: evaluation.questions=100")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Not the recipe's: folder, hub or served name.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="The LoRA adapter to put on the model.")] = None,
    backend: Annotated[Backend | None, typer.Option(help="How to sample here; default: the recipe's.")] = None,
    server: Annotated[str | None, typer.Option(help="An OpenAI-compatible server, http://localhost:8000/v1.")] = None,
    key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the server's key.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests to the server at a time.", min=1)] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds that a request to the server may take.", min=1)] = 600,
    max_completion_tokens: Annotated[
        bool, typer.Option("--max-completion-tokens", help="Send the length under this name, not as max_tokens.")
    ] = False,
    no_temperature: Annotated[
        bool, typer.Option("--no-temperature", help="Send none, for models that refuse it.")
    ] = False,
    completions: Annotated[
        Path | None, typer.Option(help="Saved ones, JSON lines or Parquet: question_id, completion, and sample.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Saved completions may be missing, and count as wrong.")
    ] = False,
    stage: Annotated[Stage | None, typer.Option(help="Default: after with --adapter, else before.")] = None,
    reasoning: Annotated[
        bool,
        typer.Option("--reasoning", help="Measure too whether answers rest on thoughts, and thoughts on evidence."),
    ] = False,
    size: Annotated[str | None, typer.Option(help="Of the suite: small (default), standard or full.")] = None,
    final: Annotated[bool, typer.Option("--final", help="Use the test split; the use is entered in a ledger.")] = False,
) -> None:
    """Measure a model, an adapter on it, a served model or saved completions on a recipe's held-out questions."""
    from rlvr.recipe import load

    chosen = [f"model={json.dumps(model)}"] if model else []
    chosen += [f"vllm.enabled={json.dumps(backend is Backend.vllm)}"] if backend else []
    # A mistake in it shows before torch is loaded.
    asked = load(str(SUITE) if recipe == "suite" else recipe, [*(overrides or []), *chosen])

    from rlvr import policy
    from rlvr.evaluation.report import terminal_summary, write_report
    from rlvr.evaluation.run import evaluate

    if server and not model:
        raise Error("--server needs --model, the name of the model there")
    if key_env and not server:
        raise Error("--key-env names the key of a server; name the server with --server too")
    if backend and (server or completions):
        raise Error("--backend samples on this machine; leave it out with --server or --completions")
    if partial and not completions:
        raise Error("--partial is about saved completions; name their file with --completions")
    if (max_completion_tokens or no_temperature) and not server:
        raise Error("--max-completion-tokens and --no-temperature are about a server; name it with --server")
    served = None
    if server:
        served = policy.Server(
            server,
            asked.model,
            key_env,
            concurrency,
            timeout,
            length_key="max_completion_tokens" if max_completion_tokens else "max_tokens",
            sends_temperature=not no_temperature,
        )
    if recipe == "suite":
        unused = {"--completions": completions, "--reasoning": reasoning, "--final": final, "--stage": stage}
        given = [name for name, value in unused.items() if value]
        return _suite(asked, overrides or [], given, size or "small", adapter, served, out)
    if size:
        raise Error("--size is of the suite; how many questions a recipe asks, evaluation.questions=N says")
    named: dict[str, Any] = {
        "server": served,
        "completions": completions,
        "partial": partial,
        "stage": stage and stage.value,
        "reasons": reasoning,
    }
    document = evaluate(asked, adapter, out, final, **{key: value for key, value in named.items() if value})
    print(terminal_summary(document))
    print(f"report: {write_report(out)}")


def _suite(
    shared: Recipe,
    overrides: list[str],
    unused: list[str],
    size: str,
    adapter: Path | None,
    served: Server | None,
    out: Path,
) -> None:
    from rlvr.evaluation import suite
    from rlvr.evaluation.subject import chosen

    suite.refuse(overrides, unused)
    suite.run(suite.Suite.load(), size, shared, chosen(shared, adapter, served, None), out)
    print((out / "suite.md").read_text())
    print(f"radar: {out / 'suite.svg'}; for a leaderboard: {out / 'suite.json'}")


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    other: Annotated[
        Path | None, typer.Argument(help="A second run, to compare answers to the same questions.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write report.md, the same tables, as well.")] = False,
) -> None:
    """Write a run's report.html, one self-contained page; prints where it is."""
    from rlvr.evaluation.report import write_markdown, write_report

    if not (run / "report.json").is_file():
        from rlvr.evaluation.chunks import unfinished

        if line := unfinished(run):
            raise Error(f"{line}; the same command goes on, with evaluation.budget.minutes=0 it reports what is there")
    print(write_report(run, other))
    if markdown:
        print(write_markdown(run, other))


def score(
    rollouts: Annotated[Path, typer.Argument(help="A run's folder, a Parquet file, or JSON lines.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    verifier: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:key=value,... (again for more); default: all of the recipe's."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name or path; default: the recipe.yaml of the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verdicts for saved completions, with no model and no GPU, and what changed against the saved ones."""
    from rlvr.evaluation.rescore import rescore

    found = rescore(rollouts, verifier or [], recipe, out).to_dict()
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_changes(found)
    print(f"verdicts: {out}", file=sys.stderr)


def _print_changes(found: Mapping[str, Any]) -> None:
    print(f"{found['rows']} completions scored")
    if found["missing"]:
        ids = ", ".join(found["missing"][:LISTED]) + (", ..." if len(found["missing"]) > LISTED else "")
        print(f"{found['skipped']} left out: the sources lack {len(found['missing'])} question ids: {ids}")
    shown = ("before", "after", "compared", "changed")
    print_rows([{"verifier": name, **{key: _figure(row[key]) for key in shown}} for name, row in _verifiers(found)])
    for name, row in _verifiers(found):
        print(f"{name}: " + ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items()))
        for example in row["examples"]:
            scores = f"{_figure(example['before'])} -> {_figure(example['after'])} ({example['reason']})"
            print(f"  {example['question_id']}: {scores}\n    ...{example['completion']!r}")  # repr: it is hostile text


def _verifiers(found: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    verifiers: Mapping[str, Mapping[str, Any]] = found["verifiers"]
    return verifiers.items()


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
