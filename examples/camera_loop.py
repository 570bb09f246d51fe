"""A camera loop: answer what a camera, or a video file, sees, within a deadline for each frame.

python camera_loop.py [CAMERA_OR_VIDEO] [FRAMES]
"""

import sys
from collections import Counter

from adaptive import Limits, Router, VideoReader

source = sys.argv[1] if len(sys.argv) > 1 else "0"
frames = int(sys.argv[2]) if len(sys.argv) > 2 else 100
within = Limits(remaining_ms=50)

with Router.load() as router, VideoReader(source, tell=print) as reader:
    router.warm_up()  # or the first frame is slow
    answered = Counter()
    for number, _, image in reader:  # of a camera always the newest, so nothing piles up
        answer = router.classify(image, within)
        answered[answer.candidate or "nobody"] += 1
        print(number, answer.label, f"{answer.ms['total']:.1f} ms", " > ".join(answer.path))
        if number >= frames:
            break

print(", ".join(f"{name} answered {count}" for name, count in answered.most_common()))
