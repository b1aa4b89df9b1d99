"""The step loop over real diffusers networks at toy size: paintings come and go, and each comes out as if alone."""

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
from worker.engine.samplers import SAMPLERS, Tables, advance
from worker.engine.step_loop import Loop, Ticket, alike, step_times, turn

CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TABLES = Tables({**CONFIG, "clip_sample": False, "timestep_spacing": "leading", "steps_offset": 1})
SHAPE = (4, 8, 8)
MOST = 4


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


def ticket(number: int, **changes) -> Ticket:
    drawn = random.Random(number)
    guidance = changes.pop("guidance", drawn.choice([1.0, 3.0, 7.5]))
    states = torch.randn(2 if guidance > 1 else 1, 5, 8, generator=torch.Generator().manual_seed(number))
    sampler, steps = drawn.choice(sorted(SAMPLERS)), changes.pop("steps", drawn.choice([1, 2, 4, 6, 9]))
    sampler = "ddim" if steps > 50 else sampler  # lcm has no more
    return Ticket(
        TABLES.of(sampler, "native", steps),
        Conditioning(states),
        guidance,
        torch.Generator().manual_seed(number),
        **{"shape": SHAPE, **changes},
    )


def alone(network, number, **changes):
    return Loop(network, BatchSizes({}, MOST)).paint(ticket(number, **changes), lambda step: None)


def together(network, numbers, order=None, **changes):
    """All of them in one loop, coming in some order a moment apart."""
    loop = Loop(network, BatchSizes({}, MOST))

    def come(number):
        time.sleep(0.002 * (order or numbers).index(number))
        return loop.paint(ticket(number, **changes), lambda step: None)

    with ThreadPoolExecutor(len(numbers)) as pool:
        return dict(zip(numbers, pool.map(come, numbers), strict=True))


def close(found, expected):
    return float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_paintings_of_all_kinds_come_out_together_as_they_do_alone(one_thread, network):
    for number, found in together(network, list(range(12))).items():
        assert close(found, alone(network, number))


def test_fixed_ones_are_the_same_to_the_bit_in_any_company(one_thread, network):
    first = together(network, list(range(8)), fixed=True)
    for seed in range(5):
        order = random.Random(seed).sample(range(8), 8)
        again = together(network, list(range(8)), order, fixed=True)
        assert all(torch.equal(first[number], again[number]) for number in range(8))
    assert torch.equal(first[3], alone(network, 3, fixed=True))


def test_fixed_ones_step_apart_from_others_and_at_their_own_width(one_thread, network):
    """Others are not slowed down by the rows that fixed ones are filled up with."""
    failing = Failing(network, lambda conditioning: None)
    loop = Loop(failing, BatchSizes({}, MOST), exact_rows=4)
    fixed = [ticket(n, steps=4, guidance=7.5, fixed=True) for n in range(3)]
    others = [ticket(n, steps=4, guidance=1.0) for n in range(3, 4)]
    loop.waiting = [*fixed, *others]
    loop.tick()
    assert sorted(failing.widths) == [1, 4, 4]  # two fixed ones of two rows fill a call
    while loop.active:
        loop.tick()
    for number, one in enumerate(fixed):
        lone = Loop(network, BatchSizes({}, 2), exact_rows=4).paint(
            ticket(number, steps=4, guidance=7.5, fixed=True), lambda step: None
        )
        assert torch.equal(one.latents, lone)


def test_fixed_ones_that_do_not_fit_take_nobodys_room(network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    loop = Loop(Failing(network, full), BatchSizes({}, MOST))
    fixed = [ticket(n, steps=4, fixed=True) for n in range(2)]
    loop.waiting = [*fixed, ticket(2, steps=4), ticket(3, steps=4)]
    loop.tick()
    assert loop.widths.limited == MOST and all(one.gone for one in fixed) and len(loop.active) == 2


def test_every_step_is_told_to_whoever_waits(network):
    told = []
    Loop(network, BatchSizes({}, MOST)).paint(ticket(1, steps=6), told.append)
    assert [step.number for step in told] == [1, 2, 3, 4, 5, 6]


class Stop(Exception):
    pass


def stop_at_two(step):
    if step.number == 2:
        raise Stop


def test_who_stops_leaves_the_others_alone(one_thread, network):
    loop = Loop(network, BatchSizes({}, MOST))
    with ThreadPoolExecutor(2) as pool:
        stays = pool.submit(loop.paint, ticket(1, steps=9), lambda step: time.sleep(0.001))
        with pytest.raises(Stop):
            loop.paint(ticket(2, steps=50), stop_at_two)
        assert close(stays.result(), alone(network, 1, steps=9))
    assert wait_until(lambda: not loop.active)


def wait_until(done, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.005)
    return done()


class Failing:
    """The network, but for what a rule says of the rows that come together."""

    def __init__(self, network, rule):
        self.network, self.rule, self.widths = network, rule, []

    def set_adapter(self, adapter):
        self.network.set_adapter(adapter)

    def features(self, conditioning):
        return self.network.features(conditioning)

    def predict(self, noisy, timesteps, conditioning, features, *, exact=False):
        self.widths.append(len(noisy))
        self.rule(conditioning)
        return self.network.predict(noisy, timesteps, conditioning, features, exact=exact)


def test_a_poisoned_painting_fails_alone(one_thread, network):
    poison = ticket(5, guidance=1.0).conditioning.states

    def refuse(conditioning):
        if any(torch.equal(row, poison[0]) for row in conditioning.states):
            raise ValueError("this prompt breaks the network")

    loop = Loop(Failing(network, refuse), BatchSizes({}, MOST))
    with ThreadPoolExecutor(3) as pool:
        good = [pool.submit(loop.paint, ticket(number, steps=9), lambda step: None) for number in (1, 2)]
        with pytest.raises(ValueError, match="breaks the network"):
            loop.paint(ticket(5, guidance=1.0), lambda step: None)
        for number, future in zip((1, 2), good, strict=True):
            assert close(future.result(), alone(network, number, steps=9))


def test_when_memory_is_full_fewer_go_on_and_nothing_is_lost(one_thread, network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    failing = Failing(network, full)
    loop, numbers = Loop(failing, BatchSizes({}, 4)), list(range(6))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: loop.paint(ticket(n, steps=9, guidance=7.5), lambda step: None), numbers))
    assert max(failing.widths) > 4 and loop.widths.limited <= 2 and max(failing.widths[-10:]) <= 4
    for number, latents in zip(numbers, found, strict=True):
        assert close(latents, alone(network, number, steps=9, guidance=7.5))


@pytest.mark.parametrize("at", ["features", "advance"])
def test_a_step_that_is_tried_again_has_the_same_noise(one_thread, network, monkeypatch, at):
    """At its beginning as at its end: both come after noise was drawn."""
    failing, full = Failing(network, lambda conditioning: None), [1, 1]

    def once(real):
        def call(*conditioning):
            if full and full.pop():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(*conditioning)

        return call

    if at == "features":
        failing.features = once(failing.features)
    else:
        monkeypatch.setattr("worker.engine.step_loop.advance", once(advance))
    loop = Loop(failing, BatchSizes({}, MOST))
    wanted = [table_of(ticket(n, steps=4), "euler-a") for n in range(4)]
    loop.waiting = list(wanted)
    while loop.waiting or loop.active:
        loop.tick()
    assert not full and loop.widths.limited < MOST
    monkeypatch.undo()
    for number, one in enumerate(wanted):
        lone = table_of(ticket(number, steps=4), "euler-a")
        assert close(one.latents, Loop(network, BatchSizes({}, MOST)).paint(lone, lambda step: None))


def table_of(one, sampler):
    """The same painting by another sampler."""
    one.table = TABLES.of(sampler, "native", len(one.table))
    return one


def test_when_memory_is_full_with_large_pictures_as_many_small_ones_still_fit(one_thread, network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    loop = Loop(Failing(network, full), BatchSizes({}, 8))
    loop.usual = SHAPE
    loop.waiting = [ticket(n, steps=9, guidance=7.5, shape=(4, 8, 16)) for n in range(4)]
    loop.tick()
    assert loop.widths.limited == 4 and len(loop.active) == len(loop.waiting) == 2
    loop.tick()
    assert len(loop.active) == 2


def test_steps_are_timed_after_the_first_and_not_where_memory_is_too_small(one_thread, network):
    def full(conditioning):
        if len(conditioning) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def asked(many):
        loop = Loop(Failing(network, full), BatchSizes({}, many), clock=iter(range(0, 1000, 2)).__next__)
        return step_times(loop, [ticket(number, steps=9, guidance=7.5) for number in range(many)])

    assert len(asked(2)) == 3 and min(asked(2)) > 0
    assert asked(3) == asked(5) == []
    assert step_times(Loop(Failing(network, full), BatchSizes({}, 1)), [ticket(1, steps=9)], looks=5) != []


def test_what_goes_wrong_while_steps_are_timed_is_raised(network):
    def broken(conditioning):
        raise ValueError("this network is broken")

    loop = Loop(Failing(network, broken), BatchSizes({}, 2))
    with pytest.raises(ValueError, match="is broken"):
        step_times(loop, [ticket(number, steps=9) for number in range(2)])


@pytest.mark.parametrize(
    ("guidance", "many", "changes", "rows"),
    [
        (7.5, 1, {}, 2),
        (7.5, 3, {}, 8),
        (1.0, 1, {}, 1),  # twice the rows would cost more than compiling saves
        (1.0, 7, {}, 8),
        (7.5, 5, {}, 10),  # beyond the last
        (7.5, 3, {"shape": (4, 8, 16)}, 6),
        (7.5, 3, {"adapter": "ink"}, 6),
    ],
)
def test_a_step_is_filled_up_to_rows_that_were_compiled(one_thread, network, guidance, many, changes, rows):
    worn = Worn(network)
    loop = Loop(worn, BatchSizes({}, 8), buckets=[8, 2])
    loop.usual = SHAPE
    loop.waiting = [ticket(n, steps=4, guidance=guidance, **changes) for n in range(many)]
    loop.tick()
    assert [step[2] for step in worn.steps] == [rows]


class Worn:
    """The network, which notes what it wears at each step, and of which shape its rows are."""

    def __init__(self, network):
        self.network, self.steps, self.worn = network, [], None

    def set_adapter(self, adapter):
        self.worn = adapter

    def features(self, conditioning):
        return self.network.features(conditioning)

    def predict(self, noisy, timesteps, conditioning, features, *, exact=False):
        self.steps.append((self.worn, tuple(noisy.shape[2:]), len(noisy)))
        return self.network.predict(noisy, timesteps, conditioning, features, exact=exact)


def test_only_what_shares_shape_and_adapter_shares_a_step(one_thread, network):
    kinds = [{}, {"adapter": "ink"}, {"shape": (4, 8, 16)}, {"shape": (4, 8, 16), "adapter": "ink"}]
    worn = Worn(network)
    loop = Loop(worn, BatchSizes({}, 8))
    loop.waiting = [ticket(n, steps=4, guidance=1.0, **kinds[n % 4]) for n in range(8)]
    loop.tick()
    assert sorted(worn.steps) == [("", (8, 8), 2), ("", (8, 16), 2), ("ink", (8, 8), 2), ("ink", (8, 16), 2)]
    assert {len(group) for group in alike(loop.active)} == {2}


def test_a_picture_of_twice_the_area_takes_the_room_of_two(network):
    loop = Loop(network, BatchSizes({}, 4))
    loop.usual = SHAPE
    large, small = {"shape": (4, 8, 16)}, {"shape": (4, 4, 8)}
    loop.waiting = [ticket(n, steps=9, **kind) for n, kind in enumerate((large, {}, large, {}, small, small, small))]
    for number, one in enumerate(loop.waiting):
        one.came = number
    loop.tick()
    assert [one.shape for one in loop.active] == [large["shape"], SHAPE]  # and nobody overtakes the next
    loop.active.clear()
    loop.tick()
    assert [one.shape for one in loop.active] == [large["shape"], SHAPE, small["shape"], small["shape"]]


def test_shapes_in_company_come_out_as_alone(one_thread, network):
    kinds = [{}, {"shape": (4, 8, 16)}, {"shape": (4, 16, 8)}]
    loop = Loop(network, BatchSizes({}, 6))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: loop.paint(ticket(n, steps=4, **kinds[n % 3]), lambda step: None), range(6)))
    for number, latents in enumerate(found):
        assert close(latents, alone(network, number, steps=4, **kinds[number % 3]))


def test_a_width_is_learnt_of_the_usual_shape_only(network):
    loop = Loop(network, BatchSizes({1: 5.0}, 1))
    loop.usual = SHAPE
    loop.paint(ticket(1, steps=1, shape=(4, 8, 16)), lambda step: None)
    assert loop.widths.seconds == {1: 5.0}
    loop.paint(ticket(1, steps=1), lambda step: None)
    assert loop.widths.seconds[1] < 5.0


def test_an_adapter_that_a_model_has_not_fails_alone(network):
    loop = Loop(network, BatchSizes({}, 2))
    with pytest.raises(BadSetup, match="no adapters, so not 'ink'"):
        loop.paint(ticket(1, adapter="ink"), lambda step: None)
    assert close(loop.paint(ticket(2), lambda step: None), alone(network, 2))


def test_a_painting_that_is_too_large_alone_fails(network):
    def full(conditioning):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Loop(Failing(network, full), BatchSizes({}, 4)).paint(ticket(1), lambda step: None)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_what_it_will_be_comes_nearer_with_every_step(one_thread, network, sampler):
    steps = []
    one = Ticket(
        TABLES.of(sampler, "native", 12),
        Conditioning(torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(3))),
        1.0,
        torch.Generator().manual_seed(3),
        SHAPE,
    )
    end = Loop(network, BatchSizes({}, MOST)).paint(one, steps.append)
    away = [float((step.clean - end).norm() / end.norm()) for step in steps]
    assert [step.number for step in steps] == list(range(1, 13))
    assert away[-1] < 0.05 and away[-1] < away[5] < away[0]
    assert steps[-1].seconds_left == 0 and steps[0].seconds_left > 0


def test_a_step_costs_each_its_rows_share(one_thread, network):
    spent = iter(range(1000))
    loop = Loop(network, BatchSizes({}, MOST), meter=Meter(lambda: 30.0 * next(spent), measured=False))
    loop.waiting = [ticket(1, steps=4, guidance=1.0), ticket(2, steps=4, guidance=7.5)]
    one, two = loop.waiting
    for _ in range(4):
        loop.tick()
    assert (one.joules, two.joules) == (pytest.approx(40.0), pytest.approx(80.0))


class Stumbling(BatchSizes):
    """Cannot count, once."""

    stumbled = False

    def room(self, *conditioning, **named):
        if not self.stumbled:
            self.stumbled = True
            raise ZeroDivisionError("nothing was measured")
        return super().room(*conditioning, **named)


def test_a_fault_of_the_loop_itself_is_told_and_it_goes_on(network, caplog):
    loop = Loop(network, Stumbling({}, MOST))
    with pytest.raises(ZeroDivisionError):
        loop.paint(ticket(1), lambda step: None)
    assert close(loop.paint(ticket(1), lambda step: None), alone(network, 1))
    assert "stumbled" in caplog.text


def test_a_short_one_does_not_wait_for_a_long_one(network):
    loop, ended = Loop(network, BatchSizes({}, MOST)), []
    begun = threading.Event()

    def paint(number, steps):
        loop.paint(ticket(number, steps=steps), lambda step: begun.set())
        ended.append(steps)

    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(paint, 1, 200)
        begun.wait(10)
        pool.submit(paint, 2, 4).result()
        assert ended == [4]
        long.result()


def test_turns_go_to_who_has_least_under_way_then_by_place():
    flood = [ticket(n, user="ann", came=float(n), rank=100.0 + n) for n in range(3)]
    other = ticket(9, user="bob", came=50.0, rank=150.0)
    urgent = ticket(10, user="ann", came=55.0, rank=95.0)
    assert turn([*flood, other], [flood[0]]) is other
    assert turn([*flood, urgent, other], []) is urgent
    assert turn([flood[1], ticket(11, came=0.5, rank=101.0)], []).came == 0.5
    assert turn(flood, []) is flood[0]


def test_nobody_is_let_in_beyond_the_most(network):
    failing = Failing(network, lambda conditioning: None)
    loop = Loop(failing, BatchSizes({}, 2))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: loop.paint(ticket(n, steps=9, guidance=1.0), lambda step: None), range(6)))
    assert max(failing.widths) == 2
