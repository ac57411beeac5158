"""How long a training will take on the machine at hand, from a few iterations of it."""

import statistics

from scripts import nets, speed_solver

WARM, TIMED = 1, 2  # iterations; the first also allocates memory


def seconds_an_image(net: str, batch: int, gpu: str | None) -> float:
    """Return the seconds of forward, backward and update by image, the median of TIMED iterations on random images."""
    return speed_solver.apart(_time, net, batch, gpu)


def _time(net: str, batch: int, gpu: str | None) -> float:
    nets.set_mode(gpu)
    solver = speed_solver.solver(net, speed_solver.from_memory(net, batch))
    seconds = [speed_solver.timed_step(solver, number)[0] for number in range(WARM + TIMED)]
    return statistics.median(seconds[WARM:]) / batch
