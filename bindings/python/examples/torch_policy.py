"""A policy in PyTorch: images go to the model without a copy in host memory.

    python examples/torch_policy.py [ws://localhost:8765]

Without PyTorch it says so and ends.
"""

from __future__ import annotations

import sys

import numpy as np

import chiral

try:
    import torch
except ImportError:
    sys.exit("this example needs PyTorch: pip install torch")

CHUNK, SIZE = 25, 7


class Policy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.see = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 8, 8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
        )
        self.act = torch.nn.Linear(8, CHUNK * SIZE)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.see(image.permute(2, 0, 1)[None].float() / 255).flatten(1)
        return torch.tanh(self.act(features)).view(CHUNK, SIZE)


def main(uri: str = "ws://localhost:8765", rounds: int = 100) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = Policy().to(device).eval()
    with chiral.PolicyClient(uri) as robot, torch.inference_mode():
        robot.reset()
        robot.start_obs_stream(hz=30)
        robot.start_action_dispatch(hz=50)
        for _ in range(rounds):
            observation = robot.next_obs()
            image = torch.from_numpy(observation.cameras[0].image).to(device, non_blocking=True)
            robot.follow(observation, policy(image).cpu().numpy().astype(np.float32))
        print(robot.stats())


if __name__ == "__main__":
    main(*sys.argv[1:])
