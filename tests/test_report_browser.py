"""The report in a real browser: it fits a telephone and a desk, light and dark, open and closed, with every plot
drawn and nothing on the console. Needs a headless chromium (`apt-get install chromium`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from rlvr.report import write_report
from tests.run_directory import make

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WRAPPER = """<!doctype html><meta charset="utf-8"><body><iframe width="{width}" height="3000" src="{page}"></iframe>
<script>
addEventListener("load", async () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const measure = () => root.scrollWidth;
  const closed = measure();
  page.querySelectorAll("details").forEach(d => d.open = true);
  const images = [...page.images];
  await Promise.all(images.map(i => i.decode().catch(() => null)));
  const outside = [...page.querySelectorAll("body *")].filter(e => !e.closest(".scroll, .skip, .hidden")
    && e.getBoundingClientRect().right > {width} + 0.5).map(e => e.tagName + "." + e.className);
  document.body.textContent = "RESULT" + JSON.stringify({{
    closed, open: measure(), outside, drawn: images.filter(i => i.naturalWidth > 0).length, images: images.length,
    styled: page.defaultView.getComputedStyle(page.body).maxWidth,
    paper: page.defaultView.getComputedStyle(root).backgroundColor,
  }}) + "END";
}});
</script>"""


def browse(page: Path, width: int, dark: bool) -> tuple[dict[str, Any], list[str]]:
    """Open the page in a frame of that width. Returns what the frame measures and the console's messages.
    A frame, because a headless window cannot be as narrow as a telephone."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wrapper = Path(folder) / "wrapper.html"
        wrapper.write_text(WRAPPER.format(width=width, page=page.as_uri()), encoding="utf-8")
        command = [
            str(CHROMIUM),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--allow-file-access-from-files",
            "--disable-web-security",
            f"--user-data-dir={folder}/profile",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--window-size=1400,3200",
            "--dump-dom",
            wrapper.as_uri(),
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            out, err = process.communicate(timeout=90)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    found = re.search(r"RESULT(\{.*\})END", out)
    assert found, f"the page gave no measurements: {out[-500:]} {err[-1500:]}"
    return json.loads(found[1].replace("&gt;", ">")), [line for line in err.splitlines() if ":CONSOLE" in line]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("browser")
    return {kind: write_report(make(folder / kind, hostile=kind == "hostile")) for kind in ("clean", "hostile")}


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1200, False), (1200, True)])
@pytest.mark.parametrize("kind", ["clean", "hostile"])
def test_page_fits_the_window_without_errors(kind: str, width: int, dark: bool, pages: dict[str, Path]) -> None:
    found, console = browse(pages[kind], width, dark)
    assert console == []
    assert found["closed"] <= width and found["open"] <= width and found["outside"] == []
    assert found["drawn"] == found["images"] >= 10
    assert found["styled"] == "1088px"  # the policy let the page's own style sheet through
    assert found["paper"] == ("rgb(22, 24, 27)" if dark else "rgb(251, 251, 249)")
