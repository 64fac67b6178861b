"""What a policy learns from: how often it already passes (probe), which questions it is asked, in what order (pool),
and what its warm start imitates (critic).

    rlvr probe RECIPE --samples 8 --questions 400 --out DIR
    accelerate launch train.py --config RECIPE learning.pool=DIR/probe.parquet 'learning.keep=[0.1, 0.9]'

Nothing here keeps a state: what is asked when follows from the recipe, so a resumed run asks the same. Groups that
teach nothing are replaced while training goes on, by `rlvr.training.trainer.dynamic_sampling`.
"""
