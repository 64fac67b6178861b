"""Plugins: files at the root and packages with entry points, found by name, and every way to be broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import rlvr
from rlvr import plugins, recipe
from rlvr.source import Source
from rlvr.types import Error
from rlvr.verifier import Verifier

ROOT = Path(rlvr.__file__).parent.parent
GOOD = """
from dataclasses import dataclass
from typing import ClassVar
from rlvr.types import Reason, Verdict
from rlvr.verifier import Verifier

@dataclass(frozen=True)
class Always(Verifier):
    name: ClassVar[str] = "{name}"

    def verify(self, question, completion):
        return Verdict(1.0, Reason.CORRECT)
"""


@pytest.fixture
def built_in(tmp_path, monkeypatch):
    """built_in(file, code): a file in a `verifiers` folder that rlvr looks into."""
    folder = tmp_path / "verifiers"
    folder.mkdir()
    monkeypatch.setattr(rlvr, "__path__", [*rlvr.__path__, str(tmp_path)])
    before = set(sys.modules)
    yield lambda file, code: (folder / file).write_text(code)
    for module in set(sys.modules) - before:
        if module.startswith("rlvr.verifiers."):
            del sys.modules[module]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """package(distribution, entry, code): a distribution on the path with one verifier entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution, entry, code="", group="rlvr.verifiers"):
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        (tmp_path / f"{distribution}_code.py").write_text(code)

    yield install
    for module in [m for m in sys.modules if m.endswith("_code")]:
        del sys.modules[module]


def test_built_ins_are_the_files_of_the_folder():
    files = {path.stem for path in (ROOT / "verifiers").glob("*.py") if not path.name.startswith("_")}
    assert {"format", "label", "mention", "neighbours"} <= files
    assert {name for name, origin in plugins.names("verifiers").items() if origin == "built in"} == files


@pytest.mark.parametrize("name", ["format", "label", "mention", "neighbours"])
def test_every_built_in_verifier_loads(name):
    plugin = plugins.load("verifiers", name, Verifier)
    assert issubclass(plugin, Verifier)
    assert (plugin.name, plugin.__module__) == (name, f"rlvr.verifiers.{name}")
    assert plugin.__doc__


def test_a_new_file_is_a_verifier_and_helpers_are_not(built_in):
    built_in("always.py", GOOD.format(name="always"))
    built_in("_common.py", "raise RuntimeError('never imported')")
    assert plugins.names("verifiers")["always"] == "built in"
    assert "_common" not in plugins.names("verifiers")
    assert plugins.load("verifiers", "always", Verifier).name == "always"


def test_a_package_brings_a_verifier(package):
    package("far", "distant = far_code:Always", GOOD.format(name="distant"))
    assert plugins.names("verifiers")["distant"] == "far"
    assert plugins.load("verifiers", "distant", Verifier).name == "distant"


@pytest.mark.parametrize(("wrong", "right"), [("lable", "label"), ("mentions", "mention"), ("neighbors", "neighbours")])
def test_the_nearest_name_is_suggested(wrong, right):
    with pytest.raises(Error, match=f"no verifiers plugin '{wrong}', did you mean '{right}'\\?; known: .*format"):
        plugins.load("verifiers", wrong, Verifier)


def test_nothing_far_is_suggested():
    assert plugins.suggest("zzz", ["label", "format"]) == ""
    with pytest.raises(Error, match=r"no verifiers plugin 'zzz'; known"):
        plugins.load("verifiers", "zzz", Verifier)


def test_a_name_offered_by_a_package_and_a_file_is_an_error(package):
    package("rival", "label = rival_code:Always", GOOD.format(name="label"))
    with pytest.raises(Error, match="'label' is offered by built in and by rival; uninstall one"):
        plugins.load("verifiers", "format", Verifier)


def test_a_name_offered_by_two_packages_is_an_error(package):
    package("one", "distant = one_code:Always", GOOD.format(name="distant"))
    package("two", "distant = two_code:Always", GOOD.format(name="distant"))
    with pytest.raises(Error, match=r"'distant' is offered by (one and by two|two and by one); uninstall one"):
        plugins.names("verifiers")


BROKEN = {
    "raises": ("raise RuntimeError('no licence')", "does not load: RuntimeError\\('no licence'\\)"),
    "not python": ("def (", "does not load: SyntaxError"),
    "raises an error of ours": ("from rlvr.types import Error\nraise Error('no table')", ": no table"),
    "needs what is not there": ("import a_package_nobody_has", "does not load: ModuleNotFoundError"),
    "ends the process": ("import sys\nsys.exit(3)", "does not load: SystemExit\\(3\\)"),
    "complains at length": ("raise ValueError('one\\ntwo')", "does not load: ValueError"),
    "is no dataclass": (GOOD.replace("@dataclass(frozen=True)\n", "").format(name="broken"), "put @dataclass"),
    "lacks the class": ("", "does not load: AttributeError"),
    "is a function": ("def Always(): ...", "is not a concrete subclass of Verifier"),
    "is another class": ("class Always: name = 'broken'", "is not a concrete subclass of Verifier"),
    "is abstract": (
        "from rlvr.verifier import Verifier\nclass Always(Verifier): name = 'broken'",
        "is not a concrete subclass of Verifier",
    ),
    "has tasks that are no tuple": (
        GOOD.format(name="broken") + "\n    tasks = 'perturbation/*'",
        "does not load: TypeError.*tasks is 'perturbation",
    ),
    "catches letters": (
        GOOD.format(name="broken") + "\n    catches = 'majority'",
        "does not load: TypeError.*catches is",
    ),
    "is of no kind": (GOOD.format(name="broken") + "\n    kind = 'Hard'", "does not load: TypeError.*kind 'Hard'"),
    "has a number for a version": (
        GOOD.format(name="broken") + "\n    version = 2",
        "does not load: TypeError.*version 2",
    ),
    "calls itself otherwise": (GOOD.format(name="other"), "calls itself 'other'; the names must agree"),
}


@pytest.mark.parametrize(("code", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_package_is_named_and_harms_nothing_else(package, code, message):
    package("bad", "broken = bad_code:Always", code)
    with pytest.raises(Error, match=f"verifiers plugin 'broken' .*{message}") as caught:
        plugins.load("verifiers", "broken", Verifier)
    assert "\n" not in str(caught.value)
    assert plugins.load("verifiers", "label", Verifier).name == "label"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "plugin 'mine' .*defines 0 concrete subclasses of Verifier; it must define one"),
        (GOOD.format(name="mine") + "\nclass Second(Always): ...", "defines 2 concrete subclasses of Verifier"),
        (GOOD.format(name="other"), "calls itself 'other'"),
        ("import a_package_nobody_has", "does not load: ModuleNotFoundError"),
    ],
)
def test_a_broken_file_is_named(built_in, code, message):
    built_in("mine.py", code)
    with pytest.raises(Error, match=message):
        plugins.load("verifiers", "mine", Verifier)


def test_an_entry_point_that_names_no_object_is_named(package):
    package("bad", "broken = not a module", "")
    with pytest.raises(Error, match=r"verifiers plugin 'broken' \(bad: not a module\) does not load"):
        plugins.load("verifiers", "broken", Verifier)


def test_a_third_partys_options_are_checked(package, tmp_path):
    """As a built-in's are: unknown keys with the nearest name, and types."""
    code = GOOD.format(name="distant").replace("    def verify", "    words: int = 5\n\n    def verify")
    package("far", "distant = far_code:Always", code)
    (tmp_path / "mine.yaml").write_text("model: m\nsource: {name: tcell_cytokines}\nverifiers: {distant: {}}\n")

    def opened(*overrides):
        return recipe.load(str(tmp_path / "mine.yaml"), overrides).open_verifiers()["distant"][0]

    assert opened("verifiers.distant.words=7").words == 7
    with pytest.raises(Error, match=r"verifier distant: unknown key 'wrds', did you mean 'words'\?"):
        opened("verifiers.distant.wrds=7")
    with pytest.raises(Error, match=r"verifier distant: words must be int, not 'many'"):
        opened("verifiers.distant.words=many")


def test_a_broken_plugin_harms_only_the_recipe_that_names_it(package, tmp_path):
    package("bad", "broken = bad_code:Always", "raise RuntimeError('no licence')")
    text = "model: m\nsource: {name: tcell_cytokines}\nverifiers: {NAME: {}}\n"
    (tmp_path / "fine.yaml").write_text(text.replace("NAME", "label"))
    (tmp_path / "broken.yaml").write_text(text.replace("NAME", "broken"))
    assert set(recipe.load(str(tmp_path / "fine.yaml")).open_verifiers()) == {"label"}
    with pytest.raises(Error, match=r"verifiers plugin 'broken' .*no licence"):
        recipe.load(str(tmp_path / "broken.yaml")).open_verifiers()


def test_kinds_do_not_mix(package):
    package("far", "distant = far_code:Always", GOOD.format(name="distant"), group="rlvr.sources")
    assert "distant" in plugins.names("data")
    assert "distant" not in plugins.names("verifiers")
    with pytest.raises(Error, match="is not a concrete subclass of Source"):
        plugins.load("data", "distant", Source)
