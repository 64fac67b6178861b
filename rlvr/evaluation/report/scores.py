"""What `report.json` says, as headline, tables and forest rows: shared by the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.evaluation.report.text import Metric, count, finite, label, lowered, number

STAGES = {"before": "Untrained", "warm_start": "Warm start", "after": "Warm start + GRPO"}
METRICS = {
    "parse_rate": "Parse rate",
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "auroc": "AUROC, pooled",
    "auroc_macro_gene": "AUROC, per gene",
    "auroc_strict": "AUROC, strict",
    "auroc_effect": "AUROC, effect",
    "auroc_direction": "AUROC, direction",
    "pass@k": "pass@k",
    "maj@k": "maj@k",
    "brier": "Brier",
    "ece": "ECE",
}
MORE = {
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "auprc": "AUPRC",
    "auprc_macro_gene": "AUPRC, per gene",
    "brier_strict": "Brier, strict",
    "tpr": "TPR",
    "tnr": "TNR",
    "ari": "ARI",
    "nmi": "NMI",
    "rmse": "RMSE",
    "ndcg": "nDCG",
}  # told in a second table
SHORTCUTS = {
    "majority": "always the commonest label of the training split",
    "readout_frequency": "how often this readout changed in training; the perturbation is not looked at",
    "perturbation_frequency": "how often this perturbation had an effect elsewhere; the readout is not looked at",
    "leaked_pairs": "the training label of the same perturbation and readout, in any context",
    "neighbour_vote": "the training labels of all related perturbations, weighted by similarity",
    "complex_partners": "the training labels of members of the same protein complex",
    "core_machinery": "whether the gene belongs to the ribosome, translation, spliceosome or proteasome",
    "annotation_count": "how well studied the gene is",
    "evidence_vote": "the vote of the measured knockdowns shown in the prompt, weighted by similarity",
}
SECONDARY = {"macro_f1", "auroc_strict", "brier", "ece"}  # left out of the comparisons that every reader wants
TESTED = ("p", "p_holm", "detectable")  # beside a difference's interval
READS = "the policy reads its evidence"
MODELS = {"before": "untrained model", "warm_start": "warm-started model", "after": "trained model"}
COMPARED = {**STAGES, **{name: label(name) for name in SHORTCUTS}}


@dataclass(frozen=True)
class Headline:
    """One sentence of the opening. `answer` is 'Yes', 'No', 'Warning', 'How answers read' or, where nothing was
    measured, ''."""

    answer: str
    text: str


@dataclass(frozen=True)
class Row:
    """A stage or a shortcut, and its figures in the order of the table's columns (None = not measured)."""

    name: str
    key: str
    kind: str  # "stage" or "shortcut"
    best: bool
    cells: tuple[Metric | None, ...]


@dataclass(frozen=True)
class Column:
    """`n` is set where every row of the column has the same; otherwise each cell shows its own."""

    key: str
    name: str
    n: int | None


@dataclass(frozen=True)
class Table:
    task: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Difference:
    """One paired comparison."""

    pair: str
    task: str
    metric: str
    figure: Metric
    main: bool  # a comparison that every reader wants; the others are folded away
    p: float | None = None
    p_holm: float | None = None  # after Holm's correction over the tasks
    detectable: float | None = None  # the smallest true difference found with 80 % power


def mapping(found: Any) -> Mapping[str, Any]:
    """The mapping, or an empty one: a part of an unfinished run may be absent or null."""
    return found if isinstance(found, Mapping) else {}


def metric_name(key: str) -> str:
    return METRICS.get(key) or MORE.get(key) or label(key.replace("/", ", "))


def _phrase(key: str) -> str:
    """The metric within a sentence: 'AUROC, per gene' -> 'per-gene AUROC'."""
    name, _, kind = metric_name(key).partition(", ")
    return f"{kind.replace(' ', '-')} {name}" if kind else name


def tasks(report: Mapping[str, Any]) -> list[str]:
    """Every task that a stage or a shortcut was measured on, in order of appearance."""
    parts = [mapping(report.get(stage)) for stage in STAGES]
    parts += [mapping(found) for found in mapping(report.get("baselines")).values()]
    found = (
        key for part in parts for key, value in part.items() if isinstance(value, Mapping) and "value" not in value
    )
    return list(dict.fromkeys(found))


def last_stage(report: Mapping[str, Any]) -> str:
    """The last stage that was measured: the model whose figures the comparisons are about."""
    return next((stage for stage in reversed(STAGES) if report.get(stage)), "after")


def table(report: Mapping[str, Any], task: str, *, more: bool = False) -> Table:
    """Stages, then shortcuts, by every metric of METRICS that any of them has; `more`: by the others."""
    beaten = mapping(mapping(report.get("beats_best_shortcut")).get(task)).get("shortcut")
    sources = [(name, key, "stage", mapping(report.get(key))) for key, name in STAGES.items() if report.get(key)]
    baselines = mapping(report.get("baselines"))
    sources += [(label(key), key, "shortcut", mapping(found)) for key, found in baselines.items()]
    figures = []
    for name, key, kind, found in sources:
        own = {"parse_rate": found.get("parse_rate"), **mapping(found.get(task))}
        figures.append((name, key, kind, {k: m for k, v in own.items() if (m := Metric.of(v))}))
    seen = {key for *_, found in figures for key in found}
    keys = sorted(seen - METRICS.keys()) if more else [key for key in METRICS if key in seen]
    rows = tuple(
        Row(name, key, kind, kind == "shortcut" and key == beaten, tuple(found.get(k) for k in keys))
        for name, key, kind, found in figures
        if found.keys() & set(keys)
    )
    return Table(task, tuple(_column(key, [row.cells[i] for row in rows]) for i, key in enumerate(keys)), rows)


def _column(key: str, cells: list[Metric | None]) -> Column:
    counts = {cell.n for cell in cells if cell is not None}
    return Column(key, metric_name(key), counts.pop() if len(counts) == 1 else None)


def differences(report: Mapping[str, Any]) -> list[Difference]:
    """Every paired comparison that has a value. Main: with the other stages, the evidence vote and the best
    shortcut, by accuracy and AUROC."""
    found = []
    for pair, by_task in mapping(report.get("comparisons")).items():
        for task, metrics in mapping(by_task).items():
            best = mapping(mapping(report.get("beats_best_shortcut")).get(task)).get("shortcut")
            wanted = pair.partition(" - ")[2] in {*STAGES, "evidence_vote", best}
            found += of_pair(_pair(pair), task, mapping(metrics), wanted)
    return found


def of_pair(pair: str, task: str, metrics: Mapping[str, Any], wanted: bool) -> list[Difference]:
    """The differences of one pair on one task, by metric; of a pair that every reader wants, some metrics are main."""
    found = []
    for key in (*METRICS, *sorted(metrics.keys() - METRICS.keys())):
        kept = mapping(metrics.get(key))
        if figure := Metric.of(kept):
            tested = {name: finite(kept.get(name)) for name in TESTED}
            main = wanted and key in METRICS.keys() - SECONDARY
            found.append(Difference(pair, task, metric_name(key), figure, main, **tested))
    return found


def _pair(pair: str) -> str:
    """'after - before' -> 'Warm start + GRPO − untrained'."""
    first, _, second = pair.partition(" - ")
    names = [COMPARED.get(key) or label(key) for key in (first, second) if key]
    return " − ".join([names[0], *map(lowered, names[1:])])


@dataclass(frozen=True)
class Monitored:
    """One reading of a hacking monitor; `name` says which, and of what."""

    name: str
    value: float | None
    limit: float | None
    ok: bool
    detail: str


def monitored(report: Mapping[str, Any]) -> list[Monitored]:
    """What the hacking monitors (rlvr/evaluation/monitors.py) read; those beyond their limit first."""
    items = report.get("monitors")
    found = [
        Monitored(
            ", ".join(str(item[key]).replace("_", " ") for key in ("monitor", "subject") if item.get(key)),
            finite(item.get("value")),
            finite(item.get("limit")),
            item.get("ok") is True,
            str(item.get("detail", "")),
        )
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, Mapping)
    ]
    return sorted(found, key=lambda item: item.ok)


def warnings(report: Mapping[str, Any]) -> list[Headline]:
    """What must be read before any number: a fault of the machinery, a run that ended early or was allowed to leak,
    a model that copies or plays its reward."""
    found = []
    if inconsistent := _lines(report.get("inconsistencies")):
        found.append(f"Two ways to count the same thing disagree; trust no number before this is found: {inconsistent}")
    flags = [mapping(flag) for flag in kept] if isinstance(kept := report.get("flags"), list) else []
    found += [
        f"{flag['task']}: {flag['text']}" if flag.get("task") else str(flag["text"])
        for flag in flags
        if flag.get("text")
    ]
    if (reason := report.get("allow_leak")) and not any(flag.get("flag") == "leaked_split" for flag in flags):
        found.append(f"Training was allowed to know what is held out (allow_leak): {reason}")
    if beyond := [item for item in monitored(report) if not item.ok]:
        seen = "; ".join(f"{item.name}: {item.detail}" for item in beyond)
        found.append(f"The reward may have been played ({seen})")
    return [Headline("Warning", f"{line[:1].upper()}{line[1:].rstrip('.')}.") for line in found]


def _lines(found: Any) -> str:
    return "; ".join(str(line) for line in found) if isinstance(found, list) else ""


def headlines(report: Mapping[str, Any]) -> list[Headline]:
    """The opening: the warnings; for each task whether the model beats the best shortcut, and whether it does more
    than read its evidence; how the answers read. Without a comparison, the report's own `headline`."""
    return [*warnings(report), *_verdicts(report), *_read(report)]


def _read(report: Mapping[str, Any]) -> list[Headline]:
    """How the last stage's answers read: by the grammar that they were asked for, and as a lenient reader would."""
    stages = mapping(report.get("readings"))
    tasks = mapping(stages[list(stages)[-1]]) if stages else {}
    found = []
    for task, kept in tasks.items():
        read = mapping(kept)
        if not {"strict", "lenient", "cut_off", "empty", "n"} <= read.keys():
            continue
        where = f"{task}: " if len(tasks) > 1 else ""
        found.append(
            f"{where}right by the strict reading {read['strict']:.1%}, by a lenient one {read['lenient']:.1%}; cut off "
            f"{read['cut_off']:.1%}, empty {read['empty']:.1%}, of {count(read['n'])} completions"
        )
    return [Headline("How answers read", f"{line[:1].upper()}{line[1:]}.") for line in found]


def _verdicts(report: Mapping[str, Any]) -> list[Headline]:
    found = []
    compared = mapping(report.get("beats_best_shortcut"))
    several = len(compared) > 1
    for task, beats in compared.items():
        where = f" on {task}" if several else ""
        if difference := Metric.of(beats):
            yes = beats.get("verdict") == "yes"
            does = "beats" if yes else "does not beat"
            name = lowered(label(str(beats.get("shortcut", "unnamed"))))
            metric = _phrase(str(beats.get("metric", "score")))
            model = MODELS[last_stage(report)]
            sentence = f"The {model} {does} the best shortcut{where} ({name}): {metric} {difference.sentence()}."
            found.append(Headline("Yes" if yes else "No", sentence))
        if _shows_evidence(report, task):
            found.append(_reading(report, task, mapping(beats), where))
    if not found and isinstance(report.get("headline"), str):
        return [Headline("", str(report["headline"]))]
    return found or [Headline("", "Not known: the run holds no comparison of its model with the shortcuts.")]


def _shows_evidence(report: Mapping[str, Any], task: str) -> bool:
    """Whether the task's prompts may show evidence: where shortcuts were scored, a vote of it is among them."""
    baselines = mapping(report.get("baselines"))
    return not baselines or task in mapping(baselines.get("evidence_vote"))


def _reading(report: Mapping[str, Any], task: str, beats: Mapping[str, Any], where: str) -> Headline:
    """Reasoning is claimed only where the policy minus the evidence vote has its interval above 0."""
    by_metric = mapping(
        mapping(mapping(report.get("comparisons")).get(f"{last_stage(report)} - evidence_vote")).get(task)
    )
    keys = [key for key in (str(beats.get("metric")), *METRICS, *by_metric) if "auroc" in key]
    key, figure = next(((key, found) for key in keys if (found := Metric.of(by_metric.get(key)))), ("", None))
    if figure is None:
        return Headline("", f"Whether the policy does more than read its evidence{where} was not measured.")
    claim = "The policy adds to its evidence" if figure.reading == "above 0" else label(READS)
    if beats.get("shortcut") == "evidence_vote" and beats.get("metric") == key and figure == Metric.of(beats):
        than = {"above 0": "better", "below 0": "worse"}.get(figure.reading, "no better")
        return Headline("", f"{claim}{where}: it is {than} than a vote of the measured knockdowns its prompt shows.")
    margin = f"policy minus evidence vote, {_phrase(key)} {figure.sentence()}"
    return Headline("", f"{claim}{where}: {margin}, {figure.reading}.")


def described(row: Row, column: int) -> str:
    """'Warm start 0.712 (0.650 to 0.770)', for the alternative text of a plot."""
    cell = row.cells[column]
    return f"{row.name} {number(cell.value)} ({cell.interval})" if cell else f"{row.name} not measured"
