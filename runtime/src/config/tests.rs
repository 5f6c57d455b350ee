use std::time::Duration;

use podwork_protocol::env;

use super::*;

const GOOD: &[(&str, &str)] = &[
    (env::GET_JOB, "http://h/v2/e/job-take/$ID?gpu=x"),
    (
        env::POST_OUTPUT,
        "http://h/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=x",
    ),
    (
        env::POST_STREAM,
        "http://h/v2/e/job-stream/$RUNPOD_POD_ID/$ID?gpu=x",
    ),
    (env::PING, "http://h/v2/e/ping/$RUNPOD_POD_ID"),
    (env::POD_ID, "w1"),
    (env::API_KEY, "key"),
];

/// Reads a complete environment with some variables changed. An empty value unsets a variable.
fn read(changes: &[(&str, &str)]) -> Result<Config, Error> {
    let lookup = |name: &str| {
        let find = |table: &[(&str, &str)]| {
            table
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        find(changes).or_else(|| find(GOOD))
    };
    Config::read(lookup, true)
}

fn complaint(changes: &[(&str, &str)]) -> String {
    read(changes).unwrap_err().to_string()
}

#[test]
fn reads_the_platforms_variables() {
    let config = read(&[]).unwrap();
    let remote = config.remote.unwrap();
    assert_eq!(
        remote.take.url().as_str(),
        "http://h/v2/e/job-take/w1?gpu=x"
    );
    assert_eq!(
        remote.done.job("j").as_str(),
        "http://h/v2/e/job-done/w1/j?gpu=x"
    );
    assert_eq!(remote.ping_interval, Duration::from_secs(10));
    assert_eq!(remote.authorization.unwrap(), "key");
}

#[test]
fn without_a_take_url_the_worker_runs_locally() {
    assert!(read(&[(env::GET_JOB, "")]).unwrap().remote.is_none());
}

#[test]
fn a_realtime_port_makes_the_worker_serve() {
    assert_eq!(read(&[]).unwrap().realtime, None);
    let port = (env::REALTIME_PORT, "9000");
    assert!(complaint(&[port]).starts_with("RUNPOD_ENDPOINT_ID is not set"));
    let config = read(&[
        port,
        (env::REALTIME_CONCURRENCY, "3"),
        (env::ENDPOINT_ID, "e"),
    ]);
    let expected = Realtime {
        port: 9000,
        concurrency: 3,
        endpoint_id: "e".to_owned(),
    };
    assert_eq!(config.unwrap().realtime, Some(expected));
}

#[test]
fn reads_the_limits_of_fitness_checks() {
    let fitness = |changes| read(changes).unwrap().fitness.unwrap();
    let unset = Fitness {
        min_memory_gb: 0.0,
        min_disk_percent: 10.0,
        skip_system: false,
        skip_gpu: false,
        gpus: None,
    };
    assert_eq!(fitness(&[]), unset);
    let set = [
        (env::MIN_MEMORY_GB, "31.5"),
        (env::MIN_DISK_PERCENT, "0"),
        (env::SKIP_AUTO_SYSTEM_CHECKS, "True"),
        (env::SKIP_GPU_CHECK, "true"),
        (env::GPU_COUNT, "2"),
    ];
    let expected = Fitness {
        min_memory_gb: 31.5,
        min_disk_percent: 0.0,
        skip_system: true,
        skip_gpu: true,
        gpus: Some(2),
    };
    assert_eq!(fitness(&set), expected);
    assert!(complaint(&[(env::MIN_MEMORY_GB, "4 GB")]).contains("is `4 GB`: not a non-negative"));
}

#[test]
fn no_worker_id_means_a_random_one() {
    let id = |config: Config| config.identity.worker_id;
    let unset: &[(&str, &str)] = &[(env::POD_ID, "")];
    assert_ne!(id(read(unset).unwrap()), id(read(unset).unwrap()));
}

#[test]
fn errors_name_the_variable_and_the_fix() {
    assert_eq!(
        complaint(&[(env::POST_OUTPUT, "")]),
        "RUNPOD_WEBHOOK_POST_OUTPUT is not set but required: the worker posts results to this URL; set it to a URL \
         such as https://api.runpod.ai/v2/<endpoint>/job-done/$RUNPOD_POD_ID/$ID"
    );
    assert!(complaint(&[(env::POST_STREAM, "")]).contains("this handler streams"));
    assert!(complaint(&[(env::GET_JOB, "job-take")]).starts_with(
        "RUNPOD_WEBHOOK_GET_JOB is `job-take`: the URL does not start with http:// or https://; set it to a URL"
    ));
    assert!(complaint(&[(env::PING, "ftp://h/ping")]).contains("`ftp` is not http or https"));
    assert!(complaint(&[(env::PING_INTERVAL, "10s")]).contains("is `10s`: not a whole number"));
    assert!(complaint(&[(env::PING_INTERVAL, "0")]).contains("above 0"));
    assert!(complaint(&[(env::REALTIME_PORT, "70000")]).contains("a port number"));
    let key = complaint(&[(env::API_KEY, "se\ncret")]);
    assert!(
        key.contains("(7 characters)") && !key.contains("cret"),
        "{key}"
    );
}
