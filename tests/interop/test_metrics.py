"""The metrics of a worker, read with the OpenMetrics parser of Prometheus."""

import socket
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from conftest import eventually

KINDS = {
    "podwork_build": "info",
    "podwork_jobs": "counter",
    "podwork_takes": "counter",
    "podwork_posts": "counter",
    "podwork_post_retries": "counter",
    "podwork_concurrency_limit": "gauge",
    "podwork_jobs_running": "gauge",
    "podwork_jobs_undelivered": "gauge",
    "podwork_undelivered_bytes": "gauge",
    "podwork_take_duration_seconds": "histogram",
    "podwork_handler_duration_seconds": "histogram",
    "podwork_delivery_duration_seconds": "histogram",
}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_prometheus_parses_the_metrics(endpoint, ours):
    port = free_port()
    ours("podwork-test-worker", PODWORK_METRICS_PORT=str(port))
    job = endpoint.run({"input": {"do": "echo", "value": 1}})
    assert job.output(timeout=30) == 1

    def scrape():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families.values()
            for sample in family.samples
        }
        completed = samples[("podwork_jobs_total", ("outcome", "completed"))] == 1
        return completed and (families, samples)

    families, samples = eventually(scrape, "the job is counted as completed")
    assert {name: family.type for name, family in families.items()} == KINDS
    units = {name: family.unit for name, family in families.items() if family.unit}
    assert all(name.endswith(f"_{unit}") for name, unit in units.items())
    assert set(units.values()) == {"seconds", "bytes"}
    assert samples[("podwork_posts_total", ("kind", "result"), ("result", "accepted"))] == 1
    assert samples[("podwork_handler_duration_seconds_count",)] == 1
