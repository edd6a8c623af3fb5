"""The peers that Python has: `micro.py PEER WORKLOAD KEY=VALUE…` prints one line of JSON."""

import json
import sys
import time


def ns_each(count, work):
    """Time per repetition of `work`, which does `count` of them."""
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / count


def warm(parameters, work):
    """Does a tenth of the work unmeasured, then all of it."""
    count = parameters["count"]
    work(count // 10 + 1)
    return {"ns": work(count)}


def python_switch(count):
    def numbers():
        n = 0
        while True:
            yield n
            n += 1

    resume = numbers().__next__

    def work():
        for _ in range(count):
            resume()

    return ns_each(count, work)


def greenlet_switch(count):
    from greenlet import getcurrent, greenlet

    back = getcurrent().switch

    def numbers():
        n = 0
        while True:
            back(n)
            n += 1

    resume = greenlet(numbers).switch

    def work():
        for _ in range(count):
            resume()

    return ns_each(count, work)


def main():
    peer, workload, *words = sys.argv[1:]
    parameters = {name: int(value) for name, value in (word.split("=") for word in words)}
    measure = globals().get(f"{peer}_{workload}")
    if measure is None:
        sys.exit(f"{peer} does not do {workload}")
    print(json.dumps(warm(parameters, measure)))


main()
