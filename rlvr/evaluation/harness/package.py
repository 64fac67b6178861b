"""`rlvr harness RECIPE --to DIR`: a recipe as an environment package of PrimeIntellect's verifiers.

    package("quickstart", [], Path("rlvr-quickstart"))   # pip install it, run it, or push it to their hub

Nothing of PrimeIntellect's is needed to write it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

import rlvr
from rlvr.files import folder_aside
from rlvr.recipe import load
from rlvr.types import Error

NAME = re.compile(r"[a-z][a-z0-9-]{0,98}[a-z0-9]")


def package(recipe: str, overrides: Sequence[str], to: Path) -> Path:
    """Write the folder `to`, whole or not at all; its name is the package's.

    Errors: a folder that exists, a name that no package can have, what a recipe may err in.
    """
    read = load(recipe, overrides)
    if not NAME.fullmatch(to.name):
        raise Error(f"{to.name!r} cannot name a package: lower-case letters and digits, parted by hyphens")
    if to.exists():
        raise Error(f"{to} exists: name another folder, or move it away; nothing is overwritten")
    module = to.name.replace("-", "_")
    with folder_aside(to) as side:
        (side / module).mkdir()
        (side / "pyproject.toml").write_text(PROJECT.format(name=to.name, module=module, version=rlvr.__version__))
        (side / "README.md").write_text(README.format(name=to.name, recipe=json.dumps(Path(recipe).stem)))
        (side / module / "__init__.py").write_text(MODULE.format(name=to.name))
        (side / module / "recipe.yaml").write_text(yaml.safe_dump(read.to_dict(), sort_keys=False))
    return to


PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
description = "Questions of biology with verifiable rewards"
requires-python = ">=3.11"
dependencies = ["rlvr[harness]>={version}"]
tags = ["biology", "single-turn", "train", "eval"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""

README = """\
# {name}

Questions, prompts and verifiers of the rlvr recipe {recipe}, as an environment of PrimeIntellect's verifiers.
The reward is the recipe's weighted sum; every verifier's score is a metric. Licences of the data: `rlvr data list`.

    pip install . && vf-eval {name} -m MODEL -n 20 -r 4
"""

MODULE = '''\
"""{name}: the recipe beside this file as an environment."""

from pathlib import Path

import verifiers.v1 as vf
from rlvr.evaluation.harness.prime import Questions, QuestionTask, RecipeConfig


class Config(RecipeConfig):
    recipe: str = str(Path(__file__).parent / "recipe.yaml")


class Environment(Questions, vf.Taskset[QuestionTask, Config]):
    pass


__all__ = ["Environment"]
'''
