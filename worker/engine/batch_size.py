"""How many paintings a step should hold: as many as make each one cheaper, and more only if some wait for long.

A step of n paintings takes t(n) seconds. Where one painting already fills the device, t grows with n and a larger
batch only delays. Where it does not, further paintings are nearly free. Knows seconds; no networks.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

KNEE = 0.15  # time per painting at the knee, as a share above the minimum
PATIENCE = 0.5  # share of its own painting time that a painting waits before it may join beyond the knee
MEASURED_SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
SMOOTHING = 0.1  # weight of the newest time in the moving average


class BatchSizes:
    """The measured times t(n) of steps, and how many paintings they allow; never more than `max_size`."""

    def __init__(self, seconds: Mapping[int, float], max_size: int) -> None:
        self.seconds, self.max_size = dict(seconds), max_size
        self.limit = max_size

    @property
    def knee(self) -> int:
        """The smallest batch size whose time per painting is near the minimum; the limit if nothing was measured."""
        if not self.seconds:
            return self.limit
        sizes = range(1, self.limit + 1)
        best = min(self.step_seconds(size) / size for size in sizes)
        return next(size for size in sizes if self.step_seconds(size) / size <= best * (1 + KNEE))

    def step_seconds(self, size: float) -> float:
        """The time of a step at this size, interpolated linearly between measured sizes; 0 if none is measured."""
        known = sorted(self.seconds)
        if not known:
            return 0.0
        above = next((n for n in known if n >= size), known[-1])
        below = next((n for n in reversed(known) if n <= size), known[0])
        if above == below:
            return self.seconds[above] * size / above if size > known[-1] else self.seconds[above]
        share = (size - below) / (above - below)
        return self.seconds[below] + share * (self.seconds[above] - self.seconds[below])

    def can_admit(
        self, active: float, waited: float, steps: int, size: float = 1.0, *, same_batch: float | None = None
    ) -> bool:
        """Whether a painting that has waited `waited` seconds and has `steps` steps to go may start now.

        `size` is its area in pictures of the usual size, and `active` that of all active paintings. All of these take
        time, but memory must hold only those that share its steps: `same_batch` is their area, by default `active`.
        If nothing is active, it may always start.
        """
        if not active:
            return True
        together = active if same_batch is None else same_batch
        if together and together + size > self.limit:
            return False
        if active + size <= self.knee:
            return True
        return bool(self.seconds) and waited > PATIENCE * steps * self.step_seconds(size)

    def record_step(self, size: int, seconds: float) -> None:
        """Update the average time of a measured batch size; other sizes are ignored."""
        if size in self.seconds:
            self.seconds[size] += SMOOTHING * (seconds - self.seconds[size])

    def lower_limit(self, size: int) -> None:
        """Allow at most `size` paintings from now on, but always one."""
        self.limit = max(1, min(self.limit, size))


def sizes_to_measure(max_size: int) -> list[int]:
    """The batch sizes to time, up to and including `max_size`."""
    return sorted({*(size for size in MEASURED_SIZES if size < max_size), max_size})


def measure_batch_sizes(time_steps: Callable[[int], Sequence[float]], max_size: int) -> BatchSizes:
    """Measure t(n) up to `max_size`; `time_steps(n)` returns seconds of single steps, or [] if memory is full."""
    seconds: dict[int, float] = {}
    for size in sizes_to_measure(max_size):
        if not (times := time_steps(size)):
            break
        seconds[size] = median(times)
    batch_sizes = BatchSizes(seconds, max_size)
    batch_sizes.lower_limit(max(seconds, default=1))
    return batch_sizes
