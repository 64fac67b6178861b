"""What TRL's trainers lack here: `grpo` is the one GRPOTrainer subclass, `warm_start` the one SFTTrainer.

`resume`, `checkpoints`, `state` and `stop` let a run go on after a kill; `patches` and `sync` change TRL and vLLM;
`shared_prefix` computes a group's prompt once.
"""
