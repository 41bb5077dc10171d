"""Turns into another program, which the kernel ends when its parent dies. Run by child.py as a script, never imported.

It is a program of its own because Popen's preexec_fn runs Python between fork and exec, which is not safe in a process
with threads.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(on_orphaned: int, parent: int, user: str, *command: str) -> None:
    """Replaces this process by `command`, run by `user` (empty: the same one)."""
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    if sys.platform == "linux":
        # After the change of user, which clears the setting (prctl(2)).
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, on_orphaned)
        if os.getppid() != parent:
            sys.exit("the parent died before its child started")
    # Python ignores these signals, and a new program inherits which signals are ignored.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - our own commands without a shell


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
