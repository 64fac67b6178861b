"""What shows nothing to a reader, and how it is spelt out.

    is_invisible("\\u200b")     True: whoever reads the page does not see it
    printable("a\\u200bb")      'a⟨U+200B⟩b'

Python holds no table of what Unicode calls default-ignorable or of the letters that are blank. Their categories tell
most of them, their names the rest, also those that a later version of Unicode adds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

LIMIT = 6000  # characters of any one string
MARKS = 3  # combining marks on one letter that are still a language and not a tower
_UNUSUAL = re.compile(r"[^\n\t -~]+")  # runs that must be looked at; the rest is plain ASCII
_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Words of the names of letters, marks and symbols that show nothing: HANGUL FILLER, EGYPTIAN HIEROGLYPH HALF BLANK,
# BRAILLE PATTERN BLANK, VARIATION SELECTOR-1, COMBINING GRAPHEME JOINER, KHMER VOWEL INHERENT AQ.
_WORDS = re.compile(r"\b(FILLER|BLANK|SELECTOR|JOINER|INHERENT)\b(?! SYMBOL)")


def is_invisible(char: str) -> bool:
    """Whether a character shows nothing, or turns the direction of others. White space is seen by what it parts."""
    if " " <= char <= "~" or char in "\n\t":
        return False
    return unicodedata.category(char) in _CATEGORIES or _WORDS.search(unicodedata.name(char, "")) is not None


def printable(text: str, limit: int = LIMIT) -> str:
    """The text with every invisible or direction-changing character spelt out, as in ⟨U+202E⟩ (a run of one as
    ⟨U+200B × 40⟩), and cut at `limit` characters with a note. Line feeds and tabs stay."""
    cut = len(text) - limit
    shown = _UNUSUAL.sub(lambda found: _spelt_out(found[0]), text[:limit].replace("\r\n", "\n"))
    return shown + (f" [… {cut:,} more characters not shown …]" if cut > 0 else "")


def _spelt_out(text: str) -> str:
    shown: list[str] = []
    for (char, hidden), run in groupby(_marked(text)):
        times = sum(1 for _ in run)
        shown.append(f"⟨U+{ord(char):04X}{f' × {times}' if times > 1 else ''}⟩" if hidden else char * times)
    return "".join(shown)


def _marked(text: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether it must be spelt out."""
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        yield char, marks > MARKS or is_invisible(char)
