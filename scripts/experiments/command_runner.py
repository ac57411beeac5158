"""Runs our own scripts as a user would type them, for scripts that run several in turn."""

import shlex
import signal
import subprocess
import sys
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.process_pool import ending_with_parent


def typed(script: str, *args: object) -> str:
    """Return a script's command line as one types it from the repository's root."""
    return shlex.join(["python", script, *map(str, args)])


def python(script: str, *args: object, log: Path | None = None) -> None:
    """Run a script as typed, showing the command; with `log`, add what it prints to that file too.

    InputError when it fails. A stop signal (Ctrl-C, SIGTERM) is the script's as well: it is waited for, so that a
    training saves its snapshot, and KeyboardInterrupt is raised.
    """
    print(f"\n$ {typed(script, *args)}", flush=True)
    # Told to stop when this process is killed, a training saves its snapshot.
    command = ending_with_parent(sys.executable, script, *map(str, args), sent="TERM")
    if log is None:
        status = subprocess.run(command, check=False).returncode
    else:
        status = _logged(command, log, typed(script, *args))
    if status in (130, 143):
        raise KeyboardInterrupt
    if status:
        raise InputError(f"{script}: failed; see its output above")


def _logged(command: list[str], log: Path, head: str) -> int:
    """Run a command, its output shown and added to the file; return its exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("ab") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child,
    ):
        # Ctrl-C reaches the child by itself, SIGTERM does not; either way its last words are still to be read
        handlers = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: lambda *_: child.terminate()}
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            file.write(f"$ {head}\n".encode())
            for line in child.stdout:
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
                file.write(line)
                file.flush()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
    return child.returncode
