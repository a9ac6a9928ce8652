"""Rates and gaps while the policy sleeps, spins, spins in threads, or holds the interpreter's lock.

    python benchmarks/lock_held.py [--seconds 10]

The robot is a process of its own and notes when each action and each request for an observation
comes. 8 cameras at 30 Hz, actions at 50 Hz.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import threading
import time

import numpy as np

import chiral


def serve(pipe):
    class Robot(chiral.PolicyServer):
        def camera_configs(self):
            return [chiral.CameraConfig(f"cam{n}", 480, 640, has_depth=True) for n in range(8)]

        def apply_action(self, action):
            times.append(time.monotonic())

    times = []
    robot = Robot("127.0.0.1", 0).start()
    pipe.send(robot.uri)
    while pipe.recv() == "read":
        stats = robot.stats()
        pipe.send((list(times), stats.observations.count, stats.action_age.p50))
        times.clear()
    robot.shutdown()


def spin(until):
    while time.monotonic() < until:
        pass


def spin_in_threads(until):
    threads = [threading.Thread(target=spin, args=(until,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def hold(until):
    """No other thread of this interpreter runs meanwhile."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10_000)
    spin(until)
    sys.setswitchinterval(interval)


def sleep(until):
    time.sleep(max(0.0, until - time.monotonic()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    here, there = multiprocessing.get_context("spawn").Pipe()
    context = multiprocessing.get_context("spawn")
    robot = context.Process(target=serve, args=(there,), daemon=True)
    robot.start()
    ways = {
        "sleeps": sleep,
        "spins": spin,
        "spins in 4 threads": spin_in_threads,
        "holds the lock": hold,
    }
    print(f"{'the policy':20} {'obs Hz':>8} {'actions Hz':>11} {'longest gap':>12}")
    with chiral.PolicyClient(here.recv()) as client:
        client.start_obs_stream(hz=30)
        client.start_action_dispatch(hz=50)
        client.next_obs()
        for name, wait in ways.items():
            rows = int(50 * (seconds + 5))
            client.replace_actions(client.get_obs(), np.zeros((rows, 7)))
            time.sleep(0.5)
            here.send("read")
            _, observed, _ = here.recv()
            start = time.monotonic()
            wait(start + seconds)
            took = time.monotonic() - start
            here.send("read")
            times, observed_then, _ = here.recv()
            gap = max(np.diff(times)) * 1e3 if len(times) > 1 else float("inf")
            hz = (observed_then - observed) / took
            print(f"{name:20} {hz:8.2f} {len(times) / took:11.2f} {gap:9.1f} ms")
        here.send("end")


if __name__ == "__main__":
    main()
