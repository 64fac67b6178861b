"""The page of `rlvr predict`: one self-contained file that opens from disk and runs no script."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from rlvr.evaluation.report import TEMPLATES, environment
from rlvr.predict.predicted import Predicted

SHOWN = 300  # rows: a phone has to show them; the CSV holds all
LISTED = 10  # readouts whose rates are told


def rendered(found: Predicted) -> str:
    """Every string is escaped, and what is invisible in it spelt out (rlvr.evaluation.report.environment)."""
    bases = found.rows[["readout", "base_effect", "base_up"]].drop_duplicates("readout").head(LISTED)
    page = (Path(__file__).parent / "page.html.jinja").read_text(encoding="utf-8")
    return (
        environment()
        .from_string(page)
        .render(
            css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            context=found.context,
            by=found.by,
            rows=found.rows.head(SHOWN).to_dict("records"),
            total=len(found.rows),
            readouts=sorted(set(found.rows["readout"])),
            bases=list(bases.itertuples(index=False, name=None)),
            calls=found.calls(),
            abstained=found.abstained(),
            quality=found.quality,
        )
    )
