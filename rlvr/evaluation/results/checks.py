"""What a reader must be told before any number: inconsistencies between two ways to count the same thing, and flags.

An inconsistency is a fault of the machinery: a verifier that calls an answer right which is not, an answer that the
strict parser does not read. A flag is a fault of the model, of the split or of the run: each is
{"flag", "task", "text"}, with the flags copies_majority, format_without_knowledge, leaked_split, unfinished,
test_split_reused; those of `rlvr.evaluation.results.readings` are lenient_apart, cut_off, empty and refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from rlvr.completions import parse
from rlvr.evaluation.results import rows
from rlvr.prompts import Template
from rlvr.types import Question, Reason
from rlvr.verifier import Verifier

BATCH = 2048  # completions in memory at once
COPIED = 0.95  # share of the answers that are one label,
APART = 0.05  # and how much rarer that label must be in truth
WELL_FORMED = 0.9  # parse rate
UNREADABLE = "both_answers"  # a verifier that catches this cheat says that what does not parse earns nothing


def reread(path: Path, by_task: Mapping[str, Template], questions: Mapping[str, Question]) -> list[str]:
    """Answers on file that the strict parser does not read in their completion, as lines; read a batch at a time."""
    with pq.ParquetFile(path) as file:
        if not {"completion", "finished"} <= set(file.schema_arrow.names):
            return []
        wrong, first, total = 0, "", 0
        for batch in file.iter_batches(BATCH, columns=["question_id", "task", "completion", "finished", "answer"]):
            for row in batch.to_pylist():
                question = questions[row["question_id"]]
                kind = by_task[row["task"]].answers
                read = parse(row["completion"], kind, question.fields, finished=bool(row["finished"])).answer
                total += 1
                if read != row["answer"]:
                    wrong += 1
                    first = first or f"{question.id} has {row['answer']!r:.60}, read is {read!r:.60}"
    return [f"{path.stem}: {wrong} of {total} answers are not what the parser reads: {first}"] if wrong else []


def verdicts(stage: str, task: str, table: pd.DataFrame, right: rows.Mask, opened: Mapping[str, Verifier]) -> list[str]:
    """Verdicts against right answers counted without any verifier: `label` must agree row by row, and what declares
    that it catches unreadable answers must pay none."""
    found = []
    silent = table["answer"].isna().to_numpy()
    for name, verifier in opened.items():
        if name not in table:
            continue
        score = table[name].to_numpy(float)
        where = f"{stage}, {task}: verifier {name}"
        paid = silent & (score > 0)
        if UNREADABLE in verifier.catches and paid.any():
            example = table["question_id"].iloc[int(paid.argmax())]
            found.append(f"{where} pays for {int(paid.sum())} of {int(silent.sum())} unparsed answers: {example}")
        if verifier.name != "label" or f"{name}/reason" not in table:
            continue
        reason = table[f"{name}/reason"]
        judged = reason.isin([str(Reason.CORRECT), str(Reason.WRONG), str(Reason.UNPARSED)]).to_numpy()
        said = (reason == str(Reason.CORRECT)).to_numpy()
        differ = judged & (said != right)
        if differ.any():
            example = table["question_id"].iloc[int(differ.argmax())]
            found.append(
                f"{where} calls {said[judged].mean():.3f} right, counted without it are {right[judged].mean():.3f}; "
                f"{int(differ.sum())} of {int(judged.sum())} rows differ: {example}"
            )
    return found


def conduct(
    task: str, table: pd.DataFrame, given: Sequence[str | None], found: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Flags of one task's answers. given: as they were scored; found: the last stage's summary, with `gain` over the
    majority where the task is open."""
    flags = []
    counts, truths = Counter(answer for answer in given if answer is not None), Counter(table["truth"])
    answered = counts.total()
    label, count = counts.most_common(1)[0] if counts else ("", 0)
    share = count / answered if answered else 0.0
    true = truths[label] / max(len(table), 1)
    if share >= COPIED and share - true >= APART and len(truths) > 1:
        text = f"{share:.1%} of the answers are {label!r:.60}, which is true of {true:.1%}"
        flags.append({"flag": "copies_majority", "task": task, "text": text})
    parsed = found["parse_rate"]["value"] or 0.0
    # Matthews' correlation of a constant answer, or of a guess, is 0.
    measure, edge = ("mcc", found["mcc"]) if "mcc" in found else ("accuracy over the majority's", found["gain"])
    if parsed >= WELL_FORMED and edge["low"] is not None and edge["low"] <= 0:
        text = f"{parsed:.1%} of the answers are well formed, but {measure} is {edge['value']:.3f}, not above 0"
        flags.append(
            {
                "flag": "format_without_knowledge",
                "task": task,
                "text": f"{text} [{edge['low']:.3f}, {edge['high']:.3f}]",
            }
        )
    return flags


def leaks(overlap: Mapping[str, int], n: int, allowed: str) -> list[dict[str, Any]]:
    """One flag where training tells of held-out questions."""
    shared = ", ".join(f"{count} share their {kind}" for kind, count in overlap.items() if count)
    if not shared:
        return []
    reason = f"; allowed: {allowed}" if allowed else ""
    text = f"training leaks: of {n} held-out questions {shared} with training{reason}"
    return [{"flag": "leaked_split", "task": None, "text": text}]


def unfinished(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One flag for each stage that stopped before its last question."""
    found = []
    for stage, record in records.items():
        asked, answered = record.get("asked"), record.get("answered")
        if isinstance(asked, int) and isinstance(answered, int) and answered < asked:
            why = f" ({record['stopped']})" if record.get("stopped") else ""
            text = f"unfinished: {answered} of {asked} in stage {stage}{why}"
            found.append({"flag": "unfinished", "task": None, "text": text})
    return found


def reuse(ledger: Sequence[Mapping[str, Any]], split: str, digest: str) -> list[dict[str, Any]]:
    """A flag where these very test questions have been used more than once."""
    uses = sum(use.get("questions_sha256") == digest for use in ledger)
    if split != "test" or uses < 2:
        return []
    return [{"flag": "test_split_reused", "task": None, "text": f"these test questions have been used {uses} times"}]
