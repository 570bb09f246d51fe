"""What the server counts, by the names that Prometheus knows."""

from __future__ import annotations

from adaptive.serving.metrics import IMAGES, Counter, Gauge, Histogram

REQUESTS = Counter(
    "adaptive_requests_total", "Requests answered, by kind and status.", ("kind", "status")
)
REQUEST_SECONDS = Histogram(
    "adaptive_request_seconds",
    "Time from the last byte of a request to its answer, queue included.",
    ("kind",),
)
STEP_SECONDS = Histogram(
    "adaptive_step_seconds",
    "Time of one step before the networks: queue, decode, features, premodel.",
    ("step",),
)
CANDIDATE_SECONDS = Histogram(
    "adaptive_candidate_seconds",
    "Time that a candidate spends on one image, its share where it ran on several at once.",
    ("candidate",),
)
ANSWERS = Counter(
    "adaptive_answers_total",
    "Images answered, by the candidate whose answer it was; none where the policy abstained.",
    ("candidate",),
)
BATCH_IMAGES = Histogram(
    "adaptive_batch_images", "Images that ran together, by candidate.", ("candidate",), IMAGES
)
RELOADS = Counter(
    "adaptive_reloads_total", "Bundles loaded while serving, by how that ended.", ("result",)
)
LOST_LINES = Gauge("adaptive_log_lines_lost", "Lines of the request log that were lost.")

READY = Gauge("adaptive_ready", "1 when images are answered at full speed, else 0.")
BUNDLE = Gauge(
    "adaptive_bundle_info", "1, with the hashes of what is served.", ("bundle", "policy")
)
LOADED = Gauge("adaptive_bundle_loaded_seconds", "When it was loaded, seconds since 1970.")
WAITING = Gauge("adaptive_queue_depth", "Requests that wait for a thread.")
LONGEST = Gauge("adaptive_queue_limit", "Requests that may wait; the next one is answered 503.")
WORKING = Gauge("adaptive_requests_in_progress", "Requests that are worked on.")
CONNECTIONS = Gauge("adaptive_connections", "Connections that are open.")

CERTIFIED = Gauge(
    "adaptive_certificate_max_drop",
    "Top-1, as a share, that the policy is certified not to lose against the reference.",
    ("reference",),
)
CONFIDENCE = Gauge("adaptive_certificate_confidence", "How sure the certificate is, as a share.")
CALIBRATED = Gauge("adaptive_certificate_images", "Images that the certificate rests on.")
AUDITS = Counter("adaptive_audits_total", "Requests on which the reference ran too.")
DISAGREEMENTS = Counter(
    "adaptive_audit_disagreements_total", "Audited requests whose answer was not the reference's."
)
AUDIT_FAILURES = Counter("adaptive_audit_failures_total", "Audits that could not be run.")
DRIFT_BOUND = Gauge("adaptive_drift_bound", "Share of disagreements that is no cause for alarm.")
DRIFT_E_VALUE = Gauge(
    "adaptive_drift_e_value", "Evidence that disagreements are more frequent than that; 1 is none."
)
DRIFT_ALARM = Gauge("adaptive_drift_alarm", "1 when the evidence is enough for an alarm.")
TOKENS = Gauge("adaptive_bucket_tokens", "What is left in the budget's bucket.", ("unit",))
DECISIONS_LOST = Counter("adaptive_decision_log_lost_total", "Decisions that were not logged.")
BOARD_FACTOR = Gauge(
    "adaptive_board_time_factor",
    "What a candidate takes now over what it was measured to take, where the board was slowed.",
    ("candidate",),
)
POWER = Gauge("adaptive_power_watts", "What the board draws.", ("rails",))
ENERGY = Counter("adaptive_energy_joules_total", "What the board has drawn.", ("rails",))
MEMORY = Gauge("process_resident_memory_bytes", "Resident memory.")
CPU = Counter("process_cpu_seconds_total", "Processor time, user and system.")
FILES = Gauge("process_open_fds", "Open file descriptors.")
STARTED = Gauge("process_start_time_seconds", "When the process started, seconds since 1970.")

#: Of each model of the Open Inference Protocol: requests, and nanoseconds, by part.
MODEL_COUNT = Counter(
    "adaptive_model_requests_total", "Requests to one model, by part.", ("model", "part")
)
MODEL_NS = Counter("adaptive_model_ns_total", "Nanoseconds by model and part.", ("model", "part"))
MODEL_IMAGES = Counter("adaptive_model_images_total", "Images that one model saw.", ("model",))
BATCHES = Counter("adaptive_batches_total", "Runs by model and images.", ("model", "images"))
BATCH_NS = Counter(
    "adaptive_batch_ns_total", "Nanoseconds by model and images.", ("model", "images")
)

#: What is counted and shown; the rest is read when somebody asks.
SHOWN = (
    REQUESTS,
    REQUEST_SECONDS,
    STEP_SECONDS,
    CANDIDATE_SECONDS,
    ANSWERS,
    BATCH_IMAGES,
    RELOADS,
)
