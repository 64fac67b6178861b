"""The tests, in folders that mirror the wings of rlvr/. `make test` runs them."""
