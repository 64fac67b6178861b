"""The README's pictures: the top of a run's report, and its rollout browser, from headless Chromium.

    python benchmarks/pictures.py runs/perturbqa_direction     writes benchmarks/results/report.png and rollouts.png

Writes the run's report.html anew, so that the pictures show what the page is now.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rlvr.evaluation.report import write_report  # noqa: E402
from tests.chromium import Chromium  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
WIDTH, HEIGHT = 1100, 1250
# The rollouts of training, where the run has any.
TRAINING = """(() => {
  const field = document.querySelector("#rollouts [data-stage]");
  if ([...field.options].some((option) => option.value === "Training")) field.value = "Training";
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return new Promise((done) => setTimeout(done, 500));
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    page = write_report(options.run)
    with Chromium() as browser:
        browser.open(page, WIDTH, HEIGHT)
        browser.picture(options.out / "report.png")
        browser.run(TRAINING)
        browser.run("document.querySelector('#rollouts').scrollIntoView()")
        browser.picture(options.out / "rollouts.png")
    print(options.out / "report.png", options.out / "rollouts.png", sep="\n")


if __name__ == "__main__":
    main()
