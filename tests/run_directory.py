"""A small run directory as training leaves it, for the report's tests: plausible numbers, hostile words."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd

TASK = "perturbation/direction"
LABELS = ("up", "down")
MEGABYTE = "A" * 1_000_000
CLAIMS = "RPS19 takes part in ribosome biogenesis. RPS19 has protein kinase activity; RPL3 is part of RNA splicing."
CHECKED = [  # what the claims verifier writes of them
    {
        "source": "GO 2026-01",
        "record": "GO:0042254 IDA PMID:17517689",
        "statement": "RPS19 has ribosome biogenesis: supported",
        "supports": True,
    },
    {
        "source": "GO 2026-01",
        "record": "GO:0004672 NOT IDA",
        "statement": "RPS19 has protein kinase activity: contradicted",
        "supports": False,
    },
    {
        "source": "knowledge base",
        "record": "GO:0008380",
        "statement": "RPL3 has RNA splicing: unknown",
        "supports": False,
    },
]
HOSTILE = (
    "<script>alert(1)</script>",
    "</style></pre><style>*{display:none}</style>",
    '<img src=x onerror="alert(1)"><svg/onload=alert(1)>',
    "<a href='javascript:alert(1)'>javascript:alert(1)</a> http://evil.example/x.js",
    "right \u202eot gnihton\u202c zero\u200bwidth \U000e0041 \x1b[31mred\x07",
    "{{ 7 * 7 }} {% raw %} $\\frac{1}{0}$ ]]> --> \"' onmouseover='x'",
    "e" + "\u0301" * 4000,
    "\n" * 3000,
    "</script x><!--<script src=//evil.example/x.js></script/x>",
    "word" * 400,
    MEGABYTE,
)


def figure(value: float, n: int = 240, spread: float = 1.1) -> dict[str, float]:
    """A metric with a plausible interval."""
    half = spread * 1.96 * math.sqrt(max(value * (1 - value), 0.002) / n)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": n}


def metrics(accuracy: float, f1: float, auroc: float, gene: float) -> dict[str, Any]:
    return {
        "accuracy": figure(accuracy),
        "macro_f1": figure(f1),
        "auroc": figure(auroc),
        "auroc_macro_gene": figure(gene, n=57),
        "auroc_strict": figure(auroc - 0.01),
        "mcc": figure(max(0.0, 2 * accuracy - 1.1)),
    }


def difference(value: float, half: float, n: int = 240) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def report() -> dict[str, Any]:
    """A finished run whose model does not beat the evidence vote."""
    stages = {"before": (0.0, 0.0, 0.0, 0.521, 0.507), "warm_start": (0.988, 0.79, 0.70, 0.768, 0.585)}
    stages["after"] = (0.996, 0.817, 0.735, 0.803, 0.601)
    shortcuts = {
        "majority": (0.763, 0.433, 0.5, 0.5),
        "readout_frequency": (0.842, 0.761, 0.851, 0.5),
        "perturbation_frequency": (0.763, 0.433, 0.5, 0.5),
        "complex_partners": (0.771, 0.52, 0.571, 0.64),
        "core_machinery": (0.763, 0.433, 0.534, 0.52),
        "annotation_count": (0.763, 0.433, 0.512, 0.489),
        "evidence_vote": (0.85, 0.775, 0.861, 0.633),
    }
    return {
        "recipe_name": "quickstart",
        "recipe": {"model": "smollm2-135m", "source": {"name": "perturbqa", "context": "k562"}, "seed": 7},
        "versions": {"rlvr": "0.1.0", "torch": "2.13.0", "trl": "1.16.0", "transformers": "5.14.1"},
        "machine": {"cpu": "2 cores", "memory": "8 GiB", "gpu": None, "system": "Linux x86_64"},
        "command": "accelerate launch train.py --config quickstart seed=7",
        "source": {
            "name": "perturbqa",
            "licence": "CC BY-NC 4.0: non-commercial use only",
            "citation": "Wu et al., Contextualizing biological perturbation experiments through language, ICLR 2025",
            "doi": "10.48550/arXiv.2502.21290",
        },
        "split": "validation",
        "n_questions": 240,
        "seed": 7,
        "seconds": {"evaluate before": 95.0, "warm start": 212.0, "grpo": 388.0, "evaluate after": 90.2},
        "headline": "",
        "beats_best_shortcut": {
            TASK: {"shortcut": "evidence_vote", "metric": "auroc", "verdict": "no", **difference(-0.058, 0.047)}
        },
        **{
            stage: {"n": 240, "parse_rate": figure(parsed), TASK: metrics(*rest)}
            for stage, (parsed, *rest) in stages.items()
        },
        "baselines": {name: {"n": 240, TASK: metrics(*figures)} for name, figures in shortcuts.items()},
        "comparisons": {
            "after - before": {TASK: {"accuracy": difference(0.817, 0.05), "auroc": difference(0.282, 0.09)}},
            "after - warm_start": {TASK: {"accuracy": difference(0.027, 0.04), "auroc": difference(0.035, 0.034)}},
            "after - majority": {TASK: {"auroc": difference(0.303, 0.06), "mcc": difference(0.5, 0.1)}},
            "after - evidence_vote": {
                TASK: {"auroc": difference(-0.058, 0.047), "auroc_macro_gene": difference(-0.032, 0.051, 57)}
            },
        },
        "panel": {
            "name": "k562_direction",
            "sha256": "9f2c" * 16,
            "n": 240,
            "genes": 57,
            "permutation_null": {"auroc_macro_gene": {"mean": 0.5, "high": 0.571, "n": 57}},
        },
        "ledger": [{"date": "2026-01-12", "recipe": "perturbqa_direction", "commit": "4be1d02", "n": 3119}],
        "leak": [
            {"kind": "perturbation", "overlap": 0, "n": 240},
            {"kind": "complex partner", "overlap": 61, "n": 240},
        ],
    }


def everything() -> dict[str, Any]:
    """The same run with all that an evaluation may add to it."""
    found = report()
    found["reliability"] = {}
    for stage, sure in (("before", 0.3), ("after", 0.1)):
        found[stage][TASK] |= {"brier": figure(0.2), "ece": figure(sure), "auprc": figure(0.7)}
        bins = [{"said": c / 10, "held": max(0.0, c / 10 - sure), "n": 12 * c} for c in range(1, 10)]
        found["reliability"][stage] = {TASK: bins}
    few = {"n": 12, "clusters": 4, "reason": "too few clusters: 4, at least 10 are needed"}
    found["strata"] = {
        TASK: {
            "seen_gene": {"seen": {"n": 180, "accuracy": figure(0.8, 180)}, "unseen": {"accuracy": figure(0.71, 60)}},
            "annotations": {
                "few (at most 12)": {"accuracy": figure(0.7, 80), "gain": difference(-0.05, 0.1, 80)},
                "many (over 80)": {"accuracy": figure(0.82, 160), "gain": difference(0.02, 0.06, 160)},
                "none": few,
            },
        }
    }
    found["comparisons"]["after - before"][TASK]["accuracy"] |= {"p": 0.001, "p_holm": 0.004, "detectable": 0.09}
    found["flags"] = [{"flag": "unfinished", "task": None, "text": "unfinished: 200 of 240 (after, out of minutes)"}]
    found["alarms"] = [
        {"time": "2026-01-12T10:00:00", "step": 31, "alarm": "entropy", "value": 0.02, "threshold": 0.05,
         "action": "warn"}
    ]  # fmt: skip
    found["evaluations"] = {"after": {"asked": 240, "answered": 200, "stopped": "minutes"}}
    found["reasoning"] = {
        "fact_precision": [{"name": "right answers", **figure(0.71), "baseline": 0.42}],
        "faithfulness": [{"name": "thought swapped", **figure(0.31), "baseline": figure(0.08)}],
    }
    return found


def completion(label: str | None, rng: random.Random) -> str:
    """A plausible completion; unparsable for None."""
    partners = ", ".join(rng.sample(["RPL5", "RPS19", "EIF3A", "POLR2B", "MED12", "SMARCB1", "PSMD4"], 3))
    thought = f"{CLAIMS} {partners} share a complex with it; two of three lowered the readout when knocked down."
    return f"<think>{thought}</think>\n<answer>{label}</answer>" if label else f"{thought} So I would say up or down"


def prompt() -> list[dict[str, str]]:
    evidence = "\n".join(
        f"- {gene}: {word} (similarity {s} %, ribosome biogenesis)"
        for gene, word, s in (("RPL5", "down", 81), ("EIF3A", "down", 64), ("MED12", "up", 40))
    )
    return [
        {"role": "system", "content": "Answer in <think>…</think> and <answer>up or down</answer>."},
        {"role": "user", "content": f"CRISPRi knockdown of RPS19 in K562 cells: does RPL3 go up or down?\n{evidence}"},
    ]


def rollout_rows(step: int, rng: random.Random, hostile: bool) -> list[dict[str, Any]]:
    """Two groups of four."""
    rows = []
    for group in range(2):
        answers = [rng.choice([*LABELS, None]) for _ in range(3)] + ["down"]
        rewards = [0.0 if a is None else 1.0 if a == "down" else 0.2 for a in answers]
        mean = sum(rewards) / 4
        for place, (answer, reward) in enumerate(zip(answers, rewards, strict=True)):
            text = completion(answer, rng)
            if hostile:
                text = HOSTILE[(step * 8 + group * 4 + place) % len(HOSTILE)] + text
            right = answer == "down"
            consulted = {"source": "perturbqa", "record": f"k562:RPS19:RPL{group}", "supports": right}
            consulted["statement"] = text[:200] if hostile else "RPL3 goes down in the measurement"
            rows.append(
                {
                    "step": step,
                    "phase": "grpo",
                    "question_id": f"perturbqa:{TASK}:k562:RPS19:RPL{group + 3 * (step % 5)}",
                    "task": TASK,
                    "group": group,
                    "prompt": prompt(),
                    "completion": text,
                    "thought": None,
                    "answer": answer,
                    "finished": answer is not None,
                    "reward": reward,
                    "advantage": reward - mean,
                    "format": float(answer is not None),
                    "format/reason": "well_formed" if answer else "malformed",
                    "format/error": None,
                    "label": float(right),
                    "label/reason": "correct" if right else "wrong" if answer else "unparsed",
                    "label/error": None,
                    "label/evidence": json.dumps([consulted]),
                    "claims": 0.5,
                    "claims/reason": "contradicted" if place == 1 else "partial",
                    "claims/error": f"Traceback: {text[:80]}" if step == 3 and place == 3 else None,
                    "claims/evidence": json.dumps(CHECKED),
                    "neighbours": None if group else 0.7,
                    "neighbours/reason": "uncovered" if group else "belief",
                    "neighbours/error": None,
                }
            )
    return rows


def evaluation_rows(stage: str, rng: random.Random, hostile: bool) -> list[dict[str, Any]]:
    rows = []
    for i in range(24):
        truth = LABELS[i % 3 == 0]
        right, silent = (0.5, 0.7) if stage == "before" else (0.8, 0.0)
        answer = None if rng.random() < silent else truth if rng.random() < right else LABELS[truth == "up"]
        p = min(0.99, max(0.01, rng.gauss(0.5 if stage == "before" else 0.7, 0.15)))
        text = completion(answer, rng) + (HOSTILE[i % len(HOSTILE)] if hostile else "")
        rows.append(
            {
                "question_id": f"perturbqa:{TASK}:k562:GENE{i}:RPL3",
                "task": TASK,
                "context": "k562",
                "perturbation": f"GENE{i}",
                "readout": HOSTILE[i % 4] if hostile else "RPL3",
                "split": "validation",
                "truth": truth,
                "prompt": json.dumps(prompt()),
                "completion": text,
                "thought": None,
                "answer": answer,
                "finished": True,
                "lenient": answer,
                f"p/{truth}": p,
                f"p/{LABELS[truth == 'up']}": 1 - p,
                "label": float(answer == truth),
                "label/reason": "correct" if answer == truth else "wrong",
            }
        )
    return rows


def metric_rows(rng: random.Random, steps: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, 41):
        rows.append(
            {"phase": "warm_start", "step": step, "loss": 0.35 + 2.4 * math.exp(-step / 9) + rng.gauss(0, 0.05)}
        )
    for step in range(1, steps + 1):
        rise = 0.25 * (1 - math.exp(-step / 20))
        rows.append(
            {
                "phase": "grpo",
                "step": step,
                "loss": 0.0,
                "reward": 0.55 + rise + rng.gauss(0, 0.08),
                "reward_std": 0.2,
                "rewards/format/mean": min(1.0, 0.96 + rng.gauss(0, 0.03)),
                "rewards/label/mean": min(1.0, 0.5 + rise + rng.gauss(0, 0.1)),
                "rewards/mention/mean": min(1.0, 0.8 + rng.gauss(0, 0.04)),
                "rewards/neighbours/mean": min(1.0, 0.55 + rise / 2 + rng.gauss(0, 0.06)),
                "completions/mean_length": 42 + rng.gauss(0, 2.5),
                "entropy": 0.32 * math.exp(-step / 60) + abs(rng.gauss(0, 0.02)),
                "frac_reward_zero_std": rng.choice([0.0, 0.25, 0.25, 0.5]),
                "step_time": 9 + rng.gauss(0, 0.8),
                "time/generate": 2.6 + rng.gauss(0, 0.2),
                "time/verify": 0.01,
                "time/update": 5.9 + rng.gauss(0, 0.3),
            }
        )
    return rows


def make(run: Path, *, hostile: bool = True, steps: int = 60, seed: int = 0) -> Path:
    """Write the run directory and return it."""
    rng = random.Random(seed)
    (run / "rollouts").mkdir(parents=True)
    (run / "evaluations").mkdir()
    found = report()
    if hostile:
        found["recipe"]["prompt"] = HOSTILE[1]
        found["recipe_name"] = HOSTILE[0]
        found["machine"]["cpu"] = HOSTILE[2]
        found["baselines"][HOSTILE[0]] = found["baselines"]["majority"]
        found["source"]["citation"] += HOSTILE[3] + HOSTILE[4]
    (run / "report.json").write_text(json.dumps(found), encoding="utf-8")
    lines = metric_rows(rng, steps)
    if hostile:
        lines = [{**row, "rewards/</svg><script>$x$/mean": 0.5} for row in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    for step in range(1, 11):
        rows = rollout_rows(step, rng, hostile)
        pd.DataFrame(rows).to_parquet(run / "rollouts" / f"step_{step:06d}_rank0.parquet")
    for stage in ("before", "warm_start", "after"):
        pd.DataFrame(evaluation_rows(stage, rng, hostile)).to_parquet(run / "evaluations" / f"{stage}.parquet")
    return run
