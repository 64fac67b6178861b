"""The report in a real browser: what a reader does with it, on a telephone and a desk, by hand and by keyboard, and
that hostile text stays text. Needs a headless chromium (`apt-get install chromium`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr.evaluation.report import write_report
from tests.chromium import CHROMIUM, Chromium
from tests.run_directory import everything, make

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]
ROLLOUTS, VERSUS = "#rollouts .lister", "#versus .lister"
OUTSIDE = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, .skip, .hidden, .columns")
  && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.tagName + "." + e.className)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("browser")
    clean, other = (make(folder / name, hostile=False, seed=seed) for name, seed in (("clean", 0), ("other", 3)))
    (clean / "report.json").write_text(json.dumps(everything()))
    return {"clean": write_report(clean, other), "hostile": write_report(make(folder / "hostile"))}


@pytest.fixture
def desk(chromium: Chromium, pages: dict[str, Path]) -> Iterator[Chromium]:
    chromium.console.clear()
    chromium.open(pages["clean"])
    yield chromium
    assert chromium.console == []


def choose(page: Chromium, name: str, value: str, root: str = ROLLOUTS) -> None:
    """Set a filter as a reader would, and wait for the list."""
    page.run(f"""(() => {{ const field = document.querySelector("{root} [data-{name}]"); field.value = {value!r};
        field.dispatchEvent(new Event("input", {{bubbles: true}})); }})()""")
    page.run("new Promise(done => setTimeout(done, 300))")


def found(page: Chromium, root: str = ROLLOUTS) -> int:
    return int(page.run(f"parseInt(document.querySelector('{root} [data-found]').textContent.replace(',', ''))"))


def text(page: Chromium, selector: str) -> Any:
    return page.run(f"document.querySelector({selector!r})?.textContent")


def active(page: Chromium, selector: str) -> bool:
    return bool(page.run(f"document.activeElement.matches({selector!r})"))


@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1280, False), (1280, True)])
@pytest.mark.parametrize("kind", ["clean", "hostile"])
def test_page_fits_the_window_without_errors(
    kind: str, width: int, dark: bool, pages: dict[str, Path], chromium: Chromium
) -> None:
    chromium.console.clear()
    chromium.open(pages[kind], width, dark=dark)
    wide = "document.scrollingElement.scrollWidth <= innerWidth"
    assert chromium.run(wide)
    chromium.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    drawn = "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 0, () => false)))"
    images = chromium.run(drawn)
    assert len(images) >= 10 and all(images)
    assert chromium.run(wide) and chromium.run(OUTSIDE) == []
    paper = chromium.run("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == ("rgb(22, 24, 27)" if dark else "rgb(251, 251, 249)")
    assert chromium.console == []


def test_search_and_filters_narrow_the_list_and_say_how_many_are_left(desk: Chromium) -> None:
    assert found(desk) == 152
    choose(desk, "stage", "Training")
    assert found(desk) == 80
    choose(desk, "outcome", "unparsed")
    unparsed = found(desk)
    assert 0 < unparsed < 80
    assert desk.run(f"document.querySelectorAll('{ROLLOUTS} [data-list] .glyph.unparsed').length") == min(unparsed, 12)
    choose(desk, "low", "0.5")
    assert found(desk) == 0 and "Nothing to show" in text(desk, f"{ROLLOUTS} [data-detail]")
    desk.run(f"document.querySelector('{ROLLOUTS} form').reset()")
    desk.run("new Promise(done => setTimeout(done, 300))")
    choose(desk, "verifier", "claims")
    choose(desk, "reason", "contradicted")
    assert found(desk) == 20
    choose(desk, "text", "ribosome RPL10")
    assert 0 < found(desk) < 20
    choose(desk, "text", "nothing says this")
    assert found(desk) == 0
    assert desk.run(f"document.querySelector('{ROLLOUTS} [data-found]').ariaLive") == "polite"


def test_pages_of_the_list(desk: Chromium) -> None:
    assert "1 to 12 listed" in text(desk, f"{ROLLOUTS} [data-found]")
    desk.run(f"document.querySelector('{ROLLOUTS} [data-next]').click()")
    assert "13 to 24 listed" in text(desk, f"{ROLLOUTS} [data-found]")
    assert not desk.run(f"document.querySelector('{ROLLOUTS} [data-previous]').disabled")


def test_the_keyboard_alone_searches_walks_and_reads_a_mark(desk: Chromium) -> None:
    desk.press("/")
    assert active(desk, f"{ROLLOUTS} [data-text]")
    desk.type("kinase")
    desk.run("new Promise(done => setTimeout(done, 300))")
    assert 0 < found(desk) <= 152
    choose(desk, "stage", "Training")
    desk.press("Escape")
    first = text(desk, f"{ROLLOUTS} [aria-current] .meta")
    for key, place in (("j", 2), ("j", 3), ("k", 2), ("ArrowDown", 3), ("ArrowUp", 2)):
        desk.press(key)
        assert active(desk, f"{ROLLOUTS} [data-list] li:nth-child({place}) button[aria-current]"), key
    assert first
    mark = f"{ROLLOUTS} [data-detail] mark.contradicted"
    for _ in range(40):
        if active(desk, mark):
            break
        desk.press("Tab")
    assert active(desk, mark)
    tip = f"document.querySelector('{mark} .tip')"
    assert desk.run(f"getComputedStyle({tip}).display") == "block"
    assert "GO:0004672 NOT IDA; claims" in desk.run(f"{tip}.textContent")
    assert desk.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert desk.run(f"document.querySelector('{mark}').getAttribute('aria-describedby') === {tip}.id")
    desk.press("Escape")
    assert desk.run(f"getComputedStyle({tip}).display") == "none"


def test_group_view_shows_the_completions_of_one_prompt_with_their_advantages(desk: Chromium) -> None:
    choose(desk, "stage", "Training")
    detail = f"{ROLLOUTS} [data-detail]"
    assert "Its group: 4 completions" in text(desk, detail)
    advantages = desk.run(f"""[...document.querySelectorAll("{detail} [aria-label='The group'] tbody tr")]
        .map(row => parseFloat(row.cells[1].textContent.replace("−", "-")))""")
    assert len(advantages) == 4 and abs(sum(advantages)) < 0.01 and max(advantages) > 0
    assert desk.run(f"document.querySelectorAll('{detail} .columns section').length") == 4
    desk.run(f"[...document.querySelectorAll('{detail} button')].find(b => b.textContent.startsWith('3.')).click()")
    assert text(desk, f"{detail} button.link[aria-current]").startswith("3.")
    assert found(desk) == 4
    desk.run(f"document.querySelector('{ROLLOUTS} [data-only]').click()")
    assert found(desk) == 80


def test_two_runs_stand_side_by_side_word_by_word(desk: Chromium) -> None:
    assert found(desk, VERSUS) == 24
    choose(desk, "moved", "another answer", VERSUS)
    assert found(desk, VERSUS) == 12
    choose(desk, "change", "right → wrong", VERSUS)
    sides = desk.run(f"[...document.querySelectorAll('{VERSUS} .two .prose')].map(side => side.textContent)")
    gone = desk.run(f"[...document.querySelectorAll('{VERSUS} .two section:first-child del')].map(e => e.textContent)")
    come = desk.run(f"[...document.querySelectorAll('{VERSUS} .two section:last-child ins')].map(e => e.textContent)")
    assert len(sides) == 2 and all("takes part in ribosome biogenesis" in side for side in sides)
    assert gone and come and any("<answer>" in piece for piece in gone) and any("<answer>" in piece for piece in come)
    assert not desk.run(f"document.querySelector('{VERSUS} .two section:first-child ins')")


def test_hostile_text_is_shown_and_does_nothing(pages: dict[str, Path], chromium: Chromium) -> None:
    chromium.console.clear()
    chromium.open(pages["hostile"])
    scripts = chromium.run("document.scripts.length")
    chromium.run("window.alert = () => { throw new Error('hostile text ran') }")
    seen = ""
    for word in ("onerror", "javascript:", "</pre>", "</script x>", "u+202e", "aaaaaaaaaa"):
        choose(chromium, "text", word)
        assert found(chromium) > 0, word
        seen += text(chromium, f"{ROLLOUTS} [data-detail] .prose")
    assert '<img src=x onerror="alert(1)">' in seen and "⟨U+202E⟩" in seen and "\u202e" not in seen
    inside = f"{ROLLOUTS} [data-detail]"
    assert chromium.run(f"document.querySelectorAll('{inside} :is(img, script, iframe, style, a)').length") == 0
    assert chromium.run("document.scripts.length") == scripts
    short = len(text(chromium, f"{inside} .prose"))
    assert short < 2200  # of a megabyte
    chromium.run(f"document.querySelector('{inside} .prose .more').click()")
    whole = text(chromium, f"{inside} .prose")
    assert 15_000 < len(whole) < 40_000 and "characters are not in this page" in whole
    assert chromium.run("document.scrollingElement.scrollWidth <= innerWidth")
    assert chromium.console == []


def test_the_policy_stops_what_would_run_or_load(pages: dict[str, Path], chromium: Chromium) -> None:
    chromium.open(pages["clean"])
    chromium.run("""(() => {
        const s = document.createElement("script"); s.textContent = "window.ran = 1"; document.body.append(s);
        const i = new Image(); i.src = "http://127.0.0.1:9/x.png"; document.body.append(i);
        const d = document.createElement("div"); d.innerHTML = "<img src=x onerror='window.ran = 2'>";
        document.body.append(d); })()""")
    chromium.run("new Promise(done => setTimeout(done, 300))")
    assert chromium.run("window.ran === undefined")
    chromium.console.clear()


def test_every_control_has_a_name_and_the_page_its_landmarks(desk: Chromium) -> None:
    nameless = desk.run("""
        [...document.querySelectorAll("input, select, button, [role=region], section, article, form")]
        .filter(e => !(e.ariaLabel || e.getAttribute("aria-labelledby") || e.labels?.length || e.textContent.trim()))
        .map(e => e.outerHTML.slice(0, 80))""")
    assert nameless == []
    assert [desk.run(f"document.querySelectorAll('{tag}').length") for tag in ("main", "header", "nav", "h1")] == [
        1
    ] * 4
    empty = "[...document.querySelectorAll('table')].filter(t => !t.querySelector('th[scope=col]')).length"
    assert desk.run(empty) == 0


def contrast(one: str, two: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio of two colours such as #1d2023."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(dark: bool, pages: dict[str, Path], chromium: Chromium) -> None:
    """WCAG AA: 4.5 to 1 of every text colour on every surface, 3 to 1 of the edges of controls."""
    chromium.open(pages["clean"], dark=dark)
    names = ("ink", "muted", "accent", "yes", "no", "edge", "paper", "raised", "band")
    read = "n => getComputedStyle(document.documentElement).getPropertyValue('--' + n).trim()"
    colour = dict(zip(names, chromium.run(f"{json.dumps(names)}.map({read})"), strict=True))
    wanted = [(ink, on, 4.5) for ink in names[:5] for on in names[6:]] + [("edge", on, 3.0) for on in names[6:8]]
    assert [pair for *pair, least in wanted if contrast(*(colour[name] for name in pair)) < least] == []
