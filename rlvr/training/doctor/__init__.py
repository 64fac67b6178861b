"""`rlvr doctor RECIPE`: what a recipe would run into on this machine, before anything is spent.

    diagnosis = examination.examine(load("quickstart"))     # findings, sizes, batch; diagnosis.go

Every check is one small function (`findings.check`) in the module of its theme: `versions`, `batch`, `memory`, `text`
(prompts and template), `adapter`, `sampling` (vLLM and the like), `objective` (GRPO's options).
"""
