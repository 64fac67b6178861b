"""Train a policy from a recipe: questions -> warm start -> GRPO -> adapter -> report.

Run with `accelerate launch train.py --config quickstart [key=value ...]`, for example
`accelerate launch train.py --config my_recipe.yaml grpo.max_steps=20 seed=1`. The same command goes on with a run that
was killed. Exit codes: 0, 1 (failed), 2 (bad arguments), 3 (an alarm), 75 (SIGTERM; what was done is saved).
"""

from __future__ import annotations

import argparse
import logging
import sys

from rlvr.recipe import load
from rlvr.training.run import Run
from rlvr.training.trainer.ranks import fail_together
from rlvr.training.trainer.stop import exit_on_sigterm
from rlvr.training.watch.callbacks import Stopped
from rlvr.types import Error
from rlvr.yaml_file import each_once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a recipe's name or path")
    parser.add_argument("overrides", nargs="*", help="key=value, dotted: grpo.max_steps=20")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    exit_on_sigterm()

    recipe = load(options.config, each_once(options.overrides))
    run = Run(recipe)
    run.evaluate("before")
    run.warm_start()
    run.evaluate("warm_start")
    run.grpo()
    run.evaluate("after")
    run.report()


if __name__ == "__main__":
    try:
        with fail_together():
            main()
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3 if isinstance(error, Stopped) else 1)
