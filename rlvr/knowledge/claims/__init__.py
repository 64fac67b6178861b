"""Statements of biology in a text, and what the knowledge base says of each.

lexicon = Lexicon.open("upstream")
[check(claim, lexicon.knowledge) for claim in find(thought, lexicon)]
"""

from rlvr.knowledge.claims.checker import Checked, check
from rlvr.knowledge.claims.finder import Claim, find
from rlvr.knowledge.claims.lexicon import Lexicon

__all__ = ["Checked", "Claim", "Lexicon", "check", "find"]
