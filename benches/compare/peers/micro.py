"""The peers that Python has: `micro.py PEER WORKLOAD KEY=VALUE…` prints one line of JSON.

The garbage collector is left as it is. What a peer does not do is simply not here.
"""

import json
import os
import sys
import time

COLD_TURNS = 5
SIDES = 4
CAPACITY = 128
TIMEOUT = 10.0
LONG = 3600.0

WORKLOADS = {}


def workload(peer, name):
    def add(measure):
        WORKLOADS[peer, name] = measure
        return measure

    return add


def ns_since(start, count):
    return (time.perf_counter_ns() - start) / count


def warm(count, work):
    """Does a tenth of the work unmeasured, then all of it."""
    work(count // 10 + 1)
    return {"ns": work(count)}


# Generators: Python's own, and those of greenlet.


def numbers():
    n = 0
    while True:
        yield n
        n += 1


def python_counter():
    return numbers().__next__


def greenlet_counter():
    from greenlet import getcurrent, greenlet

    back = getcurrent().switch

    def count():
        n = 0
        while True:
            back(n)
            n += 1

    return greenlet(count).switch


def python_life(i):
    def once():
        yield i

    for _ in once():
        pass


def greenlet_life(i):
    from greenlet import greenlet

    greenlet(lambda: i).switch()


def generators(peer, counter, life):
    def round_trips(count):
        resume = counter()
        start = time.perf_counter_ns()
        for _ in range(count):
            resume()
        return ns_since(start, count)

    def lives(count):
        start = time.perf_counter_ns()
        for i in range(count):
            life(i)
        return ns_since(start, count)

    def counters(threads):
        resumes = []
        for _ in range(threads):
            resume = counter()
            resume()
            resumes.append(resume)
        return resumes

    @workload(peer, "switch")
    def switch(p):
        return warm(p["count"], round_trips)

    @workload(peer, "create")
    def create(p):
        return warm(p["count"], lives)

    @workload(peer, "create-fresh")
    def create_fresh(p):
        start = time.perf_counter_ns()
        resumes = counters(p["threads"])
        ns = ns_since(start, len(resumes))
        return {"ns": ns}

    @workload(peer, "cold")
    def cold(p):
        resumes = counters(p["threads"])
        for turn in range(COLD_TURNS + 1):
            if turn == 1:
                start = time.perf_counter_ns()
            for resume in resumes:
                resume()
        return {"ns": ns_since(start, COLD_TURNS * len(resumes))}


generators("python", python_counter, python_life)
generators("greenlet", greenlet_counter, greenlet_life)


# What both kinds of threads share.


def times(threads):
    state = 1
    for _ in range(threads):
        state = state * 48_271 % 0x7FFF_FFFF
        yield state % 1_000_000_000 / 1e9


def slept(cpu_before, lateness):
    cpu_us = (time.process_time() - cpu_before) * 1e6 / len(lateness)
    lateness = sorted(lateness)
    last = len(lateness) - 1
    return {"cpu_us": cpu_us, "late_p50_ms": lateness[last // 2] * 1e3, "late_p99_ms": lateness[last * 99 // 100] * 1e3}


def memory():
    with open("/proc/self/status") as status:
        held = dict(line.split(":", 1) for line in status)
    return [int(held[name].split()[0]) << 10 for name in ("VmRSS", "VmPTE")]


class Crowd:
    def __init__(self, threads):
        self.threads, self.parked, self.before, self.start = threads, 0, memory(), time.perf_counter_ns()

    def weigh(self):
        start_ns = ns_since(self.start, self.threads)
        resident, tables = ((now - before) / self.threads for now, before in zip(memory(), self.before))
        return {"bytes": resident + tables, "resident": resident, "page_tables": tables, "start_ns": start_ns}


def print_and_exit(metrics):
    """A million sleepers need not be woken to be forgotten."""
    print(json.dumps(metrics), flush=True)
    os._exit(0)


class Window:
    """What the one thread that keeps the time does between its own yields."""

    def __init__(self, threads, count):
        self.yields, self.turns, self.next, self.count, self.start, self.stop = 0, 0, 3 * threads, count, None, False

    def turn(self):
        self.turns += 1
        if self.turns > 5 and self.yields >= self.next:
            if self.start is not None:
                self.stop = True
                return ns_since(self.start, self.yields - self.before)
            self.start, self.before = time.perf_counter_ns(), self.yields
            self.next, self.turns = self.yields + self.count, 0
        self.yields += 1
        return None


# asyncio


def on_loop(name, again=True):
    """Runs what it decorates in a loop; twice, the first time unmeasured, with a tenth of the count if there is one."""

    def add(measure):
        @workload("asyncio", name)
        def run(p):
            import asyncio

            async def main():
                if again:
                    await measure(dict(p, count=p["count"] // 10 + 1) if "count" in p else p)
                return await measure(p)

            return asyncio.run(main())

        return measure

    return add


@on_loop("spawn")
async def asyncio_spawn(p):
    from asyncio import create_task

    async def give(i):
        return i

    start = time.perf_counter_ns()
    for wave in range(0, p["threads"], p["wave"]):
        handles = [create_task(give(i)) for i in range(wave, wave + p["wave"])]
        for handle in handles:
            await handle
    return {"ns": ns_since(start, p["threads"])}


@on_loop("yield", again=False)
async def asyncio_yield(p):
    from asyncio import create_task, sleep

    window = Window(p["threads"], p["count"])

    async def others():
        while not window.stop:
            window.yields += 1
            await sleep(0)

    tasks = [create_task(others()) for _ in range(p["threads"] - 1)]
    while (ns := window.turn()) is None:
        await sleep(0)
    print_and_exit({"ns": ns} if tasks else {})


async def asyncio_ping_pong(count, timeout=None):
    from asyncio import Queue, create_task, wait_for

    there, back = Queue(1), Queue(1)

    def recv(queue):
        return queue.get() if timeout is None else wait_for(queue.get(), timeout)

    async def echo():
        while (message := await recv(there)) is not None:
            await back.put(message)

    task = create_task(echo())
    start = time.perf_counter_ns()
    for i in range(count):
        await there.put(i)
        assert await recv(back) == i
    ns = ns_since(start, count)
    await there.put(None)
    await task
    return {"ns": ns}


@on_loop("ping-pong")
async def asyncio_plain_ping_pong(p):
    return await asyncio_ping_pong(p["count"])


@on_loop("mpmc")
async def asyncio_mpmc(p):
    from asyncio import Queue, create_task

    queue, count = Queue(CAPACITY), p["count"]
    received = 0

    async def produce():
        for i in range(count // SIDES):
            await queue.put(i)

    async def consume():
        nonlocal received
        while await queue.get() is not None:
            received += 1

    start = time.perf_counter_ns()
    producers = [create_task(produce()) for _ in range(SIDES)]
    consumers = [create_task(consume()) for _ in range(SIDES)]
    for producer in producers:
        await producer
    for _ in range(SIDES):
        await queue.put(None)
    for consumer in consumers:
        await consumer
    ns = ns_since(start, count)
    assert received == count // SIDES * SIDES
    return {"ns": ns}


@on_loop("mutex")
async def asyncio_mutex(p):
    from asyncio import Lock, create_task

    lock, number, share = Lock(), 0, p["count"] // p["threads"]

    async def add():
        nonlocal number
        for _ in range(share):
            async with lock:
                number += 1

    start = time.perf_counter_ns()
    tasks = [create_task(add()) for _ in range(p["threads"])]
    for task in tasks:
        await task
    ns = ns_since(start, share * p["threads"])
    assert number == share * p["threads"]
    return {"ns": ns}


@on_loop("sleepers", again=False)
async def asyncio_sleepers(p):
    from asyncio import create_task, sleep

    async def rest(seconds):
        start = time.perf_counter()
        await sleep(seconds)
        return time.perf_counter() - start - seconds

    before = time.process_time()
    sleepers = [create_task(rest(seconds)) for seconds in times(p["threads"])]
    return slept(before, [await sleeper for sleeper in sleepers])


async def asyncio_fall_asleep(crowd):
    from asyncio import create_task, sleep

    async def rest():
        crowd.parked += 1
        await sleep(LONG)

    crowd.tasks = [create_task(rest()) for _ in range(crowd.threads)]
    while crowd.parked < crowd.threads:
        await sleep(0.001)
    await sleep(0.02)


@on_loop("memory", again=False)
async def asyncio_memory(p):
    crowd = Crowd(p["threads"])
    await asyncio_fall_asleep(crowd)
    print_and_exit(crowd.weigh())


@on_loop("timers", again=False)
async def asyncio_timers(p):
    crowd = Crowd(p["threads"])
    await asyncio_fall_asleep(crowd)
    await asyncio_ping_pong(p["count"] // 10 + 1, TIMEOUT)
    figures = await asyncio_ping_pong(p["count"], TIMEOUT)
    asyncio_reset(p["count"] // 10 + 1)
    print_and_exit(dict(figures, reset_ns=asyncio_reset(p["count"])))


def asyncio_reset(count):
    """It has no other way to move a deadline."""
    from asyncio import get_running_loop

    loop = get_running_loop()
    handle = loop.call_later(TIMEOUT, print)
    start = time.perf_counter_ns()
    for _ in range(count):
        handle.cancel()
        handle = loop.call_later(TIMEOUT, print)
    ns = ns_since(start, count)
    handle.cancel()
    return ns


# gevent


def on_hub(name, again=True):
    def add(measure):
        @workload("gevent", name)
        def run(p):
            if again:
                measure(dict(p, count=p["count"] // 10 + 1) if "count" in p else p)
            return measure(p)

        return measure

    return add


@on_hub("spawn")
def gevent_spawn(p):
    from gevent import spawn

    start = time.perf_counter_ns()
    for wave in range(0, p["threads"], p["wave"]):
        handles = [spawn(lambda i: i, i) for i in range(wave, wave + p["wave"])]
        for handle in handles:
            handle.get()
    return {"ns": ns_since(start, p["threads"])}


@on_hub("yield", again=False)
def gevent_yield(p):
    from gevent import sleep, spawn

    window = Window(p["threads"], p["count"])

    def others():
        while not window.stop:
            window.yields += 1
            sleep(0)

    for _ in range(p["threads"] - 1):
        spawn(others)
    while (ns := window.turn()) is None:
        sleep(0)
    print_and_exit({"ns": ns})


def gevent_ping_pong(count, timeout=None):
    from gevent import spawn
    from gevent.queue import Queue

    there, back = Queue(1), Queue(1)

    def echo():
        while (message := there.get(timeout=timeout)) is not None:
            back.put(message)

    echo = spawn(echo)
    start = time.perf_counter_ns()
    for i in range(count):
        there.put(i)
        assert back.get(timeout=timeout) == i
    ns = ns_since(start, count)
    there.put(None)
    echo.get()
    return {"ns": ns}


@on_hub("ping-pong")
def gevent_plain_ping_pong(p):
    return gevent_ping_pong(p["count"])


@on_hub("mpmc")
def gevent_mpmc(p):
    from gevent import spawn
    from gevent.queue import Queue

    queue, count = Queue(CAPACITY), p["count"]
    received = 0

    def produce():
        for i in range(count // SIDES):
            queue.put(i)

    def consume():
        nonlocal received
        while queue.get() is not None:
            received += 1

    start = time.perf_counter_ns()
    producers = [spawn(produce) for _ in range(SIDES)]
    consumers = [spawn(consume) for _ in range(SIDES)]
    for producer in producers:
        producer.get()
    for _ in range(SIDES):
        queue.put(None)
    for consumer in consumers:
        consumer.get()
    ns = ns_since(start, count)
    assert received == count // SIDES * SIDES
    return {"ns": ns}


@on_hub("mutex")
def gevent_mutex(p):
    from gevent import spawn
    from gevent.lock import BoundedSemaphore

    lock, number, share = BoundedSemaphore(), 0, p["count"] // p["threads"]

    def add():
        nonlocal number
        for _ in range(share):
            with lock:
                number += 1

    start = time.perf_counter_ns()
    threads = [spawn(add) for _ in range(p["threads"])]
    for thread in threads:
        thread.get()
    ns = ns_since(start, share * p["threads"])
    assert number == share * p["threads"]
    return {"ns": ns}


@on_hub("sleepers", again=False)
def gevent_sleepers(p):
    from gevent import sleep, spawn

    def rest(seconds):
        start = time.perf_counter()
        sleep(seconds)
        return time.perf_counter() - start - seconds

    before = time.process_time()
    sleepers = [spawn(rest, seconds) for seconds in times(p["threads"])]
    return slept(before, [sleeper.get() for sleeper in sleepers])


def gevent_fall_asleep(crowd):
    from gevent import sleep, spawn

    def rest():
        crowd.parked += 1
        sleep(LONG)

    crowd.threads_kept = [spawn(rest) for _ in range(crowd.threads)]
    while crowd.parked < crowd.threads:
        sleep(0.001)
    sleep(0.02)


@on_hub("memory", again=False)
def gevent_memory(p):
    import gevent  # noqa: F401, so that it is not counted among what a thread holds

    crowd = Crowd(p["threads"])
    gevent_fall_asleep(crowd)
    print_and_exit(crowd.weigh())


@on_hub("timers", again=False)
def gevent_timers(p):
    crowd = Crowd(p["threads"])
    gevent_fall_asleep(crowd)
    gevent_ping_pong(p["count"] // 10 + 1, TIMEOUT)
    figures = gevent_ping_pong(p["count"], TIMEOUT)
    gevent_reset(p["count"] // 10 + 1)
    print_and_exit(dict(figures, reset_ns=gevent_reset(p["count"])))


def gevent_reset(count):
    from gevent import get_hub

    timer = get_hub().loop.timer(TIMEOUT, TIMEOUT)
    timer.start(print)
    start = time.perf_counter_ns()
    for _ in range(count):
        timer.again(print, update=True)
    ns = ns_since(start, count)
    timer.stop()
    timer.close()
    return ns


def main():
    peer, name, *words = sys.argv[1:]
    parameters = {name: int(value) for name, value in (word.split("=") for word in words)}
    measure = WORKLOADS.get((peer, name))
    if measure is None:
        sys.exit(f"{peer} does not do {name}")
    print_and_exit(measure(parameters))


main()
