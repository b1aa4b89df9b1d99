"""The step loop over a real diffusers network at toy size: paintings join and leave, and none changes another."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import UNet2DConditionModel

from memo import BadSetup
from worker.engine.batch_size import BatchSizes
from worker.engine.denoiser import Conditioning, Denoiser
from worker.engine.energy import Meter
from worker.engine.samplers import SAMPLERS, StepTables, advance
from worker.engine.step_loop import Painting, StepLoop, group_by_batch_key, next_in_line, time_steps

CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TABLES = StepTables({**CONFIG, "clip_sample": False, "timestep_spacing": "leading", "steps_offset": 1})
SHAPE = (4, 8, 8)
MAX_SIZE = 4


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return Denoiser(unet).eval()


def make_painting(number: int, **changes) -> Painting:
    chance = random.Random(number)
    guidance = changes.pop("guidance", chance.choice([1.0, 3.0, 7.5]))
    states = torch.randn(2 if guidance > 1 else 1, 5, 8, generator=torch.Generator().manual_seed(number))
    sampler, steps = chance.choice(sorted(SAMPLERS)), changes.pop("steps", chance.choice([1, 2, 4, 6, 9]))
    sampler = "ddim" if steps > 50 else sampler  # lcm has at most 50
    return Painting(
        TABLES.text_to_image(sampler, "native", steps),
        Conditioning(states),
        guidance,
        torch.Generator().manual_seed(number),
        **{"shape": SHAPE, **changes},
    )


def paint_alone(network, number, **changes):
    return StepLoop(network, BatchSizes({}, MAX_SIZE)).paint(make_painting(number, **changes), lambda step: None)


def paint_together(network, numbers, order=None, **changes):
    """Paint all in one loop; they arrive in `order`, a moment apart. Returns the latents by number."""
    loop = StepLoop(network, BatchSizes({}, MAX_SIZE))

    def arrive(number):
        time.sleep(0.002 * (order or numbers).index(number))
        return loop.paint(make_painting(number, **changes), lambda step: None)

    with ThreadPoolExecutor(len(numbers)) as pool:
        return dict(zip(numbers, pool.map(arrive, numbers), strict=True))


def is_close(latents, expected):
    return float((latents - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_different_paintings_give_the_same_result_together_as_alone(one_thread, network):
    for number, latents in paint_together(network, list(range(12))).items():
        assert is_close(latents, paint_alone(network, number))


def test_reproducible_paintings_keep_their_bits_in_any_batch(one_thread, network):
    first = paint_together(network, list(range(8)), reproducible=True)
    for seed in range(5):
        order = random.Random(seed).sample(range(8), 8)
        reordered = paint_together(network, list(range(8)), order, reproducible=True)
        assert all(torch.equal(first[number], reordered[number]) for number in range(8))
    assert torch.equal(first[3], paint_alone(network, 3, reproducible=True))


def test_reproducible_paintings_step_apart_and_with_their_own_number_of_rows(one_thread, network):
    """So the padding of reproducible paintings does not slow down the others."""
    failing = FailingNetwork(network, lambda conditioning: None)
    loop = StepLoop(failing, BatchSizes({}, MAX_SIZE), reproducible_rows=4)
    reproducible = [make_painting(n, steps=4, guidance=7.5, reproducible=True) for n in range(3)]
    others = [make_painting(n, steps=4, guidance=1.0) for n in range(3, 4)]
    loop.waiting = [*reproducible, *others]
    loop.tick()
    assert sorted(failing.row_counts) == [1, 4, 4]  # two reproducible paintings of two rows each fill a call
    while loop.active:
        loop.tick()
    for number, painting in enumerate(reproducible):
        expected = StepLoop(network, BatchSizes({}, 2), reproducible_rows=4).paint(
            make_painting(number, steps=4, guidance=7.5, reproducible=True), lambda step: None
        )
        assert torch.equal(painting.latents, expected)


def test_reproducible_paintings_that_do_not_fit_fail_without_lowering_the_limit(network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    loop = StepLoop(FailingNetwork(network, full), BatchSizes({}, MAX_SIZE))
    reproducible = [make_painting(n, steps=4, reproducible=True) for n in range(2)]
    loop.waiting = [*reproducible, make_painting(2, steps=4), make_painting(3, steps=4)]
    loop.tick()
    assert (
        loop.batch_sizes.limit == MAX_SIZE
        and all(painting.cancelled for painting in reproducible)
        and len(loop.active) == 2
    )


def test_every_step_is_reported_to_the_caller(network):
    steps = []
    StepLoop(network, BatchSizes({}, MAX_SIZE)).paint(make_painting(1, steps=6), steps.append)
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]


class Stop(Exception):
    pass


def stop_at_two(step):
    if step.number == 2:
        raise Stop


def test_a_caller_that_stops_does_not_disturb_the_others(one_thread, network):
    loop = StepLoop(network, BatchSizes({}, MAX_SIZE))
    with ThreadPoolExecutor(2) as pool:
        stays = pool.submit(loop.paint, make_painting(1, steps=9), lambda step: time.sleep(0.001))
        with pytest.raises(Stop):
            loop.paint(make_painting(2, steps=50), stop_at_two)
        assert is_close(stays.result(), paint_alone(network, 1, steps=9))
    assert wait_until(lambda: not loop.active)


def wait_until(done, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.005)
    return done()


class FailingNetwork:
    """The network with a rule that may raise for the conditioning of a call; records each call's number of rows."""

    def __init__(self, network, rule):
        self.network, self.rule, self.row_counts = network, rule, []

    def set_adapter(self, adapter):
        self.network.set_adapter(adapter)

    def features(self, conditioning):
        return self.network.features(conditioning)

    def predict(self, noisy, timesteps, conditioning, features, *, reproducible=False):
        self.row_counts.append(len(noisy))
        self.rule(conditioning)
        return self.network.predict(noisy, timesteps, conditioning, features, reproducible=reproducible)


def test_a_painting_that_breaks_the_network_fails_alone(one_thread, network):
    poison = make_painting(5, guidance=1.0).conditioning.states

    def refuse(conditioning):
        if any(torch.equal(row, poison[0]) for row in conditioning.states):
            raise ValueError("this prompt breaks the network")

    loop = StepLoop(FailingNetwork(network, refuse), BatchSizes({}, MAX_SIZE))
    with ThreadPoolExecutor(3) as pool:
        good = [pool.submit(loop.paint, make_painting(number, steps=9), lambda step: None) for number in (1, 2)]
        with pytest.raises(ValueError, match="breaks the network"):
            loop.paint(make_painting(5, guidance=1.0), lambda step: None)
        for number, future in zip((1, 2), good, strict=True):
            assert is_close(future.result(), paint_alone(network, number, steps=9))


def test_when_memory_is_full_fewer_paintings_step_together_and_none_is_lost(one_thread, network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    failing = FailingNetwork(network, full)
    loop, numbers = StepLoop(failing, BatchSizes({}, 4)), list(range(6))
    with ThreadPoolExecutor(6) as pool:
        results = list(
            pool.map(lambda n: loop.paint(make_painting(n, steps=9, guidance=7.5), lambda step: None), numbers)
        )
    assert max(failing.row_counts) > 4 and loop.batch_sizes.limit <= 2 and max(failing.row_counts[-10:]) <= 4
    for number, latents in zip(numbers, results, strict=True):
        assert is_close(latents, paint_alone(network, number, steps=9, guidance=7.5))


@pytest.mark.parametrize("at", ["features", "advance"])
def test_a_step_that_is_retried_uses_the_same_noise(one_thread, network, monkeypatch, at):
    """Whether it fails at its start or at its end: by then the noise has been drawn."""
    failing, failures = FailingNetwork(network, lambda conditioning: None), [1, 1]

    def fail_twice(real):
        def call(*arguments):
            if failures and failures.pop():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(*arguments)

        return call

    if at == "features":
        failing.features = fail_twice(failing.features)
    else:
        monkeypatch.setattr("worker.engine.step_loop.advance", fail_twice(advance))
    loop = StepLoop(failing, BatchSizes({}, MAX_SIZE))
    paintings = [with_sampler(make_painting(n, steps=4), "euler-a") for n in range(4)]
    loop.waiting = list(paintings)
    while loop.waiting or loop.active:
        loop.tick()
    assert not failures and loop.batch_sizes.limit < MAX_SIZE
    monkeypatch.undo()
    for number, painting in enumerate(paintings):
        unretried = with_sampler(make_painting(number, steps=4), "euler-a")
        assert is_close(
            painting.latents, StepLoop(network, BatchSizes({}, MAX_SIZE)).paint(unretried, lambda step: None)
        )


def with_sampler(painting, sampler):
    """Change the sampler of a painting; returns the painting."""
    painting.table = TABLES.text_to_image(sampler, "native", len(painting.table))
    return painting


def test_when_large_pictures_fill_the_memory_the_new_limit_counts_their_area(one_thread, network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    loop = StepLoop(FailingNetwork(network, full), BatchSizes({}, 8))
    loop.usual_shape = SHAPE
    loop.waiting = [make_painting(n, steps=9, guidance=7.5, shape=(4, 8, 16)) for n in range(4)]
    loop.tick()
    assert loop.batch_sizes.limit == 4 and len(loop.active) == len(loop.waiting) == 2
    loop.tick()
    assert len(loop.active) == 2


def test_steps_are_timed_after_a_warm_up_but_not_if_memory_is_too_small(one_thread, network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def timed(size):
        loop = StepLoop(FailingNetwork(network, full), BatchSizes({}, size), clock=iter(range(0, 1000, 2)).__next__)
        return time_steps(loop, [make_painting(number, steps=9, guidance=7.5) for number in range(size)])

    assert len(timed(2)) == 3 and min(timed(2)) > 0
    assert timed(3) == timed(5) == []
    assert (
        time_steps(StepLoop(FailingNetwork(network, full), BatchSizes({}, 1)), [make_painting(1, steps=9)], count=5)
        != []
    )


def test_an_error_while_steps_are_timed_is_raised(network):
    def broken(conditioning):
        raise ValueError("this network is broken")

    loop = StepLoop(FailingNetwork(network, broken), BatchSizes({}, 2))
    with pytest.raises(ValueError, match="is broken"):
        time_steps(loop, [make_painting(number, steps=9) for number in range(2)])


@pytest.mark.parametrize(
    ("guidance", "count", "changes", "rows"),
    [
        (7.5, 1, {}, 2),
        (7.5, 3, {}, 8),
        (1.0, 1, {}, 1),  # twice the rows would cost more than compiling saves
        (1.0, 7, {}, 8),
        (7.5, 5, {}, 10),  # more than the largest compiled number
        (7.5, 3, {"shape": (4, 8, 16)}, 6),
        (7.5, 3, {"adapter": "ink"}, 6),
    ],
)
def test_a_step_is_padded_to_a_compiled_number_of_rows(one_thread, network, guidance, count, changes, rows):
    recording = RecordingNetwork(network)
    loop = StepLoop(recording, BatchSizes({}, 8), buckets=[8, 2])
    loop.usual_shape = SHAPE
    loop.waiting = [make_painting(n, steps=4, guidance=guidance, **changes) for n in range(count)]
    loop.tick()
    assert [call[2] for call in recording.calls] == [rows]


class RecordingNetwork:
    """The network; records the adapter, shape and number of rows of each call."""

    def __init__(self, network):
        self.network, self.calls, self.adapter = network, [], None

    def set_adapter(self, adapter):
        self.adapter = adapter

    def features(self, conditioning):
        return self.network.features(conditioning)

    def predict(self, noisy, timesteps, conditioning, features, *, reproducible=False):
        self.calls.append((self.adapter, tuple(noisy.shape[2:]), len(noisy)))
        return self.network.predict(noisy, timesteps, conditioning, features, reproducible=reproducible)


def test_only_paintings_of_one_shape_and_adapter_share_a_step(one_thread, network):
    kinds = [{}, {"adapter": "ink"}, {"shape": (4, 8, 16)}, {"shape": (4, 8, 16), "adapter": "ink"}]
    recording = RecordingNetwork(network)
    loop = StepLoop(recording, BatchSizes({}, 8))
    loop.waiting = [make_painting(n, steps=4, guidance=1.0, **kinds[n % 4]) for n in range(8)]
    loop.tick()
    assert sorted(recording.calls) == [("", (8, 8), 2), ("", (8, 16), 2), ("ink", (8, 8), 2), ("ink", (8, 16), 2)]
    assert {len(group) for group in group_by_batch_key(loop.active)} == {2}


def test_a_picture_of_twice_the_area_counts_as_two(network):
    loop = StepLoop(network, BatchSizes({}, 4))
    loop.usual_shape = SHAPE
    large, small = {"shape": (4, 8, 16)}, {"shape": (4, 4, 8)}
    loop.waiting = [
        make_painting(n, steps=9, **kind) for n, kind in enumerate((large, {}, large, {}, small, small, small))
    ]
    for number, painting in enumerate(loop.waiting):
        painting.arrived_at = number
    loop.tick()
    # A large painting is next, and no small one overtakes it.
    assert [painting.shape for painting in loop.active] == [large["shape"], SHAPE]
    loop.active.clear()
    loop.tick()
    assert [painting.shape for painting in loop.active] == [large["shape"], SHAPE, small["shape"], small["shape"]]


def test_paintings_of_different_shapes_give_the_same_result_together_as_alone(one_thread, network):
    kinds = [{}, {"shape": (4, 8, 16)}, {"shape": (4, 16, 8)}]
    loop = StepLoop(network, BatchSizes({}, 6))
    with ThreadPoolExecutor(6) as pool:
        results = list(
            pool.map(lambda n: loop.paint(make_painting(n, steps=4, **kinds[n % 3]), lambda step: None), range(6))
        )
    for number, latents in enumerate(results):
        assert is_close(latents, paint_alone(network, number, steps=4, **kinds[number % 3]))


def test_step_times_are_recorded_for_the_usual_shape_only(network):
    loop = StepLoop(network, BatchSizes({1: 5.0}, 1))
    loop.usual_shape = SHAPE
    loop.paint(make_painting(1, steps=1, shape=(4, 8, 16)), lambda step: None)
    assert loop.batch_sizes.seconds == {1: 5.0}
    loop.paint(make_painting(1, steps=1), lambda step: None)
    assert loop.batch_sizes.seconds[1] < 5.0


def test_an_adapter_that_the_model_lacks_fails_only_its_own_painting(network):
    loop = StepLoop(network, BatchSizes({}, 2))
    with pytest.raises(BadSetup, match="no adapters: leave out 'ink'"):
        loop.paint(make_painting(1, adapter="ink"), lambda step: None)
    assert is_close(loop.paint(make_painting(2), lambda step: None), paint_alone(network, 2))


def test_a_painting_that_does_not_fit_even_alone_fails(network):
    def full(conditioning):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        StepLoop(FailingNetwork(network, full), BatchSizes({}, 4)).paint(make_painting(1), lambda step: None)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_denoised_estimate_approaches_the_result(one_thread, network, sampler):
    steps = []
    painting = Painting(
        TABLES.text_to_image(sampler, "native", 12),
        Conditioning(torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(3))),
        1.0,
        torch.Generator().manual_seed(3),
        SHAPE,
    )
    result = StepLoop(network, BatchSizes({}, MAX_SIZE)).paint(painting, steps.append)
    distances = [float((step.denoised - result).norm() / result.norm()) for step in steps]
    assert [step.number for step in steps] == list(range(1, 13))
    assert distances[-1] < 0.05 and distances[-1] < distances[5] < distances[0]
    assert steps[-1].seconds_left == 0 and steps[0].seconds_left > 0


def test_the_energy_of_a_step_is_shared_by_the_number_of_rows(one_thread, network):
    spent = iter(range(1000))
    loop = StepLoop(network, BatchSizes({}, MAX_SIZE), meter=Meter(lambda: 30.0 * next(spent), measured=False))
    loop.waiting = [make_painting(1, steps=4, guidance=1.0), make_painting(2, steps=4, guidance=7.5)]
    one_row, two_rows = loop.waiting
    for _ in range(4):
        loop.tick()
    assert (one_row.joules, two_rows.joules) == (pytest.approx(40.0), pytest.approx(80.0))


class FailingOnce(BatchSizes):
    """Raises on its first call."""

    failed = False

    def can_admit(self, *arguments, **options):
        if not self.failed:
            self.failed = True
            raise ZeroDivisionError("nothing was measured")
        return super().can_admit(*arguments, **options)


def test_an_error_of_the_loop_itself_is_raised_and_the_loop_keeps_working(network, caplog):
    loop = StepLoop(network, FailingOnce({}, MAX_SIZE))
    with pytest.raises(ZeroDivisionError):
        loop.paint(make_painting(1), lambda step: None)
    assert is_close(loop.paint(make_painting(1), lambda step: None), paint_alone(network, 1))
    assert "the step loop failed" in caplog.text


def test_a_short_painting_does_not_wait_for_a_long_one(network):
    loop, finished_steps = StepLoop(network, BatchSizes({}, MAX_SIZE)), []
    long_has_started = threading.Event()

    def paint(number, steps):
        loop.paint(make_painting(number, steps=steps), lambda step: long_has_started.set())
        finished_steps.append(steps)

    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(paint, 1, 200)
        long_has_started.wait(10)
        pool.submit(paint, 2, 4).result()
        assert finished_steps == [4]
        long.result()


def test_the_user_with_the_fewest_active_paintings_is_next_then_the_lowest_rank():
    flood = [make_painting(n, user="ann", arrived_at=float(n), rank=100.0 + n) for n in range(3)]
    other = make_painting(9, user="bob", arrived_at=50.0, rank=150.0)
    urgent = make_painting(10, user="ann", arrived_at=55.0, rank=95.0)
    assert next_in_line([*flood, other], [flood[0]]) is other
    assert next_in_line([*flood, urgent, other], []) is urgent
    assert next_in_line([flood[1], make_painting(11, arrived_at=0.5, rank=101.0)], []).arrived_at == 0.5
    assert next_in_line(flood, []) is flood[0]


def test_at_most_the_maximum_number_of_paintings_step_together(network):
    failing = FailingNetwork(network, lambda conditioning: None)
    loop = StepLoop(failing, BatchSizes({}, 2))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: loop.paint(make_painting(n, steps=9, guidance=1.0), lambda step: None), range(6)))
    assert max(failing.row_counts) == 2
