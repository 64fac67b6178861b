"""Its tests also run where the package is not installed, as part of rlvr's."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))
