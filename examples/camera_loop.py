"""A camera loop: answer what a camera, or a video file, sees, within a deadline for each frame.

python camera_loop.py [CAMERA_OR_VIDEO] [FRAMES]
"""

import sys
from collections import Counter

from adaptive import Camera, Limits, Router

source = sys.argv[1] if len(sys.argv) > 1 else "0"
frames = int(sys.argv[2]) if len(sys.argv) > 2 else 100
within = Limits(remaining_ms=50)

with Router.load() as router, Camera(int(source) if source.isdigit() else source) as camera:
    router.warm_up()  # or the first frame is slow
    answered = Counter()
    for frame in camera:  # of a camera always the newest, so nothing piles up
        answer = router.classify(frame, within)
        answered[answer.candidate or "nobody"] += 1
        print(camera.number, answer.label, f"{answer.ms['total']:.1f} ms", " > ".join(answer.path))
        if camera.number >= frames:
            break

print(", ".join(f"{name} answered {count}" for name, count in answered.most_common()))
