"""Which verifiers share a process and their questions: those that rlvr ships, whose code came with it.

Every other one is kept apart, also a file that somebody put beside them in `verifiers/`: a name is entered here once
its code was read.
"""

from __future__ import annotations

import importlib

from rlvr.verifier import Verifier

SHIPPED = frozenset(
    {
        "batch_unique",
        "brier",
        "citation",
        "claims",
        "direction",
        "format",
        "label",
        "length",
        "log_score",
        "mention",
        "motif",
        "neighbours",
        "ontology",
        "oracle",
        "orf",
        "preference",
        "profile",
        "ranking",
        "reading",
        "repetition",
        "response",
        "reverse_complement",
        "rouge",
        "set_overlap",
        "soft_brier",
        "translation",
        "variant_effect",
    }
)


def is_shipped(verifier: Verifier) -> bool:
    """Whether the verifier's class is one of rlvr's own files, and not one that says so."""
    cls = type(verifier)
    package, _, stem = cls.__module__.rpartition(".")
    if package != "rlvr.verifiers" or stem not in SHIPPED:
        return False
    return vars(importlib.import_module(cls.__module__)).get(cls.__name__) is cls
