//! Options that `#[handler(…)]` lacks: what to write instead of each, by the name that a user may expect.

/// Returns what to write instead of the option `name`, or `None` if the name is unknown. `value` is the value that the
/// user wrote, if any.
pub(super) fn instead_of(name: &str, value: Option<&str>) -> Option<String> {
    let number = value.filter(|value| value.parse::<u64>().is_ok());
    let count = |default| number.unwrap_or(default);
    let seconds = format!("std::time::Duration::from_secs({})", count("30"));
    Some(match name {
        "batch" | "batch_size" | "batching" | "max_batch_size" | "max_jobs" | "size" => format!(
            "the maximum number of jobs in a `podwork::Batch` is `max_batch`: write `#[handler(max_batch = {})]`",
            count("16")
        ),
        "wait" | "max_delay" | "max_latency" | "batch_wait" | "batch_timeout" | "window" => {
            "the time that a job waits for others in a `podwork::Batch` is `max_wait`: write \
             `#[handler(max_wait = \"5ms\")]`"
                .to_owned()
        }
        "streams" | "streaming" | "generator" | "chunks" | "sse" => {
            "the option for a function that returns a stream is `stream`: write `#[handler(stream)]`".to_owned()
        }
        "iter" | "iterates" | "iterators" => {
            "the option for a function that returns an iterator is `iterator`: write `#[handler(iterator)]`".to_owned()
        }
        "joined" | "join_chunks" | "merge" | "coalesce" => {
            "the option that posts waiting chunks as one is `join`: write `#[handler(join)]`".to_owned()
        }
        "json_schema" | "jsonschema" => {
            "the option that describes input and output is `schema`: write `#[handler(schema)]`".to_owned()
        }
        "check" | "validated" | "validation" => {
            "the option that checks inputs is `validate`: write `#[handler(validate)]`".to_owned()
        }
        "blocking" | "spawn_blocking" | "sync" | "thread" => {
            "a plain `fn` runs on a thread for blocking work, and an `async fn` does not: remove the option, and write \
             `fn` without `async`"
                .to_owned()
        }
        "name" => "a handler has the name of its function: remove the option".to_owned(),
        "retries" | "retry" | "max_retries" | "attempts" | "max_attempts" => {
            "the worker runs each job once, and retries only its posts, for as long as `.delivery_deadline(..)` of \
             `podwork::Worker` allows: remove the option, and repeat what may fail inside the function"
                .to_owned()
        }
        name => return builder_method(name, count("4"), &seconds).map(on_builder),
    })
}

/// Returns the call on the builder for an option that is not the handler's but the worker's.
fn builder_method(name: &str, count: &str, seconds: &str) -> Option<String> {
    Some(match name {
        "timeout" | "job_timeout" | "time_limit" | "execution_timeout" | "max_duration"
        | "deadline" => {
            format!(".job_timeout({seconds})")
        }
        "concurrency" | "concurrent" | "max_concurrency" | "parallel" | "parallelism"
        | "workers" | "threads" => {
            format!(".concurrency({count})")
        }
        "concurrency_modifier" | "concurrency_with" => {
            ".concurrency_with(|current| current)".to_owned()
        }
        "state" | "setup" | "set_up" | "init" | "model" | "load" => {
            ".setup(Model::load)".to_owned()
        }
        "aggregate" | "aggregate_stream" | "return_aggregate_stream" => {
            ".aggregate_stream(true)".to_owned()
        }
        "refresh" | "refresh_worker" => ".refresh_worker(true)".to_owned(),
        "grace" | "grace_period" | "shutdown_grace" | "shutdown_timeout" => {
            format!(".shutdown_grace({seconds})")
        }
        "delivery_deadline" => format!(".delivery_deadline({seconds})"),
        "health" | "health_check" => ".health(check)".to_owned(),
        "fitness" | "fitness_check" => ".fitness_check(\"disk\", check)".to_owned(),
        "cache" | "volume_cache" => ".cache(VolumeCache::new([\"/root/.cache\"]))".to_owned(),
        "metrics" | "metrics_port" => ".metrics(9090)".to_owned(),
        "max_consecutive_failures" | "breaker" | "circuit_breaker" | "max_failures" => {
            format!(".max_consecutive_failures({count})")
        }
        _ => return None,
    })
}

fn on_builder(call: String) -> String {
    format!(
        "this is an option of the worker, not of the handler: in `main`, write `podwork::Worker::new::<…>(){call}.run()`"
    )
}
