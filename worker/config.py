"""The settings of a worker: what it may use of its machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from memo import BadSetup
from memo.config import read_settings
from worker.painters.factory import default_slots
from worker.painters.port import PainterOptions

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Each field is read from the variable WORKER_<NAME>, or from the file that WORKER_<NAME>_FILE names."""

    threads: str = "1"  # CPU threads that torch uses
    slots: str = AUTO  # the most paintings that the worker has under way at once
    device: str = AUTO  # auto, cpu, cuda or cuda:N
    dtype: str = AUTO  # auto, float32, bfloat16 or float16
    compile: str = "0"  # 1: torch.compile, which takes minutes at the start; max: also tunes kernels, even longer
    hub_token: str | None = None  # for models on the Hugging Face Inference API
    watts: str = ""  # power of a busy core or of the GPU, where energy cannot be measured

    def __post_init__(self) -> None:
        for name, most in (("threads", 512), ("slots", 64)):
            value = getattr(self, name)
            if (name, value) == ("slots", AUTO):
                continue
            if not value.isdecimal() or not 1 <= int(value) <= most:
                raise BadSetup(f"WORKER_{name.upper()}={value}: it must be a whole number from 1 to {most}")
        _ = self.known_watts
        if self.compile not in ("0", "1", "max"):
            raise BadSetup(f"WORKER_COMPILE={self.compile}: it must be 0, 1 or max")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "WorkerConfig":
        """The settings in the environment; raises BadSetup."""
        return cls(**read_settings(cls, "WORKER_", env))

    def painter_options(self) -> PainterOptions:
        """The settings of its painters; raises BadSetup if the device does not exist."""
        slots = default_slots(self.device) if self.slots == AUTO else int(self.slots)
        return PainterOptions(
            threads=int(self.threads),
            slots=slots,
            device=self.device,
            dtype=self.dtype,
            compile=self.compile,
            hub_token=self.hub_token,
            watts=self.known_watts,
        )

    @property
    def known_watts(self) -> float | None:
        """The watts as a number, None if they are not set; raises BadSetup."""
        try:
            watts = float(self.watts) if self.watts else None
        except ValueError:
            watts = 0.0
        if watts is not None and not 0 < watts < 100_000:
            raise BadSetup(f"WORKER_WATTS={self.watts}: it must be a number of watts above 0")
        return watts
