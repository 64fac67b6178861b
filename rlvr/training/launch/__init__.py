"""`rlvr launch RECIPE --print`: the exact commands for GPUs or nodes (`commands`)."""
