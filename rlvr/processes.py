"""A process that ends with the one that started it.

end_with_parent(signal.SIGTERM)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(sign: signal.Signals, parent: int | None = None) -> None:
    """Send this process `sign` once its parent has ended, and at once if it already has.

    parent: the process that started this one, where that is known from before it could end; None: as it is now. On
    Linux the kernel sends the signal, even while a regular expression here holds the interpreter, and it means the
    thread of the parent that started this process. Elsewhere a thread here watches.
    """
    parent = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), sign)

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, sign)
        if os.getppid() != parent:  # it ended before the kernel was told
            os.kill(os.getpid(), sign)
    else:
        threading.Thread(target=watch, daemon=True).start()
