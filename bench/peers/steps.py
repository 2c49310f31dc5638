"""Takes steps of torch, optax and braintools on demand, and times them.

Reads commands from stdin and answers on stdout, one JSON object a line, so that a benchmark in another process can let these
libraries take turns with its own contestants:

    {"command": "describe"}                  versions, cores, contestants, and what is missing and why
    {"command": "prepare", "rule": "momentum" | "adam", "mode": "alone" | "bare" | "received", "size": 16384}
    {"command": "prepare", "rule": "sgd" | "adagrad" | "adam", "mode": "rows", "dims": [9, 4], "rows": [[0, 7], [3]]}
                                             builds and compiles every contestant; the weights each has some steps later
    {"command": "lap", "contestant": "...", "calls": 100}
                                             nanoseconds a call
    {"command": "quit"}                      so does the end of stdin

Where there is more than one sensible way to take gradients, each is tried, and the fastest takes part. Python's garbage
collector rests during a lap, as in `timeit`. What a call counts is told in contestants.py and rows.py.
"""

import gc
import importlib
import importlib.metadata
import math
import platform
import time
from functools import partial
from itertools import repeat

from answers import reason, serve
from contestants import CORES, Problem, contestants
from rows import RowsProblem, rows_contestants

CHECKED_STEPS, CHECKED_WEIGHTS = 3, 16
TRIAL_SECONDS = 0.3


def seconds(call, calls):
    """The time that many calls take together."""
    start = time.perf_counter_ns()
    for _ in repeat(None, calls):
        call()
    return (time.perf_counter_ns() - start) / 1e9


def trial(contestant, problem, way):
    """The least time of a call, some calls in: memory that is touched for the first time is the system's business."""
    call, _ = contestant.make(problem, way)
    seconds(call, max(CHECKED_STEPS, problem.cycle))
    best, end = math.inf, time.perf_counter() + TRIAL_SECONDS
    while time.perf_counter() < end:
        best = min(best, seconds(call, 1))
    return best


class Session:
    def __init__(self):
        self.contestants, self.missing, self.versions = {}, {}, {'python': platform.python_version()}
        for name, contestant in (contestants() | rows_contestants()).items():
            try:
                for package in ('numpy', *contestant.packages):
                    importlib.import_module(package)
                    self.versions[package] = importlib.metadata.version(package)
                self.contestants[name] = contestant
            except Exception as error:
                self.missing[name] = reason(error)
        self.calls = {}

    def describe(self):
        return {'versions': self.versions, 'cores': CORES, 'contestants': list(self.contestants), 'missing': self.missing}

    def prepare(self, mode, **options):
        self.calls.clear()
        problem = (RowsProblem if mode == 'rows' else Problem)(mode=mode, **options)
        ready, failed = {}, {}
        for name, contestant in self.contestants.items():
            ways = contestant.ways.get(mode, ())
            if not ways:
                continue
            gc.collect()
            try:
                contestant.enter()
                way = ways[0] if len(ways) == 1 else min(ways, key=partial(trial, contestant, problem))
                call, weights = contestant.make(problem, way)
                seconds(call, CHECKED_STEPS)
                ready[name] = {'way': way, 'weights': weights()[:CHECKED_WEIGHTS].tolist()}
                seconds(call, problem.cycle)
                self.calls[name] = call
            except Exception as error:
                failed[name] = reason(error)
        return {'steps': CHECKED_STEPS, 'ready': ready, 'failed': failed}

    def lap(self, contestant, calls):
        self.contestants[contestant].enter()
        gc.disable()
        try:
            return {'ns': seconds(self.calls[contestant], calls) * 1e9 / calls}
        finally:
            gc.enable()


if __name__ == '__main__':
    session = Session()
    serve({'describe': session.describe, 'prepare': session.prepare, 'lap': session.lap})
