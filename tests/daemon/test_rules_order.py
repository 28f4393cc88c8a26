"""The order of arrival changes nothing in the end."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.records import Setup


def messy_night(frame_of, rng):
    """A night of two settings with gaps, few biases, several epochs and duplicates."""
    settings_ = [frame_of("x", "BIAS", 0).setup]
    settings_.append(Setup({**settings_[0], "grating": 300}))
    frames = [
        frame_of(f"bias_{n}.fits", "BIAS", rng.choice((0, 1, 2, 600)), exposure_s=0.0) for n in range(rng.randint(1, 5))
    ]
    for kind, name, most in (
        ("DARK", "dark", 3),
        ("LFLAT", "lflat", 1),
        ("MFFFF", "flat", 4),
        ("MFARC", "arc", 4),
        ("MFOBJECT", "object", 4),
        ("MFSKY", "sky", 1),
    ):
        frames += [
            frame_of(
                f"{name}_{n}.fits",
                kind,
                rng.choice((5, 8, 20, 45, 200, 210, 590, 3000)),
                exposure_s=rng.choice((10.0, 50.0)),
                setup=rng.choice((settings_[0], settings_[0], settings_[1])),
            )
            for n in range(rng.randint(0, most))
        ]
    copied = rng.choice(frames)
    return [*frames, replace(copied, path=rng.choice(("a_copy.fits", "z_copy.fits")))]


def run_in_some_order(night, frames, rng):
    """Land frames in any order, doing a random part of the work between."""
    order = list(frames)
    rng.shuffle(order)
    for frame in order:
        night.now += timedelta(seconds=rng.choice((0, 1, 15, 60, 2000)))
        night.land(replace(frame, landed=night.now))
        for _ in range(rng.randint(0, 3)):
            jobs = night.plan().jobs
            if jobs:
                night.finish(rng.choice(jobs))
    night.settle()
    return night


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rng=st.randoms(use_true_random=True), n_spoiled=st.integers(0, 3), batch=st.booleans())
def test_the_end_does_not_depend_on_the_order_of_arrival(world, frame_of, rng, n_spoiled, batch):
    frames = messy_night(frame_of, rng)
    spoiled = {frame.key for frame in rng.sample(frames, min(n_spoiled, len(frames)))}

    def fails(job):
        return "spoiled" if spoiled & {frame.key for frame in job.frames} else None

    one = run_in_some_order(world(fails=fails), frames, rng)
    other = run_in_some_order(world(fails=fails, batch=batch), frames, rng)
    assert one.current() == other.current()
    assert one.states() == other.states()
