"""The report: what it says, that hostile text stays inert, that an unfinished run is said and not a crash."""

from __future__ import annotations

import base64
import html.parser
import json
import os
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rlvr.cli import app
from rlvr.evaluation.report import (
    curves,
    extras,
    pairs,
    plots,
    rows,
    scores,
    terminal_summary,
    write_markdown,
    write_report,
)
from rlvr.evaluation.report.browser import Prompts, browser, messages
from rlvr.evaluation.report.marks import facts, mark
from rlvr.evaluation.report.text import Metric, clip, duration, number
from rlvr.evaluation.results.headline import headline
from rlvr.invisible import printable
from rlvr.types import Error
from tests.run_directory import CHECKED, CLAIMS, HOSTILE, MEGABYTE, TASK, everything, make, report


class Page(html.parser.HTMLParser):
    """What a browser would see: elements with attributes, and the text outside the style sheet."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.embedded: dict[str, Any] = {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        _, attributes = self.elements[-1] if self.elements else ("", {})
        if self.cdata_elem and attributes.get("type") == "application/json":
            self.embedded[attributes["id"] or ""] = json.loads(data)
        elif not self.cdata_elem:  # neither style nor script
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make(tmp_path_factory.mktemp("hostile") / "run"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make(tmp_path_factory.mktemp("clean") / "run", hostile=False))


def test_hostile_text_adds_no_element_and_no_attribute(hostile: Path, clean: Path) -> None:
    page, allowed = Page(hostile), Page(clean)
    assert "<script>alert(1)</script>" in page.text, "the hostile text is not there, so nothing was tested"
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in allowed.elements} - {"iframe", "svg"}
    known = {name for _, attributes in allowed.elements for name in attributes}
    found = {name for _, attributes in page.elements for name in attributes}
    assert found <= known and not {name for name in found if name.startswith("on") or name == "style"}
    assert len(page.all("style")) == 1 and len(page.all("script")) == len(allowed.all("script")) == 3
    assert any("</pre>" in str(row) for row in page.embedded["rollouts-data"]["rows"])


def test_page_loads_nothing_and_links_only_to_the_doi(hostile: Path) -> None:
    page = Page(hostile)
    loads = [value for _, a in page.elements for name in ("src", "srcset", "data", "poster") if (value := a.get(name))]
    assert loads and all(value.startswith("data:image/svg+xml;base64,") for value in loads)
    links = [a["href"] or "" for a in page.all("a")]
    assert [link for link in links if not link.startswith("#")] == ["https://doi.org/10.48550/arXiv.2502.21290"]
    assert not page.all("link") and not [a for a in page.all("script") if "src" in a]
    assert "url(" not in hostile.read_text(encoding="utf-8") and "@import" not in hostile.read_text(encoding="utf-8")
    policy = next(a["content"] or "" for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and policy.count("sha256-") == 2


def test_plots_hold_no_script_and_no_foreign_reference(hostile: Path) -> None:
    images = [a["src"] or "" for a in Page(hostile).all("img")]
    assert len(images) >= 10
    shown = ""
    for image in images:
        root = ET.fromstring(base64.b64decode(image.partition(",")[2]))
        names = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert not names & {"script", "foreignObject", "image", "a", "iframe"}
        references = [v for e in root.iter() for k, v in e.attrib.items() if k.rpartition("}")[2] == "href"]
        assert all(reference.startswith("#") for reference in references)
        shown += "".join(root.itertext())
    assert "<script>" in shown and "$x$" in shown  # the hostile names are drawn, as text


def test_invisible_characters_are_spelt_out(hostile: Path) -> None:
    source = hostile.read_text(encoding="utf-8")
    hidden = {c for c in source if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t"}
    assert hidden == set()
    assert "⟨U+202E⟩" in source and "⟨U+200B⟩" in source and "⟨U+001B⟩" in source


def test_page_is_bounded_although_a_completion_is_a_megabyte(hostile: Path) -> None:
    page = Page(hostile)
    assert hostile.stat().st_size < 1_500_000
    texts = [str(row["c"]) for row in page.embedded["rollouts-data"]["rows"]]
    assert max(map(len, texts)) < 40_000 and any("characters are not in this page" in text for text in texts)
    assert len(MEGABYTE) > 900_000


def test_page_opens_with_the_verdict_and_shows_every_part(clean: Path) -> None:
    text = " ".join(Page(clean).text.split())
    opening = text.index("No. The trained model does not beat the best shortcut (evidence vote): pooled AUROC −0.058")
    reads = text.index("The policy reads its evidence")
    assert opening < reads < text.index("Untrained")
    for part in (
        "Warm start + GRPO",
        "0.803",
        "0.748 to 0.858",
        "Readout frequency",
        "AUROC, per gene n 57",
        "n 240",
        "Paired comparisons",
        "not told apart from 0",
        "Generate",
        "wrong → right",
        "All 152 rollouts of this run.",
        "9f2c9f2c",
        "4be1d02",
        "complex partner",
        "ICLR 2025",
        "non-commercial",
        "accelerate launch train.py",
        "trl 1.16.0",
        "3 min 32 s",
        "AUROC, per gene: mean 0.500, 97.5 % point 0.571 (n 57)",
        "MCC",
    ):
        assert part in text, part
    assert "Missing from this run" not in text


def test_equal_runs_give_equal_pages(clean: Path) -> None:
    before = clean.read_bytes()
    assert write_report(clean.parent).read_bytes() == before


def test_plots_say_in_words_what_they_show(clean: Path) -> None:
    alts = [a["alt"] or "" for a in Page(clean).all("img")]
    assert any("AUROC, pooled with 95 % intervals" in alt and "Evidence vote 0.861 (0.81" in alt for alt in alts)
    assert any(alt.startswith("Mean verdicts over steps 1 to 60") and "neighbours" in alt for alt in alts)
    assert all(alts)


def test_boxes_that_scroll_and_details_are_in_keyboard_reach(clean: Path) -> None:
    page = Page(clean)
    boxes = [a for a in page.all("div") if (a.get("class") or "").startswith("scroll")]
    assert len(boxes) >= 4 and all(a.get("tabindex") == "0" and a.get("aria-label") for a in boxes)
    assert len(page.all("summary")) == len(page.all("details")) >= 5


def run_with(tmp_path: Path, found: object) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.json").write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    return run


def test_a_run_that_has_only_begun_says_what_it_lacks(tmp_path: Path) -> None:
    found = {"recipe_name": "quickstart", "split": "validation", "before": report()["before"], "panel": None}
    text = " ".join(Page(write_report(run_with(tmp_path, found))).text.split())
    for part in (
        "Missing from this run",
        "warm start was not evaluated",
        "no shortcuts were scored",
        "metrics.jsonl is absent",
        "no rollouts were kept",
        "Not known: the run holds no comparison",
        "No training was logged",
        "No audit is recorded",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"before": None, "baselines": None, "comparisons": None, "beats_best_shortcut": None, "seconds": None},
        {"before": {"n": 3, TASK: {"auroc": {"value": float("nan"), "low": None, "high": None, "n": 3}}}},
        {"after": {TASK: {"auroc": {"value": 0.7}}}, "beats_best_shortcut": {TASK: {}}, "ledger": ["free text"]},
    ],
)
def test_thin_and_odd_reports_still_give_a_page(tmp_path: Path, found: dict[str, Any]) -> None:
    run = run_with(tmp_path, found)
    assert "Does the model beat the best shortcut?" in Page(write_report(run)).text
    assert "nan" not in terminal_summary(found).lower()


@pytest.mark.parametrize("content", [None, "", "{half", "[1]", '"text"', "[" * 100_000])
def test_no_readable_report_json_is_one_line(tmp_path: Path, content: str | None) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if content is not None:
        (run / "report.json").write_text(content, encoding="utf-8")
    with pytest.raises(Error) as caught:
        write_report(run)
    assert "\n" not in str(caught.value) and "report.json" in str(caught.value)
    assert not (run / "report.html").exists()


def test_broken_metrics_and_rollouts_are_left_out_and_named(tmp_path: Path) -> None:
    run = make(tmp_path / "run", hostile=False)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as out:
        out.write('{"phase": "grpo", "step": 61, "rew')
    (run / "rollouts" / "step_000011_rank0.parquet").write_bytes(b"PAR1 cut short")
    text = " ".join(Page(write_report(run)).text.split())
    assert "metrics.jsonl: 1 broken line left out" in text
    assert "step_000011_rank0.parquet (ArrowInvalid) could not be read" in text
    assert "All 152 rollouts" in text


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(tmp_path, report())
    before = write_report(run).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Error, match="No space left"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert sorted(path.name for path in run.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize(
    ("low", "high", "claims", "reading", "than"),
    [
        (0.001, 0.1, "The policy adds to its evidence", "above 0", "better"),
        (0.0, 0.1, "The policy reads its evidence", "not told apart from 0", "no better"),
        (-0.2, 0.1, "The policy reads its evidence", "not told apart from 0", "no better"),
        (-0.2, -0.001, "The policy reads its evidence", "below 0", "worse"),
        (None, None, "The policy reads its evidence", "no interval", "no better"),
    ],
)
def test_reasoning_is_claimed_only_above_the_evidence_vote(
    low: float | None, high: float | None, claims: str, reading: str, than: str
) -> None:
    found = report()
    figure = {"value": 0.05, "low": low, "high": high, "n": 240}
    found["comparisons"]["after - evidence_vote"][TASK] = {"auroc": figure}
    claim, _, margin = scores.headlines(found)[1].text.partition(":")
    assert claim == claims and margin.endswith(f", {reading}.")
    found["beats_best_shortcut"][TASK] = {"shortcut": "evidence_vote", "metric": "auroc", "verdict": "no", **figure}
    assert scores.headlines(found)[1].text.startswith(f"{claims}: it is {than} than a vote of")


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.01, 0.1, None),
        (-0.1, 0.1, "The policy reads its evidence."),
        (-0.2, -0.1, "The policy reads its evidence, less well than a vote of it does."),
        (None, None, "The policy reads its evidence."),
    ],
)
def test_the_headline_says_when_the_vote_reads_the_same_evidence_better(
    low: float | None, high: float | None, says: str | None
) -> None:
    figure = {"value": 0.0, "low": low, "high": high, "n": 240}
    comparisons = {"after - majority": {"auroc": figure}, "after - evidence_vote": {"auroc": figure}}
    sentence, _ = headline(TASK, "after", {"metric": "auroc", "best": "majority", "comparisons": comparisons})
    assert ("reads its evidence" in sentence) == (says is not None) and (says or "") in sentence


def test_yes_is_said_plainly() -> None:
    found = report()
    found["beats_best_shortcut"][TASK] |= {"verdict": "yes", "value": 0.04, "low": 0.01, "high": 0.07}
    first = scores.headlines(found)[0]
    assert first.answer == "Yes"
    assert (
        "beats the best shortcut (evidence vote): pooled AUROC +0.040 (95\u00a0% interval 0.010 to 0.070" in first.text
    )


def test_the_report_says_when_the_policy_was_not_compared_with_the_vote() -> None:
    found = report()
    del found["comparisons"]["after - evidence_vote"]
    assert scores.headlines(found)[1].text == "Whether the policy does more than read its evidence was not measured."


@pytest.mark.parametrize(("stage", "model"), [("before", "untrained model"), ("warm_start", "warm-started model")])
def test_an_unfinished_run_is_judged_by_its_last_stage(stage: str, model: str) -> None:
    found = report()
    for later in ("after", "warm_start")[: 2 if stage == "before" else 1]:
        del found[later]
    found["comparisons"] = {f"{stage} - evidence_vote": {TASK: {"auroc": {"value": 0.1, "low": 0.05, "high": 0.2}}}}
    first, second = scores.headlines(found)
    assert first.text.startswith(f"The {model} does not beat") and second.text.startswith("The policy adds")


def test_further_metrics_and_lesser_comparisons_are_told_apart() -> None:
    found = report()
    assert [column.name for column in scores.table(found, TASK, more=True).columns] == ["MCC"]
    main = {(d.pair, d.metric) for d in scores.differences(found) if d.main}
    rest = {(d.pair, d.metric) for d in scores.differences(found) if not d.main}
    assert ("Warm start + GRPO − evidence vote", "AUROC, per gene") in main
    assert rest == {("Warm start + GRPO − majority", "AUROC, pooled"), ("Warm start + GRPO − majority", "MCC")}


def test_the_label_none_is_not_mistaken_for_no_answer(tmp_path: Path) -> None:
    run = run_with(tmp_path, report())
    (run / "evaluations").mkdir()
    for stage, answer in (("before", None), ("after", "none")):
        row = {"question_id": "q", "truth": "none", "completion": "c", "answer": answer, "p/none": 0.5, "task": TASK}
        pd.DataFrame([row]).to_parquet(run / "evaluations" / f"{stage}.parquet")
    page = Page(write_report(run))
    assert "unparsed → right 1" in page.text.replace("\xa0", " ")
    (pair,) = page.embedded["answers-data"]["rows"]
    assert pair["a"] == [[None, 0.5], ["none", 0.5]] and pair["o"] == "unparsed → right"


def test_column_shows_n_once_where_it_is_the_same_and_per_cell_where_not() -> None:
    found = report()
    found["before"][TASK]["accuracy"]["n"] = 200
    columns = {column.key: column.n for column in scores.table(found, TASK).columns}
    assert columns == {
        "parse_rate": 240,
        "accuracy": None,
        "macro_f1": 240,
        "auroc": 240,
        "auroc_macro_gene": 57,
        "auroc_strict": 240,
    }


@pytest.mark.parametrize("width", [60, 80, 120])
def test_terminal_summary_fits_and_carries_no_control_character(width: int) -> None:
    found = report()
    found["baselines"]["\x1b[2J\u202e[bold]"] = found["baselines"]["majority"]
    shown = terminal_summary(found, width)
    assert max(map(len, shown.splitlines())) <= width
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "[bold]" in "".join(shown.split())  # no markup of the terminal's, and folded where it does not fit
    assert shown.startswith("No. The trained model does not beat the best shortcut") and ".80 (.75–.86)" in shown


@given(st.text(st.characters(codec=None), max_size=200))
def test_printable_leaves_nothing_invisible(text: str) -> None:
    shown = printable(text)
    assert shown.encode("utf-8").decode("utf-8") == shown  # no lone surrogate is left
    assert not [
        c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and c not in "\n\t"
    ]
    assert printable(shown, 10_000) == shown


@given(st.text("ab\n", max_size=3000), st.integers(0, 50), st.integers(1, 50), st.integers(3, 40))
def test_clip_accounts_for_every_character(text: str, head: int, tail: int, lines: int) -> None:
    part = clip(text, head, tail, lines)
    assert len(part.head) + part.omitted + len(part.tail) == len(text) and part.omitted >= 0
    assert text.startswith(part.head) and text.endswith(part.tail)
    assert len(part.head) <= head + tail and part.head.count("\n") < lines + lines // 3


def test_a_run_of_hidden_characters_is_counted() -> None:
    assert printable("a" + "\u200b" * 40 + "b\x00c\r\nd") == "a⟨U+200B × 40⟩b⟨U+0000⟩c\nd"
    assert printable("x" * 30, limit=10) == "x" * 10 + " [… 20 more characters not shown …]"


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.integers(1, 30))
def test_running_mean_is_a_mean_of_neighbours(values: list[float], span: int) -> None:
    found = plots.running_mean(np.array(values), span)
    expected = [np.mean(values[max(0, i - (span - 1) // 2) : i + span // 2 + 1]) for i in range(len(values))]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_long_curves_are_binned_to_the_same_mean() -> None:
    steps, values = plots.binned(np.arange(6000), np.sin(np.arange(6000)))
    assert len(steps) == len(values) == plots.POINTS
    assert values.mean() == pytest.approx(np.sin(np.arange(6000)).mean())


def test_a_step_logged_again_after_a_resume_counts_once_and_the_phases_stay_apart() -> None:
    rows = [{"phase": "grpo", "step": s, "reward": r} for s, r in ((1, 0.1), (2, 0.2), (2, 0.9), (3, float("nan")))]
    line = curves.series([*rows, {"phase": "warm_start", "step": 9, "reward": 1.0}, {"step": "x"}], "grpo", "reward")
    assert line is not None and line[0].tolist() == [1, 2] and line[1].tolist() == [0.1, 0.9]
    assert curves.series(rows, "grpo", "entropy") is None


def test_step_time_shares_add_up() -> None:
    rows = [{"phase": "grpo", "step": s, "time/generate": 3.0, "time/update": 9.0} for s in (1, 2)]
    assert [(p.name, p.share, p.n) for p in curves.step_parts(rows)] == [("generate", 0.25, 2), ("update", 0.75, 2)]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"answer": None, "label/reason": "unparsed"}, "unparsed"),
        ({"answer": "up", "label/reason": "correct"}, "right"),
        ({"answer": "up", "label/reason": "wrong", "other/reason": "correct"}, "wrong"),
        ({"answer": "up", "format/reason": "well_formed"}, "ungraded"),
        ({"answer": "up", "truth": "up", "label/reason": "wrong"}, "right"),  # the truth decides where it is known
        ({"answer": "[2,1]", "truth": "[2, 1]"}, "right"),
        ({"answer": "0.9", "truth": "up", "task": "perturbation/effect_probability"}, "ungraded"),
    ],
)
def test_outcome_of_a_rollout(row: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    frame = pd.DataFrame([{"question_id": "q", "task": TASK, **row}])
    frame.to_parquet(tmp_path / "evaluations" / "after.parquet")
    found, unread = rows.index(tmp_path)
    assert found["outcome"].tolist() == [expected] and not unread


@pytest.mark.parametrize("kept", [None, "", "{half", "[" * 100_000, "3", "[3, null]", '{"a": 1}'])
def test_evidence_that_cannot_be_read_is_none(kept: str | None) -> None:
    assert facts("claims", kept) == []


def test_checked_statements_are_marked_where_they_stand_and_say_where_they_are_written() -> None:
    pieces = mark(f"First. {CLAIMS} Last.", facts("claims", json.dumps(CHECKED)))
    assert "".join(p if isinstance(p, str) else p[0] for p in pieces) == f"First. {CLAIMS} Last."
    marked = {piece[0]: piece[1:] for piece in pieces if not isinstance(piece, str)}
    assert {text: status for text, (status, _) in marked.items()} == {
        "RPS19 takes part in ribosome biogenesis": "supported",
        "RPS19 has protein kinase activity": "contradicted",
        "RPL3 is part of RNA splicing": "unknown",
    }
    assert "GO:0042254 IDA PMID:17517689; claims" in marked["RPS19 takes part in ribosome biogenesis"][1]


def test_identifiers_and_named_genes_are_marked_and_absent_ones_are_not() -> None:
    cited = [{"source": "knowledge base", "record": "GO:9", "statement": "no such identifier", "supports": False}]
    named = [
        {"source": "thought", "record": g, "statement": f"{g} is named", "supports": g == "LAT"} for g in ("LAT", "ZAP")
    ]
    found = [*facts("citation", json.dumps(cited)), *facts("mention", json.dumps(named))]
    pieces = [piece for piece in mark("LATS and LAT (GO:9, GO:99) and (.*", found) if not isinstance(piece, str)]
    assert [(text, status) for text, status, _ in pieces] == [("LAT", "named"), ("GO:9", "against")]


@given(st.text("aG9:. \n", max_size=80), st.lists(st.text("aG9:. ", min_size=1, max_size=6), max_size=4))
def test_marked_pieces_are_the_text(text: str, records: list[str]) -> None:
    kept = [{"source": "s", "record": r, "statement": f"{r} has {r}: supported", "supports": True} for r in records]
    kept += [{"source": "s", "record": r, "statement": "x", "supports": False} for r in records]
    assert "".join(p if isinstance(p, str) else p[0] for p in mark(text, facts("v", json.dumps(kept)))) == text


@given(st.text("ab \n", max_size=300), st.text("ab \n", max_size=300))
def test_a_word_diff_holds_both_texts(first: str, last: str) -> None:
    pieces = pairs.words(first, last)
    assert "".join(text for kind, text in pieces if kind != "+") == first
    assert "".join(text for kind, text in pieces if kind != "-") == last
    if first == last:
        assert all(kind == "=" for kind, _ in pieces)


def many(run: Path, groups: int, failed: set[int]) -> Path:
    """Groups of four rollouts of two tasks, the first task ten times as often; a verifier failed in some groups."""
    (run / "rollouts").mkdir(parents=True)
    lines = [
        {
            "step": group // 10, "group": group % 10, "question_id": f"q{group}", "answer": "up",
            "completion": f"c{place}", "task": "a" if group % 11 else "b", "prompt": f"p{group}", "reward": 0.5,
            "advantage": 0.0, "label": 1.0, "label/reason": "correct",
            "label/error": "boom" if group in failed and place == 2 else None,
        }
        for group in range(groups) for place in range(4)
    ]  # fmt: skip
    half = len(lines) // 2
    for name, part in (("step_1", lines[:half]), ("step_2", lines[half:])):
        pd.DataFrame(part).to_parquet(run / "rollouts" / f"{name}.parquet", row_group_size=50)
    return run


def test_a_sample_is_of_whole_groups_holds_every_failure_and_every_task_and_says_so(tmp_path: Path) -> None:
    found, _ = rows.index(many(tmp_path / "run", 220, {3, 77, 150}))
    made = browser(found, limit=100)
    assert made is not None
    kept = made.data["rows"]
    assert made.shown == (
        "100 of 880 rollouts, in whole groups chosen by hash, all of those in which a verifier failed included."
    )
    units = pd.Series([row["u"] for row in kept]).value_counts()
    assert set(units) == {4} and sum(row["e"] for row in kept) == 3
    tasks = pd.Series([row["t"] for row in kept]).value_counts()
    assert tasks["b"] >= 40  # a rare task has its share
    assert {row["q"] for row in kept} >= {"q3", "q77", "q150"}
    assert all(made.data["prompts"][row["p"]] == [("prompt", f"p{row['q'][1:]}")] for row in kept)
    again = browser(found, limit=100)
    assert again is not None and again.data == made.data
    whole = browser(found)
    assert whole is not None and whole.shown == "All 880 rollouts of this run." and len(whole.data["rows"]) == 880


def test_pairs_of_a_large_run_show_changed_answers_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "LIMIT", 10)
    (tmp_path / "evaluations").mkdir()
    for stage in ("before", "after"):
        answers = ["up" if i % 20 and stage == "before" else "down" for i in range(200)]
        frame = pd.DataFrame({"question_id": [f"q{i}" for i in range(200)], "task": TASK, "answer": answers})
        frame.assign(truth="down", completion="c").iloc[:100].to_parquet(tmp_path / "evaluations" / f"{stage}.parquet")
    page_pairs = pairs.of_stages(rows.index(tmp_path)[0], Prompts())
    assert page_pairs is not None and page_pairs.changes == {"right → right": 5, "wrong → right": 95}
    assert page_pairs.shown == (
        "100 questions were answered by both; 95 answers changed. Shown are 10, 10 of them changed, chosen by hash."
    )


def test_confusion_counts_what_did_not_parse_and_folds_rare_labels(tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    lines = [{"truth": "up", "answer": a} for a in ("up", "up", "down", None, "sideways")]
    lines += [{"truth": "down", "answer": "down"}]
    frame = pd.DataFrame([{"question_id": f"q{i}", "task": TASK, **line} for i, line in enumerate(lines)])
    frame.to_parquet(tmp_path / "evaluations" / "after.parquet")
    (found,) = extras.confusions(rows.index(tmp_path)[0], TASK)
    assert found.truths == ["down", "up"] and found.answers == ["down", "up", "other", "unparsed"]
    assert found.counts == [[1, 0, 0, 0], [1, 2, 1, 1]] and found.shade(0, 0) == 9
    frame["truth"] = frame["question_id"]  # an open task: every truth its own
    frame.to_parquet(tmp_path / "evaluations" / "after.parquet")
    assert extras.confusions(rows.index(tmp_path)[0], TASK) == []


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("two")
    run, other = (make(folder / name, hostile=False, seed=seed) for name, seed in (("run", 0), ("other", 3)))
    (run / "report.json").write_text(json.dumps(everything()))
    return run, other


def test_page_and_markdown_show_all_that_an_evaluation_may_add(two_runs: tuple[Path, Path]) -> None:
    page = Page(write_report(*two_runs))
    text = " ".join(page.text.split())
    markdown = " ".join(write_markdown(*two_runs).read_text(encoding="utf-8").split())
    for part in (
        "Unfinished: 200 of 240 (after, out of minutes).",
        "Against other",
        "all 24 answers are to the same questions",
        "24 questions were answered by both; 12 answers changed",
        "few (at most 12)",
        "Gain over the best shortcut",
        "too few clusters: 4",
        "fact precision".capitalize(),
        "thought swapped",
        "entropy",
        "Brier",
    ):
        assert part in text and part in markdown, part
    assert "0.004" in text and "0.090" in text  # p, Holm and what is detectable
    assert text.index("Unfinished: 200 of 240") < text.index("No. The trained model")
    assert any("probability said" in (image["alt"] or "") for image in page.all("img"))
    assert len(page.embedded["versus-data"]["rows"]) == 24


def test_the_command_names_what_it_wrote(two_runs: tuple[Path, Path]) -> None:
    run, other = two_runs
    done = CliRunner().invoke(app, ["report", str(run), str(other), "--markdown"])
    assert done.exit_code == 0 and done.stdout.split() == [str(run / "report.html"), str(run / "report.md")]


def test_runs_that_share_no_question_are_refused(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = make(tmp_path / "third", hostile=False)
    for path in (other / "evaluations").glob("*.parquet"):
        frame = pd.read_parquet(path)
        frame["question_id"] = "other:" + frame["question_id"]
        frame.to_parquet(path)
    with pytest.raises(Error, match="none in common"):
        write_report(two_runs[0], other)


def test_faults_of_the_machinery_come_before_any_number() -> None:
    found = {**report(), "inconsistencies": ["after: 3 of 9 answers are not what the parser reads"]}
    assert terminal_summary(found).startswith("Warning. Two ways to count the same thing disagree")


def test_markdown_keeps_hostile_text_inert(hostile: Path) -> None:
    text = write_markdown(hostile.parent).read_text(encoding="utf-8")
    assert "<script" not in text and "<img" not in text and "http://evil" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    tables = [line for line in text.splitlines() if line.startswith("| ") and "Majority" in line]
    assert tables and len({line.replace("\\|", "").count("|") for line in tables}) <= 3
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"}


def test_prompt_is_read_as_text_messages_or_json() -> None:
    turns = [{"role": "user", "content": "why?"}]
    for prompt in (turns, np.array(turns, dtype=object), json.dumps(turns)):
        assert messages(prompt) == [("user", "why?")]
    assert messages("[not json") == [("prompt", "[not json")]


@pytest.mark.parametrize(("found", "shown"), [(0.5, "0.500"), (-0.0001, "0.000"), (-0.25, "−0.250"), (None, "–")])
def test_numbers(found: float | None, shown: str) -> None:
    assert number(found) == shown


def test_metric_needs_a_finite_value() -> None:
    assert Metric.of({"value": float("nan"), "n": 3}) is None and Metric.of("x") is None and Metric.of(None) is None
    assert [duration(s) for s in (3.14, 59, 212, 7500)] == ["3.1 s", "59 s", "3 min 32 s", "2 h 5 min"]


def test_hostile_examples_cover_what_they_claim() -> None:
    assert any("javascript:" in text for text in HOSTILE) and any("\u202e" in text for text in HOSTILE)


def test_a_reward_that_may_have_been_played_is_said_first_and_hostile_details_stay_text(tmp_path: Path) -> None:
    run = make(tmp_path / "run", hostile=False)
    found = json.loads((run / "report.json").read_text())
    reading = {"monitor": "answer_rate", "subject": TASK, "value": 0.6, "limit": 0.25, "ok": False}
    fine = {
        **reading,
        "monitor": "length",
        "subject": "",
        "value": 1.1,
        "limit": 2.0,
        "ok": True,
        "detail": "as before",
    }
    found["monitors"] = [fine, {**reading, "detail": "yes 95% <script>alert(1)</script>"}]
    (run / "report.json").write_text(json.dumps(found))
    page = Page(write_report(run))
    assert page.text.index("The reward may have been played") < page.text.index("as before")
    assert "yes 95% <script>alert(1)</script>" in page.text
    assert [item.ok for item in scores.monitored(found)] == [False, True]
    assert terminal_summary(found).startswith("Warning. The reward may have been played (answer rate")
    found["monitors"] = [fine]
    assert not terminal_summary(found).startswith("Warning")
