"""What a label of a perturbation says: no gene (a control, in any spelling), one gene (whatever its guide), or several.

    is_control("Non-Targeting_07"), is_control("[('DMSO_TF', 0.0, 'uM')]")     # True, True
    genes_of("KLF1_sg2", known), genes_of("GAB2_TMEM161B", known)               # ["KLF1"], ["GAB2", "TMEM161B"]

`known`: whether a name is a gene. It decides between a guide's number and a symbol's own: NKX2-1 is a gene.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

Known = Callable[[str], bool]

# Any of these makes a control of a label that has nothing but FILLERS beside it.
CORES = """
    control controls ctrl ctrls ctl neg negative negctrl negcontrol nontargeting nontargeted nontarget notarget nt ntc
    ntg safetargeting safeharbor safeharbour safecutting aavs rosa scramble scrambled scr intergenic dmso vehicle pbs
    mock untreated unperturbed unstimulated uninfected untransduced untransfected nontransduced nontransfected wildtype
    emptyvector luciferase luc lacz gfp egfp bfp rfp mcherry tdtomato
"""
PHRASES = """
    non-targeting non-targeted non-target no-target not-targeting non-transduced non-gene no-guide no-perturbation
    safe-targeting safe-harbor safe-harbour safe-cutting wild-type empty-vector
"""
FILLERS = "sg g grna grnas sgrna sgrnas rna guide guides cell cells human mouse hu mm site one sample um nm u m tf"
_CORES, _FILLERS = frozenset(CORES.split()), frozenset(FILLERS.split())
_PHRASES = frozenset(tuple(phrase.split("-")) for phrase in PHRASES.split())
_TOKENS = re.compile(r"[A-Za-z]+"), re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # NegCtrl0 is two words, LacZ one
_GUIDE = re.compile(r"[\s_.|:-](?:(?:sgrna|grna|guide|rep|sg|gd|g)?[\s_.-]?\d{1,3}|p\d(?:p\d)?)$", re.IGNORECASE)
_LONG = re.compile(r"(.+?)_[+-]_\d+\.\d+-P\d(?:P\d)?")  # of CRISPRi libraries: KLF1_+_12997811.23-P1P2
_PREFIX = re.compile(r"(?:sg|Sg|SG|g)[\s_.-]?(.+)")
_JOINTS = re.compile(r"--|[+_|,;&/]|\s+")


def is_control(label: str) -> bool:
    """Whether a label says that nothing was perturbed: non-targeting, NTC_12, NegCtrl0, safe-targeting, DMSO, ..."""
    return any(_says_control([token.lower() for token in tokens.findall(label)]) for tokens in _TOKENS)


def _says_control(tokens: list[str]) -> bool:
    words = [token for token in tokens if token not in _FILLERS]
    place = 0
    while place < len(words):
        if tuple(words[place : place + 2]) in _PHRASES:
            place += 2
        elif words[place] in _CORES:
            place += 1
        else:
            return False
    return bool(words)


def genes_of(label: str, known: Known, separator: str = "+", controls: Collection[str] = ()) -> list[str]:
    """The perturbed genes that a label names, controls among them left out: none for a control, and where nothing in it
    is known the label's own parts. controls: labels that are controls too."""

    def none(part: str) -> bool:
        return part in controls or is_control(part)

    label = label.strip()
    if none(label):
        return []
    if known(label):
        return [label]
    if (found := _LONG.fullmatch(label)) and known(found[1]):
        return [found[1]]
    parts = [part.strip() for part in label.split(separator)]
    if len(parts) == 1:
        if (gene := _without_guide(label, known)) is not None:
            return [gene]
        parts = [part for part in _JOINTS.split(label) if part]
        read = [part if known(part) else _without_guide(part, known) for part in parts]
        genes = [gene for part, gene in zip(parts, read, strict=True) if not (gene is None and none(part))]
        return [label] if not genes or None in genes else [str(gene) for gene in genes]
    return [part if known(part) else _without_guide(part, known) or part for part in parts if not none(part)]


def likely_controls(labels: Collection[str]) -> list[str]:
    """Those of the labels that are controls, sorted."""
    return sorted(label for label in labels if is_control(label))


def _without_guide(label: str, known: Known) -> str | None:
    """The gene of a guide's name (KLF1_sg2, sgKLF1, KLF1-1); None where that is no gene either."""
    prefix = _PREFIX.fullmatch(label)
    for name in (label, prefix[1] if prefix else ""):
        guide = _GUIDE.search(name)
        for gene in (name[: guide.start()].rstrip(" _.|:-") if guide else "", name):
            if gene and gene != label and known(gene):
                return gene
    return None
