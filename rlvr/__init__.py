"""rlvr: reinforcement learning from verifiable rewards for biological reasoning.

    rlvr --help
    accelerate launch train.py --config quickstart

In a checkout the folders a biologist opens (`verifiers/`, `prompts/`, `data/`) stand at the root;
installed, they are `rlvr/verifiers` and so on. Appending the root to `__path__` makes both the same
package, so that no generic name such as `verifiers` is ever imported from the top level.
"""

from pathlib import Path

__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "train.py").is_file():
    __path__.append(str(_root))
