"""How many paintings one step should hold: as many as make each cheaper, more only for those who wait long.

A step of n paintings takes t(n) seconds. Where a network fills its device alone, t grows with n and company only
delays; where it does not, company is nearly free. Knows seconds, no networks.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

KNEE = 0.15  # time per painting at the knee, above the least there is
PATIENCE = 0.5  # of the time that it would take alone, before a painting is let in beyond the knee
MEASURED = (1, 2, 3, 4, 6, 8, 12, 16)
LEARNING = 0.1  # share of the newest time in what is known


class BatchSizes:
    """What is known of t(n), and what follows; `most` paintings at once."""

    def __init__(self, seconds: Mapping[int, float], most: int) -> None:
        self.seconds, self.most = dict(seconds), most
        self.limited = most

    @property
    def knee(self) -> int:
        """The smallest width at which a painting costs little more than at the best; not measured, the widest."""
        if not self.seconds:
            return self.limited
        best = min(self.step_seconds(width) / width for width in range(1, self.limited + 1))
        return next(w for w in range(1, self.limited + 1) if self.step_seconds(w) / w <= best * (1 + KNEE))

    def step_seconds(self, width: float) -> float:
        """Of a step of so many, between the widths that were measured on a straight line; 0 when nothing is known."""
        known = sorted(self.seconds)
        if not known:
            return 0.0
        above = next((w for w in known if w >= width), known[-1])
        below = next((w for w in reversed(known) if w <= width), known[0])
        if above == below:
            return self.seconds[above] * width / above if width > known[-1] else self.seconds[above]
        share = (width - below) / (above - below)
        return self.seconds[below] + share * (self.seconds[above] - self.seconds[below])

    def room(
        self, active: float, waited: float, steps: int, size: float = 1.0, *, beside: float | None = None
    ) -> bool:
        """Whether one more may join so many, which has waited for some seconds and has so many steps to go.

        `size` is its area, and `active` that of the others, in pictures of the usual size. All take time, but in
        memory there are at once only those it would share its steps with: `beside`, all of them if nothing is said.
        Where it is alone it may come in.
        """
        if not active:
            return True
        together = active if beside is None else beside
        if together and together + size > self.limited:
            return False
        if active + size <= self.knee:
            return True
        return bool(self.seconds) and waited > PATIENCE * steps * self.step_seconds(size)

    def took(self, width: int, seconds: float) -> None:
        """Learn from a step of a width that was measured."""
        if width in self.seconds:
            self.seconds[width] += LEARNING * (seconds - self.seconds[width])

    def limit(self, most: int) -> None:
        """Never more than so many again."""
        self.limited = max(1, min(self.limited, most))


def widths_to(most: int) -> list[int]:
    """Those that are measured."""
    return sorted({*(width for width in MEASURED if width < most), most})


def measured(looks: Callable[[int], Sequence[float]], most: int) -> BatchSizes:
    """t(n) at some widths up to `most`; `looks(n)` are the seconds of steps of n, none if memory is too small."""
    seconds: dict[int, float] = {}
    for width in widths_to(most):
        if not (found := looks(width)):
            break
        seconds[width] = median(found)
    widths = BatchSizes(seconds, most)
    widths.limit(max(seconds, default=1))
    return widths
