"""Writes a new verifier that works, its test and, if asked, a pip package around both, from `rlvr/scaffold/`.

rlvr verifiers new codon_bias              verifiers/codon_bias.py, tests/test_codon_bias.py
rlvr verifiers new codon_bias --package    rlvr-codon-bias/, to be installed and shipped on its own

All files are written, or none; nothing is overwritten.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path

import jinja2
import yaml

import rlvr
from rlvr import plugins
from rlvr.files import write_atomically
from rlvr.rewards.layer import EVALUATION_COLUMNS, OWN_COLUMNS, TRAINER_COLUMNS
from rlvr.types import Error

SCAFFOLD = Path(__file__).parent
NAME = re.compile(r"[a-z][a-z0-9_]*")


def new_file(name: str, to: Path) -> list[Path]:
    """verifiers/NAME.py and tests/test_NAME.py in the checkout of rlvr at `to`. Gives the files written.

    Errors: a bad or taken name, a file that is there, a folder that is no checkout.
    """
    if not (to / "verifiers").is_dir():
        raise Error(f"{to.resolve()} has no folder verifiers/: name a checkout of rlvr in --to, or say --package")
    return _write(
        to,
        name,
        {
            f"verifiers/{name}.py": "verifier.py.jinja",
            f"tests/test_{name}.py": "test.py.jinja",
        },
        packaged=False,
    )


def new_package(name: str, to: Path) -> list[Path]:
    """A pip package in the new folder `to`/rlvr-NAME. Gives the files written. Errors: as for `new_file`."""
    module = f"rlvr_{name}"
    return _write(
        to / f"rlvr-{name.replace('_', '-')}",
        name,
        {
            "pyproject.toml": "pyproject.toml.jinja",
            "README.md": "README.md.jinja",
            f"src/{module}/__init__.py": "verifier.py.jinja",
            f"src/{module}/py.typed": "py.typed.jinja",
            f"tests/test_{name}.py": "test.py.jinja",
        },
        packaged=True,
    )


def _write(folder: Path, name: str, files: Mapping[str, str], packaged: bool) -> list[Path]:
    """Fill the templates (`files`: path -> template) into the folder, all of them or none."""
    _refuse(name)
    there = next((path for path in files if (folder / path).exists()), None)
    if there is not None:
        raise Error(f"{folder / there} exists; choose another name, or remove it")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SCAFFOLD),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # what is written is Python
    )
    words = {
        "name": name,
        "cls": "".join(part.capitalize() for part in name.split("_")),
        "module": f"rlvr_{name}",
        "distribution": f"rlvr-{name.replace('_', '-')}",
        "version": rlvr.__version__,
        "packaged": packaged,
    }
    texts = {path: environment.get_template(template).render(words) for path, template in files.items()}
    for path, text in texts.items():
        write_atomically(folder / path, text.encode())
    return [folder / path for path in files]


def _refuse(name: str) -> None:
    """Error for a name that cannot be a verifier's."""
    # YAML reads `yes` and `null` as something else than names.
    parted = not name.endswith("_") and "__" not in name  # else it is no name for a distribution
    if not (NAME.fullmatch(name) and parted) or keyword.iskeyword(name) or yaml.safe_load(name) != name:
        raise Error(f"{name!r} cannot be a verifier's name: lower-case letters, digits and _, as in codon_bias")
    if name in OWN_COLUMNS + TRAINER_COLUMNS + EVALUATION_COLUMNS:
        raise Error(f"{name!r} is a column of the rollouts; choose another name")
    if (known := plugins.names("verifiers")).get(name):
        raise Error(f"there is a verifier {name!r} already ({known[name]}); choose another name")
