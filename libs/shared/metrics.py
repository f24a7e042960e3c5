"""Every metric of the system, declared once with help text and labels; one process has one registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(name, text, labels, registry=REGISTRY, buckets=_SECONDS)


messages = _counter("tldr_messages_total", "Messages handled, by outcome.", "service", "event", "outcome")
handling_s = _histogram("tldr_handling_seconds", "Time to handle one message.", "service", "event")
outbox_published = _counter("tldr_outbox_published_total", "Events handed to the broker.", "service", "event")
outbox_failures = _counter("tldr_outbox_failures_total", "Publishes that failed.", "service", "cause")
outbox_pending = _gauge("tldr_outbox_pending", "Events that wait for the broker.", "service")
inbox_parked = _gauge("tldr_inbox_parked", "Messages given up and parked.", "service")
replays = _counter("tldr_replays_total", "Replays after the broker lost its data.", "service")
loop_failures = _counter(
    "tldr_loop_failures_total", "Turns of a loop that failed.", "service", "loop", "cause"
)
spans = _counter(
    "tldr_spans_total", "Spans for the collector of traces: recorded, exported, failed.", "outcome"
)
ready = _gauge("tldr_ready", "1 while the service is ready, else 0.", "service")

http_requests = _counter("tldr_http_requests_total", "API requests.", "route", "method", "status")
rate_limited = _counter("tldr_rate_limited_total", "Requests refused by a rate limit.", "subject")
rate_limit_failures = _counter(
    "tldr_rate_limit_failures_total",
    "Requests that a storage could not count: Redis gives way to PostgreSQL, without both they pass.",
    "storage",
)
replica_reads = _counter(
    "tldr_replica_reads_total",
    "API reads where there is a read replica, by what it did; the primary did all but `answered`.",
    "outcome",
)
source_checks = _counter(
    "tldr_source_checks_total", "Looks at sources when they are submitted.", "kind", "status"
)
uploads = _counter("tldr_uploads_total", "Uploads by what became of them.", "outcome")
uploaded_bytes = _counter("tldr_uploaded_bytes_total", "Bytes of uploads that were stored.")
hundredms_webhooks = _counter(
    "tldr_100ms_webhooks_total", "100ms webhooks by type and outcome.", "type", "outcome"
)
hundredms_refused = _counter("tldr_100ms_refused_total", "100ms webhooks that were not let in.", "reason")
hundredms_kept = _counter(
    "tldr_100ms_kept_total", "100ms webhooks by what became of them in and after an outage.", "outcome"
)
signals = _counter(
    "tldr_signals_total", "Signals beside the picture, by whether they are kept.", "kind", "outcome"
)
repairs = _counter("tldr_repairs_total", "Gaps that a recording was to fill, by outcome.", "outcome")
hundredms_api_checks = _counter(
    "tldr_100ms_api_checks_total", "Turns in which 100ms' API was asked for a connection.", "outcome"
)
hundredms_reconciled = _counter(
    "tldr_100ms_reconciled_total", "Live streams that the API told of and no webhook had.", "effect"
)
hundredms_recordings = _counter(
    "tldr_100ms_recordings_total", "Recordings of 100ms by what became of them.", "outcome"
)
hundredms_chat = _counter(
    "tldr_100ms_chat_messages_total", "Messages of recorded chats: taken, or left out.", "outcome"
)
streams_finished = _counter("tldr_streams_finished_total", "Streams by terminal status.", "status", "cause")

pages_resolved = _counter(
    "tldr_ingest_pages_total", "Questions for the HLS of a Twitch or YouTube page, by outcome.", "outcome"
)
ingest_segments = _counter("tldr_ingest_segments_total", "Media segments by outcome.", "outcome")
ingest_lag_s = _histogram("tldr_ingest_lag_seconds", "From listed in the playlist to archived.", "lane")
ingest_streams = _gauge("tldr_ingest_streams", "Streams that this replica holds a lease on.")
ingest_followed = _gauge("tldr_ingest_followed", "Streams that this replica follows.", "lane")
ingest_waiting = _gauge("tldr_ingest_waiting", "Streams that wait for a replica to follow them.", "lane")
ingest_takeovers = _counter("tldr_ingest_takeovers_total", "Streams taken from replicas that were silent.")
ingest_handovers = _counter("tldr_ingest_handovers_total", "Streams left to other replicas.", "reason")
ingest_gaps = _counter("tldr_ingest_gaps_total", "Gaps by cause.", "cause")
ingest_variants_left = _counter(
    "tldr_ingest_variants_left_total", "Renditions of a stream that were left for the next best.", "reason"
)
ingest_signals = _counter(
    "tldr_ingest_signals_total", "Captions, timed metadata and the like found in streams.", "kind"
)
ingest_audio_apart = _counter(
    "tldr_ingest_audio_apart_total",
    "Segments archived without all of the sound that lies in a list of its own.",
)
ingest_captions_failed = _counter(
    "tldr_ingest_captions_failed_total", "Lists or parts of captions that could not be read.", "what"
)
ingest_spooled = _gauge("tldr_ingest_spooled", "Segments on disk that wait for the database.")

windows = _counter("tldr_windows_total", "Analysis windows by provider and verdict.", "provider", "verdict")
analysis_s = _histogram("tldr_analysis_seconds", "Time to analyse one window.", "provider")
model_calls = _counter("tldr_model_calls_total", "Calls of a model's API.", "provider", "outcome")
model_tokens = _counter("tldr_model_tokens_total", "Tokens that a model billed.", "provider", "kind")
model_cost = _counter("tldr_model_cost_microusd_total", "Cost of a model, as far as it is known.", "provider")
model_files_left = _counter("tldr_model_files_left_total", "Uploaded files left undeleted.", "provider")
judgements = _counter("tldr_judgements_total", "Candidates by decision and rule.", "decision", "rule")
highlights = _counter("tldr_highlights_total", "Highlights by event.", "event")
clips = _counter("tldr_clips_total", "Clips by outcome.", "outcome")
clip_s = _histogram("tldr_clip_seconds", "Time to cut one clip.", "stage")
deliveries = _counter("tldr_deliveries_total", "Webhook attempts by outcome.", "outcome")
delivery_s = _histogram("tldr_delivery_seconds", "Time of one webhook attempt.")


def exposition() -> bytes:
    return generate_latest(REGISTRY)
