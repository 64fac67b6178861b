"""Makes questions.jsonl: about ten real questions for every task, for the conformance kit and the tests.

    python -m rlvr.data.sample.make_questions

Each comes from openly licensed data: the tables in this folder, files that packages ship, and one published model.
Upstream files are fetched if they are not under RLVR_DATA. README.md says what each task's questions are made of.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr.files import write_atomically
from rlvr.plugins import load
from rlvr.source import Source
from rlvr.types import Question

HERE = Path(__file__).resolve().parent
EACH = 10  # questions of a task
RANKED = 6  # genes to rank
PROFILED = 8  # genes to give a fold change of
SHARED = 3  # terms that a set is asked for
NETWORK = "doi:10.1371/journal.pone.0022649"  # Krumsiek et al. 2011, Table 1: a Boolean model of myeloid cells
MODEL = "a published Boolean model of myeloid differentiation"
EDGES = """
GATA1-GATA2 ZFPM1-GATA2 SPI1-GATA2 GATA2+GATA1 FLI1+GATA1 SPI1-GATA1 GATA1+ZFPM1 GATA1+KLF1 FLI1-KLF1 GATA1+FLI1
KLF1-FLI1 GATA1+TAL1 SPI1-TAL1 GATA1-CEBPA ZFPM1-CEBPA TAL1-CEBPA GATA2-SPI1 GATA1-SPI1 CEBPA+SPI1 SPI1+JUN GFI1-JUN
CEBPA+GFI1
"""
DERIVED = "tcell_cytokines_sample"  # what is made of the screens here, and not asked by their own source
SIGNS = {"+": "activation", "-": "repression"}


def pick(
    questions: Iterable[Question], most: int = EACH, by: Callable[[Question], Hashable] | None = None
) -> list[Question]:
    """At most so many, by a hash of their ids; kinds (by default the answers) take turns."""
    kinds: dict[Hashable, list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda q: sha256(q.id.encode()).digest()):
        kinds[by(question) if by else str(question.truth["answer"])].append(question)
    turns = itertools.zip_longest(*(kinds[kind] for kind in sorted(kinds, key=_digest)))
    return [q for turn in turns for q in turn if q is not None][:most]


def from_source(
    name: str, wanted: str, by: Callable[[Question], Hashable] | None = None, **options: Any
) -> list[Question]:
    """Questions of one task as its source, with these options, asks them."""
    return pick((q for q in _asked(name, **options) if q.task == wanted), by=by)


@cache
def _asked(name: str, **options: Any) -> list[Question]:
    return list(load("data", name, Source)(**options).questions())


def screens() -> Iterator[Question]:
    """The T-cell screens as they are asked, and their two coarser questions: does anything change, and which way."""
    measured = _asked("tcell_cytokines")

    def both(question: Question) -> Hashable:
        return question.truth["answer"], question.truth["context"]

    yield from pick(measured, by=both)
    coarse = [_relabelled(q, "effect", {"none": "no", "up": "yes", "down": "yes"}) for q in measured]
    split = [_relabelled(q, "direction", {"up": "up", "down": "down"}) for q in measured if q.truth["answer"] != "none"]
    for questions in (coarse, split):
        yield from pick(questions, by=both)
        probable = (
            replace(q, id=q.id.replace(q.task, f"{q.task}_probability"), task=f"{q.task}_probability")
            for q in questions
        )
        yield from pick(probable, by=both)


def _relabelled(question: Question, task: str, labels: Mapping[str, str]) -> Question:
    """A question with its labels joined or left out; what it says of neighbours follows."""
    shown = zip(question.fields["evidence"], question.truth["shared"], strict=True)
    kept = [({**e, "answer": labels[e["answer"]]}, term) for e, term in shown if e["answer"] in labels]
    truth = {**question.truth, "answer": labels[question.truth["answer"]], "shared": [term for _, term in kept]}
    for vote in ("neighbours", "partners"):
        if truth[vote] is not None:
            shares: dict[str, float] = defaultdict(float)
            for old, new in labels.items():
                shares[new] += truth[vote][old]
            total = sum(shares.values())
            truth[vote] = {label: round(share / total, 6) for label, share in shares.items()}
    return Question(
        id=question.id.replace("perturbation/response", f"perturbation/{task}"),
        task=f"perturbation/{task}",
        fields={**question.fields, "evidence": [e for e, _ in kept]},
        truth=truth,
        source=DERIVED,
        split=question.split,
    )


def rankings() -> Iterator[Question]:
    """Which knockdown moves the cytokine most: by the mean log2 fold change of two donors, sign left out."""
    for context, group in _screens().groupby("context"):
        size = ((group["lfc_1"] + group["lfc_2"]) / 2).abs().round(3)
        effects = dict(sorted(zip(group["gene"], map(float, size), strict=True), key=lambda item: _digest(item[0])))
        for number in range(EACH // 2):
            genes = list(effects)[number * RANKED : (number + 1) * RANKED]
            relevance = {gene: effects[gene] for gene in genes}
            yield Question(
                id=f"tcell_cytokines:perturbation/ranking:{context}:{number}",
                task="perturbation/ranking",
                fields={**_words(context), "genes": sorted(genes)},
                truth={"answer": sorted(genes, key=lambda gene: -relevance[gene]), "relevance": relevance},
                source=DERIVED,
                split="train",
            )


def sets() -> Iterator[Question]:
    """Hits of one screen and one direction that share a term: which are the rarest terms that all of them carry?"""
    carried, names, sizes = _annotation()
    found: dict[tuple[str, ...], Question] = {}
    for (context, label), group in _screens().query("label != 'none'").groupby(["context", "label"]):
        for term in sorted(names, key=_digest):
            genes = tuple(sorted(gene for gene in group["gene"] if term in carried[gene]))
            if not (4 <= len(genes) <= 8 and sizes[term] <= 500) or genes in found:
                continue
            shared = sorted(
                set.intersection(*(carried[gene] for gene in genes)) & names.keys(), key=lambda t: (sizes[t], t)
            )
            found[genes] = Question(
                id=f"tcell_cytokines:perturbation/set:{context}:{label}:{term}",
                task="perturbation/set",
                fields={"context": _words(context)["context"], "genes": list(genes)},
                truth={"answer": list(dict.fromkeys(names[t] for t in shared))[:SHARED], "direction": label},
                source=DERIVED,
                split="train",
            )
    yield from pick(found.values(), by=lambda q: (q.truth["direction"], q.fields["context"]))


def regulation() -> Iterator[Question]:
    """Edges of a published Boolean model of myeloid differentiation, in current symbols; pairs without an edge there
    are "unreported" by that model, which says nothing of other evidence."""
    edges = {}
    for edge in EDGES.split():
        sign = "+" if "+" in edge else "-"
        tf, _, target = edge.partition(sign)
        edges[tf, target] = SIGNS[sign]
    asked = []
    for (tf, target), sign in edges.items():
        signs = [other for (name, _), other in edges.items() if name == tf]
        usual = max(sorted(SIGNS.values()), key=signs.count)
        truth = {"answer": sign, "tf_majority": usual, "degree": len(signs), "references": [NETWORK]}
        asked.append(_regulation("edge", tf, target, truth))
    yield from pick(asked)
    genes = sorted({gene for edge in edges for gene in edge})
    pairs = [(tf, target) for tf in genes for target in genes if tf != target]
    yield from pick(
        _regulation(
            "reported", *pair, {"answer": "reported" if pair in edges else "unreported", "references": [NETWORK]}
        )
        for pair in pairs
        if pair[0] in {tf for tf, _ in edges}
    )


def _regulation(task: str, tf: str, target: str, truth: Mapping[str, Any]) -> Question:
    name = f"regulation/{task}"
    fields = {"tf": tf, "target": target} | ({"context": MODEL} if task == "edge" else {})
    return Question(f"krumsiek2011:{name}:{tf}:{target}", name, fields, truth, "krumsiek2011", "train")


def _screens() -> pd.DataFrame:
    return pd.read_csv(HERE / "screens.tsv", sep="\t", keep_default_na=False)


def _words(context: Hashable) -> dict[str, str]:
    """The words of a screen's questions for its cells and its cytokine."""
    fields = next(q.fields for q in _asked("tcell_cytokines") if q.truth["context"] == context)
    return {"context": fields["context"], "readout": fields["readout"]}


def _annotation() -> tuple[dict[str, set[str]], dict[str, str], dict[str, int]]:
    """(gene -> terms with all their ancestors, term -> name, term -> how many human genes carry it)."""
    terms = pd.read_csv(HERE / "go_terms.tsv", sep="\t", keep_default_na=False).set_index("term")
    genes = pd.read_csv(HERE / "go_annotation.tsv", sep="\t", keep_default_na=False)
    parents = {term: list(filter(None, text.split("|"))) for term, text in terms["parents"].items()}
    carried = {}
    for gene, direct in zip(genes["gene"], genes["terms"], strict=True):
        held: set[str] = set()
        left = list(filter(None, direct.split("|")))
        while left:
            term = left.pop()
            if term not in held:
                held.add(term)
                left += parents[term]
        carried[gene] = held
    named = {str(term): str(name) for term, name in terms["name"].items() if name}
    return carried, named, {str(term): int(size) for term, size in terms["genes"].items()}


def _digest(name: object) -> bytes:
    return sha256(str(name).encode()).digest()


def main() -> None:
    """Write questions.jsonl beside this file."""
    questions = [
        *screens(),
        *rankings(),
        *sets(),
        *from_source("perturb_seq", "perturbation/profile", task="profile", readouts=PROFILED),
        *from_source("cell_type", "cell/type"),
        *from_source("cell_batch", "cell/batch", by=lambda q: len(q.truth["answer"]))[:8],  # they are long
        *regulation(),
        *from_source("network", "regulation/network", models=("krumsiek11",), knowledge="sample"),
        *from_source("go_function", "knowledge/function"),
        *from_source("pathway_membership", "knowledge/pathway"),
        *from_source("translation", "sequence/translation", by=lambda q: q.fields["table"]),
        *from_source("translation", "sequence/reverse_complement", by=lambda q: q.split),
        *from_source("translation", "sequence/orf", by=lambda q: q.split),
        *from_source("motifs", "sequence/motif"),
        *from_source("coding_variants", "sequence/variant_effect"),
    ]
    text = "".join(f"{question.to_json()}\n" for question in questions)
    write_atomically(HERE / "questions.jsonl", text.encode())
    counts = Counter(question.task for question in questions)
    print(f"questions.jsonl: {len(text.encode()) / 1e3:.0f} kB, {', '.join(f'{t} {n}' for t, n in counts.items())}")


if __name__ == "__main__":
    main()
