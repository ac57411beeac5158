"""How long a training will take on the machine at hand, from a few iterations of it."""

import statistics

from scripts.nets import definitions
from scripts.nets import solver as solver_module

WARM, TIMED = 1, 2  # iterations; the first also allocates memory


def seconds_an_image(net: str, batch: int, gpu: str | None) -> float:
    """Return the seconds of forward, backward and update by image, the median of TIMED iterations on random images."""
    return solver_module.apart(_time, net, batch, gpu)


def _time(net: str, batch: int, gpu: str | None) -> float:
    definitions.set_mode(gpu)
    solver = solver_module.solver(net, solver_module.from_memory(net, batch))
    seconds = [solver_module.timed_step(solver, number)[0] for number in range(WARM + TIMED)]
    return statistics.median(seconds[WARM:]) / batch
