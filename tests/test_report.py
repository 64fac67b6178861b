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

from rlvr.report import curves, examples, plots, scores, terminal_summary, write_report
from rlvr.report.text import Metric, clip, duration, number, printable
from rlvr.types import Error
from tests.run_directory import HOSTILE, MEGABYTE, TASK, make, report


class Page(html.parser.HTMLParser):
    """What a browser would see: elements with attributes, and the text outside the style sheet."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag != "style":
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
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in allowed.elements} - {"script", "iframe", "svg"}
    known = {name for _, attributes in allowed.elements for name in attributes}
    found = {name for _, attributes in page.elements for name in attributes}
    assert found <= known and not {name for name in found if name.startswith("on") or name == "style"}
    assert len(page.all("style")) == 1


def test_page_loads_nothing_and_links_only_to_the_doi(hostile: Path) -> None:
    page = Page(hostile)
    loads = [value for _, a in page.elements for name in ("src", "srcset", "data", "poster") if (value := a.get(name))]
    assert loads and all(value.startswith("data:image/svg+xml;base64,") for value in loads)
    links = [a["href"] or "" for a in page.all("a")]
    assert [link for link in links if not link.startswith("#")] == ["https://doi.org/10.48550/arXiv.2502.21290"]
    assert not page.all("link") and not page.all("script")
    assert "url(" not in hostile.read_text(encoding="utf-8") and "@import" not in hostile.read_text(encoding="utf-8")
    policy = next(a["content"] or "" for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


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
    assert "A" * 2000 not in page.text and "characters not shown" in page.text
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
        "advantage +",
        "wrong → right",
        "unparsed → right",
        "9f2c9f2c",
        "4be1d02",
        "complex partner",
        "ICLR 2025",
        "non-commercial",
        "accelerate launch train.py",
        "trl 1.16.0",
        "3 min 32 s",
        "RPL3 goes down in the measurement (perturbqa, k562:RPS19:RPL1; for the answer)",
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
    assert len(page.all("summary")) == len(page.all("details")) >= 10


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
    assert "41 right" in text


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
    ("low", "claims"),
    [
        (0.001, "The policy adds to its evidence"),
        (0.0, "The policy reads its evidence"),
        (-0.2, "The policy reads its evidence"),
        (None, "The policy reads its evidence"),
    ],
)
def test_reasoning_is_claimed_only_above_the_evidence_vote(low: float | None, claims: str) -> None:
    found = report()
    found["comparisons"]["after - evidence_vote"][TASK] = {"auroc": {"value": 0.05, "low": low, "high": 0.1, "n": 240}}
    assert [line.text.partition(":")[0] for line in scores.headlines(found)][1] == claims


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
        row = {"question_id": "q", "truth": "none", "completion": "c", "answer": answer, "p/none": 0.5}
        pd.DataFrame([row]).to_parquet(run / "evaluations" / f"{stage}.parquet")
    text = " ".join(Page(write_report(run)).text.split())
    assert "unparsed → right" in text
    assert "Untrained · no answer that parses" in text and "Warm start + GRPO · answer none" in text


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
    ],
)
def test_outcome_of_a_rollout(row: dict[str, Any], expected: str) -> None:
    assert examples.outcome(row) == expected


@pytest.mark.parametrize("kept", [None, "", "{half", "[" * 100_000, "3", "[3, null]", '{"a": 1}'])
def test_evidence_that_cannot_be_read_is_none(kept: str | None) -> None:
    assert examples._evidence(kept) == []


def test_groups_of_two_batches_of_one_step_are_kept_apart() -> None:
    rows = [
        {"step": 1, "group": 0, "question_id": question, "reward": reward, "answer": "up", "label/reason": reason}
        for question, reward, reason in (("a", 0.0, "wrong"), ("a", 1.0, "correct"), ("b", 1.0, "correct"))
    ]
    assert [example.question_id for example in examples._group(rows)] == ["a", "a"]


def test_prompt_is_read_as_text_messages_or_json() -> None:
    turns = [{"role": "user", "content": "why?"}]
    for prompt in (turns, np.array(turns, dtype=object), json.dumps(turns)):
        assert [(role, part.head) for role, part in examples.messages(prompt)] == [("user", "why?")]
    assert examples.messages("[not json")[0][1].head == "[not json"


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
    assert not page.all("script")
    assert page.text.index("The reward may have been played") < page.text.index("as before")
    assert "yes 95% <script>alert(1)</script>" in page.text
    assert [item.ok for item in scores.monitored(found)] == [False, True]
    assert terminal_summary(found).startswith("Warning. The reward may have been played (answer rate")
    found["monitors"] = [fine]
    assert not terminal_summary(found).startswith("Warning")
