"""What a trained policy says of pairs that nobody measured: the prompts of its run, its thought, the answer slot.

said = answered(Path("runs/mine/adapter"), context, pairs)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rlvr import prompts
from rlvr.oracle.crossfit import LABELS
from rlvr.predict.measured import Context
from rlvr.predict.oracle import Pairs, Said
from rlvr.questions.evidence import EvidenceSource
from rlvr.recipe import Recipe, load
from rlvr.types import Error, Question

KEY = ["perturbation", "readout"]
NO_RELATIVE = "no annotated relative was measured"  # what it is shown is all that it knows of the experiment


def answered(adapter: Path, context: Context, pairs: Pairs) -> Said:
    """adapter: RUN/adapter, beside the RUN/recipe.yaml that says what it was asked in training. Not calibrated. Errors:
    no recipe there, a run that asked none of the context's tasks, an adapter of another base."""
    from rlvr import policy
    from rlvr.evaluation.lengths import max_tokens

    path = adapter.parent / "recipe.yaml"
    if not path.is_file():
        raise Error(f"{adapter}: no recipe.yaml beside it says how to ask; name the adapter in its run's folder")
    recipe = load(str(path))
    p = {task: np.full(len(rows), np.nan) for task, rows in pairs.items()}
    why = {task: ["the policy was not trained on it"] * len(rows) for task, rows in pairs.items()}
    asked: dict[str, dict[tuple[str, str], Question]] = {}
    for question in _questions(recipe, context, pairs):
        asked.setdefault(question.task, {})[_key(question)] = question
    policy.check_adapter(adapter, recipe.model)
    model, tokenizer = policy.load_base(recipe.model)
    sampler = policy.TransformersSampler(policy.load_adapter(model, adapter), tokenizer, recipe.evaluation.batch_size)
    theirs = prompts.own(recipe.prompt)  # a run over several tasks has some that are not asked here
    for name, own in asked.items():
        template = theirs.get(name) or prompts.load(name)
        known = {key: question for key, question in own.items() if question.fields["evidence"]}
        rendered = [template.render(question) for question in known.values()]
        found = sampler.answer(rendered, template.slot_words, max_tokens(recipe), lambda n: None)
        shares = {key: answer.probabilities for key, answer in zip(known, found, strict=True)}
        for task in pairs:
            for place, key in enumerate(zip(pairs[task]["perturbation"], pairs[task]["readout"], strict=True)):
                if key in shares and (value := _share(shares[key], task)) is not None:
                    p[task][place], why[task][place] = value, ""
                elif key in own and key not in shares:
                    why[task][place] = NO_RELATIVE
    return Said(p, why, ())


def _share(told: Mapping[str, float], task: str) -> float | None:
    """The probability of yes or up among a question's answers; None where they say nothing of the task."""
    if "none" in told:
        return 1 - told["none"] if task == "effect" else told["up"] / max(told["up"] + told["down"], 1e-9)
    return told.get(LABELS[task][0])


def _questions(recipe: Recipe, context: Context, pairs: Pairs) -> list[Question]:
    made: list[Question] = []
    for source in context.sources:
        trained = [values for values in recipe.sources if values["name"] == source.name]
        if hasattr(source, "task"):
            trained = [values for values in trained if values.get("task", type(source).task) == source.task]
        if not trained:
            continue
        shown = {f.name: trained[0][f.name] for f in fields(EvidenceSource) if f.name in trained[0]}
        table = source.table()
        rows = pd.concat([rows[KEY] for rows in pairs.values()]).drop_duplicates()
        train = table[(table["split"] == "train") & (table["context"] == context.name)]
        train = train[train["readout"].isin(rows["readout"])]
        new = rows[~pd.MultiIndex.from_frame(rows).isin(pd.MultiIndex.from_frame(train[KEY]))]
        # A dummy label, which nothing shows: evidence is of training rows.
        new = new.assign(context=context.name, label=table["label"].iloc[0], split="test")
        both = pd.concat([train, new], ignore_index=True)
        made += [question for question in replace(source, **shown).reasked(both) if question.split == "test"]
    if not made:
        raise Error(f"the run of this adapter asked nothing of {context.name}; take another adapter, or the oracle")
    return made


def _key(question: Question) -> tuple[str, str]:
    return str(question.fields["perturbation"]), str(question.fields["readout"])
