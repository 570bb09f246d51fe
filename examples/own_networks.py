"""Your own networks: routed, measured, and tuned so that something can be promised of them."""

from shapes import INPUT, LABELS, Recogniser, pictures

from adaptive import Router, Split, Tuner, evaluate, profile

tiny, large = Recogniser(8, 100), Recogniser(16, 800, views=5)
models = {"tiny": tiny, "large": large}  # cheapest first

# 1. What each of them says of labelled images that none was trained on, and what that takes.
images, labels = pictures(1200, seed=1)
with Router.of(models, LABELS, input=INPUT, output="logits") as router:
    table = profile(router, images, labels)

# 2. The cheapest policy that is at most three points worse than the last one, for sure.
tuned = Tuner(table, reference="large").certified(0.03, 0.05)
print(tuned.reason)
if tuned.policy is None:
    raise SystemExit(1)

# 3. What it does on images that nobody looked at so far.
test = table.select(Split().rows(table.images, "test"))
result = evaluate(tuned.policy, test, "large")
for row in (*result.fixed, result.policy):
    print(f"{row.name}: {row.quality.value:.1%} right, {row.ms.value:.2f} ms")

# 4. The same router, with that policy.
with Router.of(models, LABELS, input=INPUT, output="logits", policy=tuned.policy) as router:
    for image in images[:3]:
        answer = router.classify(image)
        print(answer.label, round(answer.score, 3), answer.path)
