"""InputError, the one kind of error that a user can cause, and the exit status of a command that meets one."""

import io
import os
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something a user gave cannot be used. The message is one line: which file, what is wrong, what to do."""


def one_line(error: Exception) -> str:
    """Return an error's message in one line, for some libraries' are several, or empty."""
    return " ".join(str(error).split()) or type(error).__name__


def run(main: Callable[[], None]) -> int:
    """Call a script's main(); return its exit status: 0, or 2 after one line on stderr for a user's error.

    An OSError (a full disk, a folder that may not be read) is one, its message names the file; so is too little memory.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text in any encoding
    try:
        main()
        sys.stdout.flush()
    except (InputError, OSError, MemoryError) as error:
        what = "too little memory; end other programs, or try less at once" if isinstance(error, MemoryError) else error
        print(f"error: {' '.join(str(what).splitlines())}", file=sys.stderr)
        _finish_output()
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _finish_output() -> None:
    """Write what stdout holds back, or drop it where nobody takes it: Python, at its end, would exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def natural(text: str) -> int:
    """Parse a whole number from 0 to 2^31 - 1."""
    if not 0 <= int(text) < 2**31:
        raise ValueError
    return int(text)


def positive(text: str) -> int:
    """Parse a whole number from 1 to 2^31 - 1, the most that Caffe's sizes hold."""
    number = natural(text)
    if number == 0:
        raise ValueError
    return number
