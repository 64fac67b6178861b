"""The report of a run: one self-contained HTML page, the same tables as Markdown, and a summary for the terminal.

    rlvr report RUN [OTHER_RUN] [--markdown]

The page opens from disk, needs no network and no other file, and says plainly what an unfinished run lacks.
What the model wrote is hostile: Jinja escapes everything, `printable` spells out what is invisible, the texts travel as
JSON that the page's one script puts into text nodes, long texts lose their middle, and a content security
policy forbids every other script, foreign styles and loading.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from rlvr.evaluation.report import browser, curves, pairs, text
from rlvr.evaluation.report.content import gather
from rlvr.evaluation.report.rows import OUTCOMES
from rlvr.evaluation.report.terminal import terminal_summary
from rlvr.files import write_atomically
from rlvr.invisible import printable

__all__ = ["terminal_summary", "write_markdown", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("dom.js", "lister.js", "browser.js")
MARKDOWN = re.compile(r"[\\`*_{}\[\]#|~$@]|^[-+]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def write_report(run: Path, other: Path | None = None) -> Path:
    """Write `run/report.html` and return its path.

    Reads report.json, and where present metrics.jsonl, rollouts/*.parquet and evaluations/*.parquet; of `other`, a
    second run on the same questions, report.json and evaluations/*.parquet.
    Errors: no readable report.json; no question in common; the page cannot be written.
    """
    content = gather(run, other)
    prompts = browser.Prompts()
    page = (
        environment()
        .get_template("page.html.jinja")
        .render(
            content,
            css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(
                '"use strict";\n{' + "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS) + "}"
            ),
            panels=curves.panels(content["logged"]),
            browser=browser.browser(content["index"]),
            pairs=pairs.of_stages(content["index"], prompts),
            pairs_prompts=prompts.all,
            outcomes=OUTCOMES,
        )
    )
    write_atomically(run / "report.html", page.encode("utf-8"))
    return run / "report.html"


def write_markdown(run: Path, other: Path | None = None) -> Path:
    """Write `run/report.md`, the page's tables for a pull request or a notebook, and return its path."""
    page = environment(markdown=True).get_template("report.md.jinja").render(gather(run, other))
    write_atomically(run / "report.md", re.sub(r"\n{3,}", "\n\n", page).encode("utf-8"))
    return run / "report.md"


def environment(markdown: bool = False) -> jinja2.Environment:
    """Undefined names are errors, and every string printed passes `printable` first, then is escaped: by Jinja for
    HTML, sign by sign for Markdown."""

    def spelt_out(value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        return Markup(in_markdown(value)) if markdown else printable(value)

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=spelt_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": text.number, "count": text.count, "label": text.label, "words": text.words}
    env.filters |= {"embedded": embedded, "sha256": policy_hash}
    return env


def in_markdown(found: str) -> str:
    """One line that Markdown shows as it is: no markup, no HTML, no link, no new cell of a table."""
    shown = " ".join(printable(found).split())
    return MARKDOWN.sub(r"\\\g<0>", shown).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def embedded(found: Any) -> Markup:
    """JSON for a `<script type="application/json">`: no `<`, so that nothing in it can end the element."""
    shown = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(shown.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def policy_hash(source: str) -> Markup:
    """How a content security policy names the one style sheet or script that it allows."""
    return Markup("sha256-" + b64encode(sha256(source.encode()).digest()).decode())
