"""A policy in JAX: on the CPU, images are used where they were received.

    python examples/jax_policy.py [ws://localhost:8765]
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np

import chiral

CHUNK, SIZE = 25, 7


@jax.jit
def infer(image: jax.Array) -> jax.Array:
    """Stands for a model: where the image is bright."""
    brightness = image.astype(jnp.float32).mean(axis=2) / 255
    columns = brightness.mean(axis=0)
    at = (columns * jnp.linspace(-1, 1, columns.size)).sum() / (columns.sum() + 1e-6)
    return jnp.tile(at, (CHUNK, SIZE))


def main(uri: str = "ws://localhost:8765", rounds: int = 100) -> None:
    with chiral.PolicyClient(uri) as robot:
        observation, _ = robot.reset()
        # Compiling may hold the interpreter's lock for long: nothing stops meanwhile.
        robot.start_obs_stream(hz=30)
        robot.start_action_dispatch(hz=50)
        for _ in range(rounds):
            observation = robot.next_obs()
            # Not copied: 64 bytes aligned. Keep `observation` until the result is there.
            image = jnp.from_dlpack(observation.cameras[0].image)
            robot.follow(observation, np.asarray(infer(image)))
        print(robot.stats())


if __name__ == "__main__":
    main(*sys.argv[1:])
