"""`rlvr data audit`: what the held-out questions of a recipe, or of any sources, share with its training ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from rlvr.cli.printing import Json, print_rows

WIDTH = 80


def audit(
    asked: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE_OR_SOURCES",
            help="A recipe, then key=value; or sources: NAME or NAME:key=value,key=value",
        ),
    ],
    split: Annotated[
        Literal["validation", "test"] | None, typer.Option(help="Only this held-out split; default: both.")
    ] = None,
    noncommercial: Annotated[bool, typer.Option("--noncommercial", help="Complexes of CORUM instead of GO's.")] = False,
    as_json: Json = False,
) -> None:
    """Every overlap of held-out with training questions, what a look-up of it would score, and the shortcuts.

    Exits 1 if a perturbation, a pair or a group leaks.
    """
    from rlvr.evaluation import audit as auditing
    from rlvr.loading import gather

    recipe = auditing.recipe_of(asked)
    sources, questions = gather(recipe)
    found = auditing.audit(questions, split, noncommercial)
    found = {"sources": [source.name for source in sources], "allow_leak": recipe.allow_leak, **found}
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print(found)
    if found["leak"]:
        raise typer.Exit(1)


def _print(found: Mapping[str, Any]) -> None:
    for task, measured in found["tasks"].items():
        print(f"{task}: {measured['n']} held out ({found['split']}), {measured['train']} in training\n")
        print_rows([_overlap(row) for row in measured["overlaps"]], width=WIDTH)
        if measured["shortcuts"]:
            print()
            rows = [{"shortcut": name, **_figures(row)} for name, row in measured["shortcuts"].items()]
            print_rows(rows, width=WIDTH)
        print()
    for task in found["never_held_out"]:
        print(f"{task}: in training, and never held out ({found['split']})")
    print("shared: questions; clusters: perturbations, or groups. AUROC (pooled, per gene):")
    print("of a look-up of what is shared, over all questions / among those that share.")
    leaks = [
        f"{task}: {row['count']} of {row['n']} share their {row['kind']}"
        for task, measured in found["tasks"].items()
        for row in measured["overlaps"]
        if row["leak"] and row["count"]
    ]
    print("\n".join(["LEAK", *leaks]) if leaks else _without_a_leak(found["unknown_names"]))
    if leaks and found["allow_leak"]:
        print(f"training goes on, as the recipe says allow_leak: {found['allow_leak']}")


def _without_a_leak(unknown: Mapping[str, Any]) -> str:
    """Names that stand for no single gene may be genes of the other side under another name."""
    if not unknown["n"]:
        return "no leak"
    first = ", ".join(unknown["first"][:5]) + (", ..." if unknown["n"] > 5 else "")
    judged = "no leak found among names that could be judged"
    return f"{judged}; {unknown['n']} of {unknown['of']} could not,\nas they stand for no single gene: {first}"


def _overlap(row: Mapping[str, Any]) -> dict[str, Any]:
    sides = [_figures(row["lookup"]), _figures(row["among_them"])]
    return {
        "kind": row["kind"],
        "leak": "-" if not row["leak"] else "YES" if row["count"] else "no",
        "shared": f"{row['count']} ({row['share']:.0%})",
        "clusters": f"{row['clusters']} of {row['of_clusters']}",
        **{name: " / ".join(side[name] for side in sides) if sides[0] else "-" for name in ("AUROC", "per gene")},
    }


def _figures(scores: Mapping[str, Any]) -> dict[str, str]:
    """Without a leading zero; "-" where there is none."""
    if not scores:
        return {}
    names = {"AUROC": "auroc", "per gene": "auroc_macro_gene", "accuracy": "accuracy"}
    values = {column: scores.get(name, {}).get("value") for column, name in names.items()}
    return {c: "-" if v is None else f"{v:.3f}".removeprefix("0") for c, v in values.items()}
