"""The profile over all threads, on whichever branch this interpreter takes."""

import pstats
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskmill.samples import profile

#: Seconds that are lost when a profile rounds.
SLACK = 0.001


class Watch:
    """Takes the time that calls take from outside, summed over all of them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.seconds = 0.0
        self._lock = threading.Lock()

    def time(self, function: Callable[..., float], *arguments: Any) -> float:
        """Call a function, add what it took, and return what it returns."""
        begin = time.perf_counter()
        returned = function(*arguments)
        with self._lock:
            self.seconds += time.perf_counter() - begin
        return returned


def spin(steps: int) -> float:
    """Use the CPU in many short calls, and return the seconds that it took."""
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - begin


def step() -> int:
    """Take a little time."""
    return sum(range(2000))


def rest(times: int, watch: Watch | None = None) -> float:
    """Sleep in several calls, and return the seconds that they took, as they say themselves."""
    watch = watch or Watch()
    return sum(watch.time(nap) for _ in range(times))


def nap() -> float:
    """Sleep a little, and return the seconds that it took."""
    begin = time.perf_counter()
    time.sleep(0.05)
    return time.perf_counter() - begin


def in_threads(profiler: profile.Profiler, *works: tuple[object, ...]) -> None:
    """Run each work in a profiled thread of its own, all at once."""

    def run(function: object, *arguments: object) -> None:
        with profiler.thread():
            function(*arguments)  # type: ignore[operator]  # functions with different parameters

    threads = [threading.Thread(target=run, args=work) for work in works]
    profiler.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    profiler.stop()


def rows(path: Path) -> dict[str, tuple[int, float, float]]:
    """Return calls, own and cumulative seconds by the function's bare name."""
    return {
        profile.function_name(function).rpartition("(")[2].rstrip(")}"): (calls, own, cumulative)
        for function, (_, calls, own, cumulative, _) in profile.entries(path).items()
    }


def test_branch_fits_the_interpreter() -> None:
    """One shared profile from Python 3.12 on, one per thread before."""
    assert (sys.version_info >= (3, 12)) == profile.SHARED


def test_every_thread_is_in_the_profile_with_its_own_time(tmp_path: Path) -> None:
    """Threads that sleep and a thread that computes, side by side, each get the calls and seconds that are theirs."""
    profiler = profile.Profiler()
    naps, rests, spins = Watch(), Watch(), Watch()
    slept: list[float] = []
    spun: list[float] = []
    works = [(lambda: slept.append(rests.time(rest, 8, naps)),)] * 3
    in_threads(profiler, (lambda: spun.append(spins.time(spin, 3000)),), *works)
    profiler.dump(tmp_path / "profile" / "one.pstats")
    found = rows(tmp_path / "profile" / "one.pstats")
    assert [found[name][0] for name in ("nap", "rest", "spin", "step")] == [24, 3, 1, 3000]
    # What a profile says of a call lies between what its function takes the time of and what its caller does; nothing
    # of the sleepers' time is charged to the thread that computes.
    assert 24 * 0.05 <= sum(slept) <= found["nap"][2] + SLACK <= naps.seconds + 2 * SLACK
    assert naps.seconds <= found["rest"][2] + SLACK <= rests.seconds + 2 * SLACK
    assert sum(spun) <= found["spin"][2] + SLACK <= spins.seconds + 2 * SLACK
    assert found["step"][2] < found["spin"][2]


def test_threads_that_do_not_ask_are_not_profiled(tmp_path: Path) -> None:
    """A thread outside `thread()` leaves no trace."""
    profiler = profile.Profiler()
    other = threading.Thread(target=rest, args=(3,))
    profiler.start()
    with profiler.thread():
        other.start()
        step()
        other.join()
    profiler.stop()
    profiler.dump(tmp_path / "p" / "one.pstats")
    found = rows(tmp_path / "p" / "one.pstats")
    assert found["step"][0] == 1
    assert "nap" not in found


def test_profilers_follow_one_another(tmp_path: Path) -> None:
    """Posting and collecting are profiled one after the other in one process, and added up."""
    for number, times in enumerate((2, 3)):
        profiler = profile.Profiler()
        in_threads(profiler, (rest, times))
        profiler.dump(tmp_path / "profile" / f"{number}.pstats")
    assert profile.merge((tmp_path / "profile").glob("*.pstats"), tmp_path, "title")
    assert rows(tmp_path / "profile.pstats")["nap"][0] == 5
    assert pstats.Stats(str(tmp_path / "profile.pstats"))
    assert (tmp_path / "profile.txt").read_text().startswith("title\n")


def test_profiler_that_is_not_wanted_does_nothing(tmp_path: Path) -> None:
    """`--no-profile` leaves no files."""
    profiler = profile.Profiler(wanted=False)
    in_threads(profiler, (rest, 1))
    profiler.dump(tmp_path / "profile" / "none.pstats")
    assert not profile.merge((tmp_path / "profile").glob("*.pstats"), tmp_path, "title")
    assert list(tmp_path.iterdir()) == []
