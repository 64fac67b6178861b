"""Renders `prompts/<task>.md`: a head (YAML) and two parts, system and user.

The head names the task, a version, the type of its answers (rlvr/answers.py) and, of the verifiers that can judge
them, those to begin with; a recipe chooses its own. The body is Jinja, run in a
sandbox, where an undefined name is an error. Only `question.fields` is in reach: the truth cannot leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rlvr.answers import Answers
from rlvr.answers import build as build_answers
from rlvr.plugins import folders
from rlvr.types import Error, Question, suggest
from rlvr.yaml_file import Strings, parse, read_text

Messages = list[dict[str, str]]
_ENV = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Template:
    """One task's prompt, the type of answer that it asks for, and the verifiers that a recipe may begin with."""

    task: str
    version: str
    answers: Answers
    system: str
    user: str
    path: Path
    digest: str  # sha256 of the file as it was read: an evaluation records which prompt it asked
    verifiers: tuple[str, ...] = ()

    @property
    def slot_words(self) -> Mapping[str, str]:
        """word -> label, where every question has the same closed set: what can be read at the answer slot."""
        return self.answers.words({})

    def render(self, question: Question) -> Messages:
        """The chat messages for one question, from its fields alone."""
        if question.task != self.task:
            raise Error(f"prompt {self.path.name} is for task {self.task}, question {question.id} is {question.task}")
        parts = (("system", self.system), ("user", self.user))
        return [{"role": role, "content": self._fill(text, question)} for role, text in parts if text]

    def _fill(self, text: str, question: Question) -> str:
        try:
            return _compiled(text).render(dict(question.fields)).strip()
        except Exception as error:  # a template is a user's code: it fails in any way
            # A syntax error's own text runs over several lines.
            said = error.message if isinstance(error, jinja2.TemplateError) else repr(error)
            raise Error(f"prompt {self.path}: question {question.id}: {said}") from error

    def check(self, question: Question) -> None:
        """Error where a question's true answer is none that this prompt allows: no completion could be right."""
        answer = question.truth.get("answer")
        if labels := list(self.answers.words(question.fields).values()):
            fits = answer in labels
        else:
            try:
                fits = self.answers.read(self.answers.write(answer), question.fields) is not None
            except (TypeError, ValueError, AttributeError):  # not of the type that is written, a text for a number
                fits = False
        if not fits:
            allowed = f"it allows {', '.join(labels)}{suggest(str(answer), labels)}" if labels else "see its head"
            raise Error(f"question {question.id}: prompt {self.path.name} has no answer {answer!r}; {allowed}")

    def word(self, value: Any) -> str:
        """What stands between the tags for a label, or for another value of `truth["answer"]`."""
        try:
            return self.answers.write(value)
        except Error as error:
            raise Error(f"prompt {self.path}: {error}") from error


@cache
def _compiled(text: str) -> jinja2.Template:
    return _ENV.from_string(text)


def load(name: str) -> Template:
    """The template of a task (`perturbation/direction`) or at a path (`my_prompt.md`)."""
    candidates = [Path(name)] if name.endswith(".md") else [f / f"{name}.md" for f in folders("prompts")]
    for path in candidates:
        if path.is_file():
            return _read(path)
    known = sorted({str(p.relative_to(f).with_suffix("")) for f in folders("prompts") for p in f.rglob("*.md")})
    raise Error(f"no prompt {name!r}{suggest(name, known)}; known: {', '.join(known)}")


def find(task: str) -> Template | None:
    """The template of a task; None for a task that a package brought, whose prompt its recipes name."""
    places = [path for folder in folders("prompts") if (path := folder / f"{task}.md").is_file()]
    return _read(places[0]) if places else None


def own(named: str | Iterable[str]) -> dict[str, Template]:
    """task -> template, of those that a recipe names in the place of their tasks' own."""
    loaded = map(load, (named,) if isinstance(named, str) else named)
    return {template.task: template for template in loaded}


def _read(path: Path) -> Template:
    digest = sha256(path.read_bytes()).hexdigest()
    pieces = read_text(path, f"prompt {path}").split("---\n", 2)
    if len(pieces) != 3 or pieces[0].strip():
        raise Error(f"prompt {path}: must open with a head between two lines of ---")
    head: Any = parse(pieces[1], f"prompt {path}: the head", Strings)
    if not isinstance(head, dict) or not {"task", "version", "answers"} <= head.keys():
        raise Error(f"prompt {path}: the head needs task, version and answers")
    answers = build_answers(head["answers"], f"prompt {path}")
    system, mark, user = pieces[2].lstrip().partition("\n# user\n")
    opening, _, system = system.partition("\n")
    if not mark or opening != "# system":
        raise Error(f"prompt {path}: the body needs a line '# system' and then a line '# user'")
    named = head.get("verifiers", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise Error(f"prompt {path}: verifiers in the head must be a list of names, as in [label, format]")
    return Template(
        str(head["task"]), str(head["version"]), answers, system.strip(), user.strip(), path, digest, tuple(named)
    )
