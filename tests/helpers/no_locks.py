"""A file system without locks, as some networks have them: every call that would lock a file fails."""

import os
import subprocess
from pathlib import Path

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

int flock(int file, int operation) { errno = ERROR; return -1; }

static int refuse(const char *name, int file, int command, void *argument) {
    if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) { errno = ERROR; return -1; }
    return ((int (*)(int, int, void *))dlsym(RTLD_NEXT, name))(file, command, argument);
}
#define CALL(NAME) \\
    int NAME(int file, int command, ...) { \\
        va_list list; va_start(list, command); void *argument = va_arg(list, void *); va_end(list); \\
        return refuse(#NAME, file, command, argument); \\
    }
CALL(fcntl)
CALL(fcntl64)
"""


def environment(folder: Path, error: str) -> dict[str, str]:
    """Return the environment for a process to which locks fail with `error`, such as "ENOSYS"."""
    library = folder / "no_locks.so"
    command = ["cc", "-shared", "-fPIC", f"-DERROR={error}", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    return os.environ | {"LD_PRELOAD": str(library)}
