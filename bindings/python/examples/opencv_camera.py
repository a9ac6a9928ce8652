"""A robot with one camera that OpenCV reads: a number of a device, or a video's path.

    python examples/opencv_camera.py [0]

The camera's thread decodes straight into the memory that is sent: no image is copied.
"""

from __future__ import annotations

import sys
import threading
import time

import cv2

import chiral


class Camera(chiral.PolicyServer):
    def __init__(self, source: str = "0", **options):
        self.video = cv2.VideoCapture(int(source) if source.isdigit() else source)
        if not self.video.isOpened():
            raise SystemExit(f"OpenCV cannot open the camera or video {source!r}")
        self.size = [int(self.video.get(p)) for p in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)]
        super().__init__("127.0.0.1", **options)
        threading.Thread(target=self.read, daemon=True).start()

    def camera_configs(self):
        return [chiral.CameraConfig("camera", *self.size)]

    def get_metadata(self):
        return {"robot": "camera", "colour": "rgb"}

    def apply_action(self, action):
        pass

    def read(self):
        while self.video.grab():
            captured_at = time.monotonic()
            found, frame = self.video.retrieve()
            if not found:
                break
            image = self.image_buffer("camera")
            if (frame.shape, frame.dtype) != (image.shape, image.dtype):
                # `cvtColor` would write to an array of its own, and leave the earlier image in this one.
                raise ValueError(
                    f"found a frame of {frame.shape}, {frame.dtype}, expected {image.shape}, {image.dtype}"
                )
            cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=image)
            self.update_image("camera", image, captured_at)


if __name__ == "__main__":
    camera = Camera(*sys.argv[1:])
    camera.wait_ready(timeout=10)
    camera.run()
