"""Completions verified per second on one core, and memory over a million rollouts.

    python benchmarks/verification.py [--rollouts 1000000]      writes benchmarks/results/verification.json

The completions are English biology prose of about 300 words that names genes, in groups of eight per question, all
different. `format`, `label` and `mention` score them together through `RewardLayer.score`: parse, verdicts with
evidence, rows. Then every built-in verifier scores, by itself, honest completions with such a thought to the sample
questions of its tasks. Each rate is completions per second of processor time, in this process and one thread, the
best of several passes: other work on the machine counts as little as can be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlvr import prompts
from rlvr.answers import Answers, Choice
from rlvr.completions import reference
from rlvr.plugins import load, names
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.testing import sample_questions
from rlvr.types import Question
from rlvr.verifier import Verifier

RESULT = Path(__file__).resolve().parent / "results" / "verification.json"
TOGETHER = ("format", "label", "mention")
TASK = "perturbation/direction"
WORDS, GROUP, BATCH, PASSES = 300, 8, 1024, 7
NAMES = (
    "ZAP70 LAT LCP2 CD3E CD3G CD28 CBLB RASA2 DGKZ VAV1 ITK PLCG1 NFATC1 NFATC2 JUNB FOSL1 RELA NFKB1 IKZF1 IKZF3 "
    "GATA3 TBX21 STAT1 STAT3 STAT5B JAK1 JAK3 IL2RA IL2RB IL7R SOCS1 CISH PTPN2 PTPN22 MED12 CCNC ARID1A SMARCB1 "
    "KMT2D EZH2 TET2 DNMT3A HIF1A MYC MTOR RPTOR TSC1 AKT1 PIK3CD PTEN LCK CSK CD5 UBASH3A TNFAIP3 MALT1 BCL10 CARD11"
)
GENES = NAMES.split()
SENTENCES = (
    "{a} sits upstream of {b} in the signalling cascade that follows engagement of the receptor, so its loss should "
    "blunt the response.",
    "In resting cells the transcript of {a} is barely detectable, but after stimulation it rises within an hour.",
    "The knockdown of {a} was measured in the same screen, and the cells that carried it were depleted from the high "
    "bin.",
    "Because {a} phosphorylates the adaptor, which in turn recruits {b}, the effect on transcription is likely to be "
    "direct.",
    "One might object that {a} is redundant with its paralog, yet the two are expressed in different subsets.",
    "Negative regulators such as {a} or {b} usually act in the opposite direction, and removing them releases the "
    "brake.",
    "The promoter of the readout is bound by {a} together with a partner, and chromatin there opens only after "
    "activation.",
    "Among the nearest measured perturbations, {a} lowered the readout, whereas {b} left it unchanged.",
    "A loss of the mediator complex changes many genes at once, so the evidence from {a} should be weighed with care.",
    "Taken together the pathway, the localisation to the membrane and the phenotype of the mouse point the same way.",
    "It is worth remembering that guide efficiency varies, and that a modest knockdown can hide a real effect.",
    "The cytokine itself feeds back on the cells that secrete it, which may amplify a small initial difference.",
)


def prose(draw: random.Random, question: Question, words: int = WORDS) -> str:
    """A thought of about `words` words that names the question's genes (where it has any) and others."""
    asked = [str(question.fields[key]) for key in ("perturbation", "readout") if question.fields.get(key)]
    text = f"The question asks what the loss of {' does to '.join(asked)}." if asked else "Consider what is known."
    count = len(text.split())
    while count < words:
        a, b = draw.sample(GENES, 2)
        sentence = draw.choice(SENTENCES).format(a=a, b=b)
        text, count = f"{text} {sentence}", count + len(sentence.split())
    return text


def rollouts(count: int, seed: int = 0) -> tuple[list[Question], list[str]]:
    """`count` questions and completions in groups of `GROUP`, four in five of them well formed."""
    draw = random.Random(seed)
    questions, texts = [], []
    for group in range(-(-count // GROUP)):
        perturbation, readout = draw.sample(GENES, 2)
        fields = {"perturbation": perturbation, "readout": readout, "context": "primary human CD4+ T cells"}
        truth = {"answer": draw.choice(["up", "down"])}
        question = Question(f"benchmark:{group}:{perturbation}:{readout}", TASK, fields, truth, "benchmark", "train")
        for _ in range(GROUP):
            text = reference(prose(draw, question), draw.choice(["up", "down"]))
            questions.append(question)
            texts.append(text if draw.random() < 0.8 else text.replace("</think>", "", 1))
    return questions[:count], texts[:count]


def layer_of(verifiers: Sequence[str], answers: dict[str, Answers]) -> RewardLayer:
    return RewardLayer({name: Weighted(load("verifiers", name, Verifier)()) for name in verifiers}, answers)


def rate(layer: RewardLayer, questions: Sequence[Question], texts: Sequence[str]) -> float:
    """Completions per second of processor time, the best of `PASSES`."""
    seconds = []
    for _ in range(PASSES):
        started = time.process_time()
        layer.score(questions, texts)
        seconds.append(time.process_time() - started)
    return len(texts) / min(seconds)


def by_itself(name: str) -> dict[str, Any]:
    """One built-in on the sample questions of its tasks, or why it could not be opened."""
    try:
        verifier = load("verifiers", name, Verifier)()
        if verifier.network:
            return {"skipped": "needs the network"}
        draw = random.Random(0)
        asked = [q for q in sample_questions(*verifier.tasks) if verifier.applies(q)]
        templates = {task: prompts.load(task) for task in {q.task for q in asked}}
        one = []
        for question in asked:
            honest = verifier.honest(question)
            thought = f"{honest.thought} {prose(draw, question)}" if honest.thought else prose(draw, question)
            one.append(reference(thought, templates[question.task].word(honest.answer)))
        times = -(-256 // len(asked))
        layer = RewardLayer({name: Weighted(verifier)}, {t: template.answers for t, template in templates.items()})
        found = rate(layer, asked * times, one * times)
    except Exception as error:  # a verifier may want data that this machine lacks: that is a result, too
        return {"skipped": f"{type(error).__name__}: {str(error)[:200]}"}
    return {
        "per_second": round(found),
        "n": len(asked) * times,
        "questions": len(asked),
        "errors": layer.errors[name],
    }


def resident() -> float:
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def memory(count: int) -> dict[str, Any]:
    """Resident memory before and after streaming `count` rollouts through a layer, batch by batch. Texts differ
    from batch to batch by a number, so that nothing can be remembered."""
    layer = layer_of(TOGETHER, {TASK: Choice({"up": "up", "down": "down"})})
    questions, texts = rollouts(BATCH)
    layer.score(questions, texts)
    samples, started = [resident()], time.perf_counter()
    for batch in range(1, -(-count // BATCH) + 1):
        fresh = [replace(question, id=f"{question.id}:{batch}") for question in questions[::GROUP]]
        layer.score(
            [fresh[i // GROUP] for i in range(BATCH)], [t.replace("asks", f"asks in {batch}", 1) for t in texts]
        )
        if batch % max(1, count // BATCH // 10) == 0:
            samples.append(resident())
    return {
        "rollouts": batch * BATCH,
        "batch": BATCH,
        "seconds": round(time.perf_counter() - started, 1),
        "mib_at_start": samples[0],
        "mib_at_end": resident(),
        "mib_every_tenth": samples[1:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    options = parser.parse_args()
    questions, texts = rollouts(2 * BATCH)
    together = rate(layer_of(TOGETHER, {TASK: Choice({"up": "up", "down": "down"})}), questions, texts)
    streamed = memory(options.rollouts)
    alone = {name: by_itself(name) for name in names("verifiers")}
    from rlvr.evaluation.provenance import machine, versions  # imports torch, which the memory run does without

    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "words": round(sum(len(text.split()) for text in texts) / len(texts)),
        "characters": round(sum(map(len, texts)) / len(texts)),
        "format_label_mention": {"per_second_per_core": round(together), "n": len(texts), "passes": PASSES},
        "memory": streamed,
        "verifiers": alone,
        "load_average": round(os.getloadavg()[0], 2),
        "machine": machine(),
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
