"""One observation from process to process, by everything that Python programs use for it.

Run interleaved, so that what else the computer does strikes all alike:

    python benchmarks/bench.py [--rounds 15]

Each way has its server in a process of its own. `floor` is the bare socket: the same bytes by
`recv_into` into memory that is used again. `ours, Rust client` asks a robot in Python from a program
without any, which `cargo` builds. Figures are the median of all rounds, in milliseconds and as multiples
of the floor and of the Rust client. `websockets`, `msgpack` and `portal` come from PyPI; what is missing
is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import multiprocessing
import socket
import statistics
import struct
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

SIZES = {"2.15 MB": (1, 480, 640, True), "17.2 MB": (8, 480, 640, True)}


def frames(cameras, height, width, depth):
    images = {f"cam{n}": np.full((height, width, 3), n, np.uint8) for n in range(cameras)}
    depths = {f"cam{n}": np.full((height, width), n, np.float32) for n in range(cameras)}
    return images, depths if depth else {}


def size_of(layout):
    images, depths = frames(*layout)
    return sum(a.nbytes for a in (*images.values(), *depths.values()))


# ---- the ways -----------------------------------------------------------------------------------


def serve_floor(layout, port, ready):
    payload = memoryview(bytearray(size_of(layout)))
    with socket.create_server(("127.0.0.1", port)) as listener:
        ready.set()
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(1):
            connection.sendall(payload)


def floor(layout, port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(size_of(layout)))

    def ask():
        connection.send(b"x")
        filled = 0
        while filled < len(buffer):
            filled += connection.recv_into(buffer[filled:])

    return ask


def serve_chiral(layout, port, ready):
    import chiral

    images, depths = frames(*layout)

    class Robot(chiral.PolicyServer):
        def camera_configs(self):
            return [
                chiral.CameraConfig(n, *i.shape, has_depth=n in depths) for n, i in images.items()
            ]

        def apply_action(self, action):
            pass

    robot = Robot("127.0.0.1", port)
    for name, image in images.items():
        robot.publish(name, image=image, depth=depths.get(name))
    robot.start()
    ready.set()
    threading.Event().wait()


def ours(layout, port):
    import chiral

    client = chiral.PolicyClient(f"ws://127.0.0.1:{port}").connect()

    def ask():
        return client.get_obs()

    return ask


@functools.cache
def build_rust_client():
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--example", "rust_client"]
    built = subprocess.run(
        [*command, "--message-format", "json"],
        cwd=Path(__file__).parents[1],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    artifacts = [json.loads(line) for line in built.stdout.splitlines()]
    return next(
        artifact["executable"]
        for artifact in artifacts
        if artifact.get("target", {}).get("name") == "rust_client" and artifact.get("executable")
    )


class Seconds(float):
    """A time that the other program has measured itself."""


def rust_client(layout, port):
    process = subprocess.Popen(
        [build_rust_client(), f"ws://127.0.0.1:{port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask():
        process.stdin.write("\n")
        process.stdin.flush()
        return Seconds(int(process.stdout.readline()) / 1e9)

    return ask


def pack(images, depths):
    import msgpack

    header = msgpack.packb({n: (a.shape, a.dtype.name) for n, a in (images | depths).items()})
    body = [a.tobytes() for a in (*images.values(), *depths.values())]
    return struct.pack("<I", len(header)) + header + b"".join(body)


def unpack(message):
    import msgpack

    (length,) = struct.unpack_from("<I", message)
    offset = 4 + length
    arrays = {}
    for name, (shape, dtype) in msgpack.unpackb(message[4:offset]).items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(message, dtype, count, offset).reshape(shape).copy()
        offset += arrays[name].nbytes
    return arrays


def serve_websockets(layout, port, ready):
    from websockets.asyncio.server import serve

    images, depths = frames(*layout)
    depths = {f"{name}_depth": depth for name, depth in depths.items()}

    async def answer(connection):
        async for _ in connection:
            await connection.send(pack(images, depths))

    async def main():
        async with serve(answer, "127.0.0.1", port, max_size=None, compression=None):
            ready.set()
            await asyncio.get_running_loop().create_future()

    asyncio.run(main())


def websockets_sync(layout, port):
    from websockets.sync.client import connect

    connection = connect(f"ws://127.0.0.1:{port}", max_size=None, compression=None)

    def ask():
        connection.send(b"x")
        return unpack(connection.recv())

    return ask


def websockets_asyncio(layout, port):
    from websockets.asyncio.client import connect

    loop = asyncio.new_event_loop()

    async def open_connection():
        return await connect(f"ws://127.0.0.1:{port}", max_size=None, compression=None)

    connection = loop.run_until_complete(open_connection())

    async def once():
        await connection.send(b"x")
        return unpack(await connection.recv())

    return lambda: loop.run_until_complete(once())


def serve_portal(layout, port, ready):
    import portal

    images, depths = frames(*layout)
    arrays = images | {f"{name}_depth": depth for name, depth in depths.items()}
    server = portal.Server(port)
    server.bind("observe", lambda: arrays)
    threading.Timer(0.5, ready.set).start()
    server.start()


def portal_client(layout, port):
    import portal

    client = portal.Client(f"127.0.0.1:{port}")
    return lambda: client.observe().result()


WAYS = {
    "floor": (serve_floor, floor),
    "ours, Rust client": (serve_chiral, rust_client),
    "ours from Python": (serve_chiral, ours),
    "websockets + msgpack, sync": (serve_websockets, websockets_sync),
    "websockets + msgpack, asyncio": (serve_websockets, websockets_asyncio),
    "portal": (serve_portal, portal_client),
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as it:
        return it.getsockname()[1]


def measure(layout, rounds):
    processes, asks = [], {}
    context = multiprocessing.get_context("spawn")
    for name, (serve, connect) in WAYS.items():
        port, ready = free_port(), context.Event()
        process = context.Process(target=serve, args=(layout, port, ready), daemon=True)
        process.start()
        processes.append(process)
        try:
            if not ready.wait(20):
                raise TimeoutError("its server does not start")
            asks[name] = connect(layout, port)
            for _ in range(3):
                asks[name]()
        except Exception as error:
            asks.pop(name, None)
            print(f"{name} is left out: {error}")
    times = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            start = time.perf_counter()
            kept = ask()
            took = time.perf_counter() - start
            times[name].append(kept if isinstance(kept, Seconds) else took)
            del kept
    for process in processes:
        process.terminate()
    return {name: statistics.median(found) * 1e3 for name, found in times.items()}


def snapshot():
    """A server's snapshot of 8 cameras as Python objects, in microseconds."""
    import chiral

    images, depths = frames(8, 480, 640, True)

    class Robot(chiral.PolicyServer):
        def camera_configs(self):
            return [chiral.CameraConfig(n, 480, 640, has_depth=True) for n in images]

    robot = Robot("127.0.0.1", 0)
    times = []
    for _ in range(2000):
        start = time.perf_counter()
        robot._make_obs()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    try:
        build_rust_client()
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        print(f"ours, Rust client is left out: {error}")
        WAYS.pop("ours, Rust client")
    for label, layout in SIZES.items():
        print(f"\n{label} ({size_of(layout)} bytes), median of {args.rounds} rounds")
        found = measure(layout, args.rounds)
        print(f"  {'':32} {'ms':>8} {'x floor':>8} {'x Rust':>8}")
        for name, millis in found.items():
            bases = [found.get(base, float("nan")) for base in ("floor", "ours, Rust client")]
            ratios = " ".join(f"{millis / base:8.2f}" for base in bases)
            print(f"  {name:32} {millis:8.2f} {ratios}")
    print(f"\nsnapshot of 8 cameras to Python objects: {snapshot():.1f} us")


if __name__ == "__main__":
    main()
