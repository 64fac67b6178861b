"""`python -m rlvr.cli`: the `rlvr` command where no script is on the path."""

from rlvr.cli import main

main()
