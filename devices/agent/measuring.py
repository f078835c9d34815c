"""The measuring protocol: warm up until steady, then interleaved rounds of raw times.

Clock and counters come in as arguments, so that the logic is tested without waiting.
"""

import array
import gc
import random
import threading
from typing import Any, Callable, Dict, List

Call = Callable[[], Any]
Clock = Callable[[], int]

SMALLEST_WINDOW = 3  # calls; fewer have no median worth comparing


def middle(values: List[int]) -> int:
    """The upper median."""
    return sorted(values)[len(values) // 2]


def window(call: Call, clock: Clock, length_ns: float) -> List[int]:
    """Times of back-to-back calls for that long, and at least a few."""
    times: List[int] = []
    start = before = clock()
    while before - start < length_ns or len(times) < SMALLEST_WINDOW:
        call()
        after = clock()
        times.append(after - before)
        before = after
    return times


def warm_up(call: Call, clock: Clock, tolerance: float, window_s: float, max_s: float) -> Dict[str, Any]:
    """Calls until two window medians in a row stay within the tolerance of the one before."""
    start, medians, calls, calm = clock(), [], 0, 0
    while calm < 2 and clock() - start < max_s * 1e9:
        times = window(call, clock, window_s * 1e9)
        calls += len(times)
        medians.append(middle(times))
        near = len(medians) > 1 and abs(medians[-1] - medians[-2]) <= tolerance * medians[-2]
        calm = calm + 1 if near else 0
    return {"steady": calm >= 2, "calls": calls, "medians_ns": medians}


def fill(stamps: "array.array[int]", call: Call, clock: Clock) -> None:
    """Fills the stamps with one clock reading before the first call and one after each; nothing else is done."""
    stamps[0] = clock()
    for number in range(1, len(stamps)):
        call()
        stamps[number] = clock()


def rounds(
    calls: List[Call],
    per_round: List[int],
    plan: Dict[str, Any],
    clock: Clock,
    counters: Callable[[], Any],
    since: Callable[[Any], Any],
    emit: Callable[..., None],
) -> None:
    """Rounds in which every arm has its turn, in an order shuffled anew each round.

    Stops after ``rounds`` rounds, or earlier when ``max_s`` is used up and ``least_rounds`` are done:
    always between rounds, so that every arm has the same number of turns. Tells at the end which of both it was.
    """
    order = list(range(len(calls)))
    shuffle = random.Random(plan["seed"]).shuffle
    start = clock()
    gc.collect()
    gc.disable()
    reason = "rounds"
    for number in range(plan["rounds"]):
        if number >= plan["least_rounds"] and clock() - start > plan["max_s"] * 1e9:
            reason = "time"
            break
        shuffle(order)
        for arm in order:
            calls[arm]()  # the caches still belong to the arm before: not counted
            stamps = array.array("q", [0]) * (per_round[arm] + 1)
            before = counters()
            fill(stamps, calls[arm], clock)
            moved = since(before)
            times = [after - start for start, after in zip(stamps, stamps[1:])]
            emit("round", number=number, arm=arm, start_ns=stamps[0], ns=times, **moved)
    gc.enable()
    emit("ended", reason=reason)


def per_round(median_ns: int, round_s: float) -> int:
    """Number of calls that fill a round."""
    return max(1, int(round(round_s * 1e9 / max(1, median_ns))))


def throughput(
    calls: List[Call],
    seconds: float,
    clock: Clock,
    counters: Callable[[], Any],
    since: Callable[[Any], Any],
) -> Dict[str, Any]:
    """All calls at once, each in its own thread, for that long; every call counts until its thread stops.

    The threads stay until the counters were read: what the kernel counts for a thread is gone when it ends.
    """
    counts = [0] * len(calls)
    done, leave = threading.Semaphore(0), threading.Event()
    before, start = counters(), clock()
    end = start + int(seconds * 1e9)

    def work(stream: int) -> None:
        try:
            while clock() < end:
                calls[stream]()
                counts[stream] += 1
        finally:
            done.release()
            leave.wait()

    threads = [threading.Thread(target=work, args=(stream,)) for stream in range(len(calls))]
    for thread in threads:
        thread.start()
    for _ in threads:
        done.acquire()
    elapsed = clock() - start
    moved = since(before)
    leave.set()
    for thread in threads:
        thread.join()
    return dict(moved, streams=len(calls), calls=sum(counts), elapsed_ns=elapsed)
