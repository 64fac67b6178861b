"""Train a policy from a recipe: questions -> warm start -> GRPO -> adapter -> report.

Run with `accelerate launch train.py --config quickstart [key=value ...]`, for example
`accelerate launch train.py --config my_recipe.yaml grpo.max_steps=20 seed=1`.
"""

from __future__ import annotations

import argparse
import logging
import sys

from rlvr.recipe import load
from rlvr.training import Run
from rlvr.types import Error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a recipe's name or path")
    parser.add_argument("overrides", nargs="*", help="key=value, dotted: grpo.max_steps=20")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    recipe = load(options.config, options.overrides)
    run = Run(recipe)
    run.evaluate("before")
    run.warm_start()
    run.evaluate("warm_start")
    run.grpo()
    run.evaluate("after")
    run.report()


if __name__ == "__main__":
    try:
        main()
    except Error as error:
        sys.exit(f"error: {error}")
