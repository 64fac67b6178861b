"""What shows nothing is known by its Unicode properties, on every Python that rlvr runs on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlvr.invisible import is_invisible, printable

ROOT = Path(__file__).parents[2]
BLANK = "\u115f\u1160\u3164\uffa0"
LATER = "\U00013441\U00013442"  # letters since Unicode 15
OTHERS = "\u200b\u2060\u00ad\u034f\u17b4\u17b5\u180b\u180e\u2800\u202e\ufe0f\ufeff\x1b\x7f\x9b"
OTHERS += "\U000e0041\U000e0100\U00016fe4"  # a tag, a selector, a filler
SEEN = "aZ9é中あ한ё\u2422\u0301 \n\t\u00a0٣Ⅷ"
# Which letters show nothing, as any Python sees them.
COUNT = """
import sys
sys.path.insert(0, sys.argv[1])
from rlvr.invisible import is_invisible
from rlvr.types import Completion
from rlvr.verifiers._common import thinks
letters = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isalnum()]
print(*(f"{ord(c):x}" for c in letters if is_invisible(c)), "/", *(f"{ord(c):x}" for c in letters
      if thinks(Completion("", c, None)) == is_invisible(c)))
"""


@pytest.mark.parametrize("char", BLANK + LATER + OTHERS)
def test_what_shows_nothing_is_invisible_and_spelt_out(char):
    assert is_invisible(char)
    assert printable(f"a{char}") == f"a⟨U+{ord(char):04X}⟩"


@pytest.mark.parametrize("char", SEEN)
def test_what_shows_something_or_parts_words_is_left_alone(char):
    assert not is_invisible(char)
    assert printable(f"a{char}") == f"a{char}"


def interpreters() -> list[str]:
    """The Pythons of this machine that rlvr supports, by what they say of themselves."""
    found = {}
    for minor in (11, 12, 13):
        homes = (Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python")
        for candidate in [*map(str, homes), shutil.which(f"python3.{minor}")]:
            if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
                found[minor] = candidate
    return list({**found, sys.version_info.minor: sys.executable}.values())


@pytest.mark.parametrize("python", interpreters())
def test_the_blank_letters_are_the_same_ones_on_every_python(python):
    """Unicode 14 (Python 3.11) does not have the last two: there they are no letters."""
    done = subprocess.run([python, "-c", COUNT, str(ROOT)], capture_output=True, text=True, check=True)
    blank, wrong = done.stdout.split("/")
    assert wrong.strip() == ""
    assert [chr(int(code, 16)) for code in blank.split()] in (list(BLANK), list(BLANK + LATER))
