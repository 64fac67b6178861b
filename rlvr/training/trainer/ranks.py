"""Ranks that end together: where one fails, all end within a minute, and stderr ends in who failed and how.

    with fail_together():
        main()

torchrun, which `accelerate launch` starts for many processes, ends a node's ranks once one of them has ended (SIGTERM,
half a minute later SIGKILL) and then says which was first. That is true only if the first to fail also ends first, ends
at all, and leaves its traceback where torchrun reads it; this is what is done here. Between nodes Slurm does the same
(`srun --kill-on-bad-exit`). A rank that hangs without failing is found by the others after `grpo.ddp_timeout`. If the
launcher is killed its ranks follow (`rlvr.training.trainer.stop`), and if a rank is, its verifiers
(`rlvr.rewards.worker`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

PATIENCE = 10  # seconds


@contextmanager
def fail_together() -> Iterator[None]:
    """Around all that one of many ranks does; around a single process it does nothing."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    try:
        yield
        if torch.distributed.is_initialized():  # its threads may abort an interpreter that ends around them
            torch.distributed.destroy_process_group()
    except Exception as error:
        if _lost_another(error):
            # The first line of NCCL's and gloo's says what was being done; torchrun ends this process meanwhile.
            reason = str(error).partition("\n")[0]
            print(f"rank {os.environ['RANK']} waits for its end, another rank has gone: {reason}", file=sys.stderr)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(PATIENCE)
        get_error_handler().record_exception(error)
        # Whatever keeps the interpreter from ending (a thread, a collective) must not keep the others waiting.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        raise


def _lost_another(error: Exception) -> bool:
    """Whether a collective failed, which is seldom the fault of the rank that says so."""
    if isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "closed by peer"))
