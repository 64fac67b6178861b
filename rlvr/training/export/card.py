"""The model card: README.md of an exported folder, from what the run itself recorded.

It says what the model was made from and on what terms, what rewarded it, how it did beside the shortcuts, and what it
must not be taken for. The front matter is what a model hub reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from rlvr import models
from rlvr.files import write_atomically
from rlvr.recipe import Recipe
from rlvr.training.doctor.adapter import VLLM_RANKS
from rlvr.types import Error

TEMPLATE = Path(__file__).with_name("card.md.jinja")
STAGES = {"before": "untrained", "warm_start": "after the warm start", "after": "trained"}
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "auroc_macro_gene": "AUROC per gene",
}
_ENV = jinja2.Environment(
    undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)


def write_card(folder: Path, run: Path, recipe: Recipe, name: str, merged: bool) -> None:
    """README.md in `folder`, for a finished run."""
    report, versions = (_read(run / file) for file in ("report.json", "versions.json"))
    packaged = models.KNOWN.get(recipe.model)
    base = packaged.upstream if packaged else recipe.model
    sources = [source for source, _ in recipe.open_sources()]
    head = {
        "base_model": base,
        "library_name": "transformers" if merged else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["rlvr", "grpo", "biology", *([] if merged else ["lora"])],
        "license": "other",  # of several works, with terms of their own: named below
    }
    text = _ENV.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        head=yaml.safe_dump(head, sort_keys=False).strip(),
        name=name,
        merged=merged,
        base=base,
        packaged=packaged,
        recipe=recipe,
        sources=sources,
        noncommercial=[source.name for source in sources if not source.commercial],
        verifiers=[_verifier(key, options or {}) for key, options in recipe.verifiers.items()],
        report=report,
        tasks=_tasks(report),
        parsed={STAGES[stage]: _figure(report[stage]["parse_rate"]) for stage in STAGES if stage in report},
        versions=versions,
        rank=next((rank for rank in VLLM_RANKS if rank >= recipe.lora.get("r", 8)), VLLM_RANKS[-1]),
        cell=_cell,
    )
    write_atomically(folder / "README.md", text.encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Error(f"{path} cannot be read: {error}; write it again with rlvr evaluate, or train again") from error
    return dict(found)


def _verifier(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in options.items() if key not in ("weight", "gate")}
    return {"name": name, "weight": options.get("weight", 1.0), "gate": options.get("gate", False), "options": rest}


def _tasks(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per task a table: the stages, then the shortcuts, by the metrics that any of them has."""
    rows = {STAGES[stage]: report[stage] for stage in STAGES if stage in report}
    rows |= {f"shortcut: {name}": row for name, row in report.get("baselines", {}).items()}
    tasks = dict.fromkeys(key for row in rows.values() for key, value in row.items() if _is_task(key, value))
    found = []
    for task in tasks:
        own = {label: row[task] for label, row in rows.items() if task in row}
        metrics = [metric for metric in METRICS if any(metric in measured for measured in own.values())]
        found.append(
            {
                "name": task,
                "columns": [METRICS[metric] for metric in metrics],
                "rows": {label: [_figure(row.get(metric)) for metric in metrics] for label, row in own.items()},
            }
        )
    return found


def _is_task(key: str, value: Any) -> bool:
    return isinstance(value, Mapping) and key != "parse_rate"


def _figure(found: Mapping[str, Any] | None) -> str:
    """A value with its interval and what it was taken over."""
    if not found or found.get("value") is None:
        return "-"
    interval = f" [{found['low']:.3f}, {found['high']:.3f}]" if found.get("low") is not None else ""
    return f"{found['value']:.3f}{interval}, n = {found['n']}"


def _cell(value: Any) -> str:
    """Text that stays within its cell of a Markdown table, and is no HTML."""
    line = " ".join(str(value).split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
