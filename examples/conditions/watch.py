"""Answer a folder's images, and say under which conditions they were taken.

python examples/conditions/watch.py BUNDLE IMAGES LOG
"""

from __future__ import annotations

import sys
from pathlib import Path

from adaptive import Router
from adaptive.monitoring.audit import Audit

bundle, images, log = sys.argv[1:]
# One image in four is audited by all networks, so that other policies can be replayed on the log.
with Router.load(bundle, audit=Audit(0.25, "all"), log=log) as router:
    for image in sorted(Path(images).iterdir()):
        answer = router.classify(image, explain=True)
        told = answer.explanation
        under = "" if told is None else told.condition_words()
        print(f"{image.name}: {answer.label} by {' > '.join(answer.path)}, judged as {under}")
    print(
        "nothing is known of conditions" if router.conditions is None else router.conditions.words()
    )
