"""Rates and gaps while the policy sleeps, spins, spins in threads, or holds the interpreter's lock; and
how long an action is on its way.

    python benchmarks/lock_held.py [--seconds 60] [--policy spins]

The robot is a process of its own: 8 cameras with depth, 17.2 MB an observation, asked for at 30 Hz, and
actions at 50 Hz. It notes when each action comes and, to within 1 ms, when each observation leaves. What
an action takes is measured once more without chiral: by two bare sockets, one for as many bytes as often
and one for the actions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import struct
import sys
import threading
import time

import numpy as np

import chiral

OBSERVATIONS, ACTIONS = 30, 50
BYTES = 8 * 480 * 640 * (3 + 4)


def serve(pipe):
    class Robot(chiral.PolicyServer):
        def camera_configs(self):
            return [chiral.CameraConfig(f"cam{n}", 480, 640, has_depth=True) for n in range(8)]

        def apply_action(self, action):
            actions.append((time.monotonic(), action))

    actions, observations = [], []
    robot = Robot("127.0.0.1", 0).start()

    def watch():
        seen = 0
        while True:
            time.sleep(0.001)
            stats = robot.stats()
            count = stats.observations.count if stats else 0
            observations.extend([time.monotonic()] * (count - seen))
            seen = count

    threading.Thread(target=watch, daemon=True).start()
    pipe.send(robot.uri)
    while pipe.recv() == "read":
        pipe.send((list(actions), list(observations)))
        actions.clear()
        observations.clear()
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


WAYS = {
    "sleeps": sleep,
    "spins": spin,
    "spins in 4 threads": spin_in_threads,
    "holds the lock": hold,
}


def rate_and_gap(times):
    """By the first and the last one, and the longest time between two, in hertz and milliseconds."""
    if len(times) < 2:
        return 0.0, float("inf")
    return (len(times) - 1) / (times[-1] - times[0]), float(max(np.diff(times))) * 1e3


def one_way(client, pipe, count):
    """How long actions that are sent at once are on their way beside the cameras, in milliseconds."""
    client.clear_actions()
    time.sleep(0.5)
    pipe.send("read")
    pipe.recv()
    for _ in range(count):
        # Both parts fit a float32 exactly, or nearly so.
        seconds, fraction = divmod(time.monotonic(), 1)
        client.send_action([seconds % 1e6, fraction])
        time.sleep(0.02)
    time.sleep(0.5)
    pipe.send("read")
    actions, _ = pipe.recv()
    took = [(came - float(sent[0]) - float(sent[1])) % 1e6 for came, sent in actions]
    return np.percentile(took, [50, 99]) * 1e3


def serve_bare(pipe):
    """Answers each byte with as many as an observation has, and notes how old each action is."""
    took = []
    payload = memoryview(bytearray(BYTES))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        observations, _ = listener.accept()
        actions, _ = listener.accept()

    def observe():
        while observations.recv(1):
            observations.sendall(payload)

    threading.Thread(target=observe, daemon=True).start()
    while sent := actions.recv(8, socket.MSG_WAITALL):
        took.append(time.monotonic() - struct.unpack("d", sent)[0])
    pipe.send(took)


def one_way_bare(context, count):
    """As `one_way`, without chiral."""
    here, there = context.Pipe()
    robot = context.Process(target=serve_bare, args=(there,), daemon=True)
    robot.start()
    port = here.recv()
    observations, actions = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    for connection in (observations, actions):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    is_over = threading.Event()

    def observe():
        buffer = memoryview(bytearray(BYTES))
        due = time.monotonic()
        while not is_over.is_set():
            observations.send(b"x")
            filled = 0
            while filled < BYTES:
                filled += observations.recv_into(buffer[filled:])
            due += 1 / OBSERVATIONS
            sleep(due)

    observing = threading.Thread(target=observe)
    observing.start()
    time.sleep(0.5)
    for _ in range(count):
        actions.send(struct.pack("d", time.monotonic()))
        time.sleep(0.02)
    is_over.set()
    observing.join()
    actions.close()
    return np.percentile(here.recv(), [50, 99]) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--policy", choices=WAYS, nargs="*", default=list(WAYS))
    args = parser.parse_args()
    seconds = args.seconds
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    robot = context.Process(target=serve, args=(there,), daemon=True)
    robot.start()
    print(f"{'':20} {'observations':>22}   {'actions':>22}")
    print(f"{'the policy':20} {'Hz':>8} {'longest gap':>13}   {'Hz':>8} {'longest gap':>13}")
    with chiral.PolicyClient(here.recv()) as client:
        client.start_obs_stream(hz=OBSERVATIONS)
        client.start_action_dispatch(hz=ACTIONS)
        client.next_obs()
        for name in args.policy:
            rows = int(ACTIONS * (seconds + 5))
            client.replace_actions(client.get_obs(), np.zeros((rows, 7)))
            time.sleep(0.5)
            here.send("read")
            here.recv()
            WAYS[name](time.monotonic() + seconds)
            here.send("read")
            actions, observations = here.recv()
            hz, gap = rate_and_gap(observations)
            action_hz, action_gap = rate_and_gap([came for came, _ in actions])
            print(f"{name:20} {hz:8.2f} {gap:10.1f} ms   {action_hz:8.2f} {action_gap:10.1f} ms")
        p50, p99 = one_way(client, here, count=250)
        print(f"an action's way beside 8 cameras: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        here.send("end")
    p50, p99 = one_way_bare(context, count=250)
    print(f"the same by bare sockets: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
