"""The small words that make a statement: what says that a gene has, regulates, raises or lowers something."""

from __future__ import annotations

from typing import Literal

Relation = Literal["has", "regulates", "activates", "represses"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _forms(*verbs: str) -> set[str]:
    """Each verb with its regular forms."""
    found: set[str] = set()
    for verb in verbs:
        stem = verb.removesuffix("e")
        y = verb.endswith("y")
        found |= {verb, f"{stem}ing", f"{verb[:-1]}ies" if y else f"{verb}es" if verb.endswith("ss") else f"{verb}s"}
        found |= {f"{verb[:-1]}ied" if y else f"{stem}ed"}
    return found


_HAS = _forms(
    *("participate", "function", "act", "belong", "localize", "localise", "reside", "possess", "exhibit", "display"),
    *("encode", "contribute", "mediate", "catalyze", "catalyse", "perform", "operate", "work", "support", "need"),
    *("implicate", "associate", "link", "require", "involve", "locate", "include", "contain", "serve"),
)
_HAS |= {"has", "have", "having", "had", "role", "roles", "part", "member", "members", "component", "components"}
_HAS |= {"subunit", "subunits", "found", "necessary", "essential", "important", "critical", "crucial", "key"}
_HAS |= {"functional", "plays", "play", "played", "playing"}
_REGULATES = _forms("regulate", "control", "modulate", "govern") | {"controlled", "controlling"}
_REGULATES |= {"regulator", "regulators", "coregulator"}
_ACTIVATES = _forms("activate", "promote", "stimulate", "induce", "enhance", "upregulate", "increase", "facilitate")
_ACTIVATES |= _forms("boost", "transactivate", "raise", "elevate")
_ACTIVATES |= {"drive", "drives", "driving", "driven", "activator", "activators", "coactivator", "inducer"}
_REPRESSES = _forms("repress", "inhibit", "suppress", "block", "downregulate", "reduce", "decrease", "dampen")
_REPRESSES |= _forms("antagonize", "antagonise", "restrain", "attenuate", "silence", "lower", "limit")
_REPRESSES |= {"repressor", "repressors", "corepressor", "inhibitor", "suppressor"}

RELATIONS: dict[str, Relation] = {
    **dict.fromkeys(_HAS, "has"),
    **dict.fromkeys(_REGULATES, "regulates"),
    **dict.fromkeys(_ACTIVATES, "activates"),
    **dict.fromkeys(_REPRESSES, "represses"),
}
# `positively regulates`, `up-regulates`: what the word before makes of `regulates`.
SIGNS: dict[str, Relation] = {
    **dict.fromkeys(("positively", "positive", "up"), "activates"),
    **dict.fromkeys(("negatively", "negative", "down"), "represses"),
}
BE = _words("is are was were be been being")
AUXILIARY = BE | _words("does do did can could may might must will would has also directly itself") | {"not", "never"}
NEGATIONS = _words(
    "not no never neither nor nobody cannot hardly barely scarcely false untrue lack lacks lacking lacked "
    "without absent doesn don didn isn aren wasn weren hasn haven"
)
# `lacks kinase activity` both states and denies.
LACKS = _words("lack lacks lacking lacked absent")
# A new clause: what was said before it ends, its subject stays.
BREAKS = _words("; : whereas while but although though because so since therefore thus hence however then")
RELATIVES = _words("which that who")
# Nothing is stated before the next comma.
OPEN = _words("whether if unless suppose assuming")
# What is said of a perturbed gene is a prediction of the experiment, not a statement of the gene's function.
PERTURBED = _words(
    "knockdown knockdowns knockout knockouts knocked knocking loss depletion depleted depleting deletion deleted "
    "deleting silenced deficient deficiency null absence inhibited mutant mutants mutation overexpression "
    "overexpressed perturbation perturbing perturbed crispri crispra kd ko oe"
)
# In prose these speak of the experiment, though each may also be a gene's name (KO: KRT8, TF: transferrin).
EXPERIMENT = _words("KO KD OE WT TF")
# Words that may stand between the items of a list, or between a relation and its object, without ending either.
GLUE = _words(
    ", ( ) and or the a an of in to for as well also both with within at on its by into process processes pathway "
    "pathways activity complex genes gene protein proteins"
)
ARTICLES = _words("a an the")
# To quote a record (`is annotated to`) is not to state a fact of biology.
QUOTES = _words("annotated annotation annotations listed labelled labeled tagged")
# All of these; any other word says nothing here.
SMALL = PERTURBED | BREAKS | OPEN | RELATIVES | QUOTES | NEGATIONS | BE | RELATIONS.keys() | GLUE | SIGNS.keys()
