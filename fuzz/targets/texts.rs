//! Reads arbitrary texts as configuration: URL templates, rules and faults.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podwork_platform::{Faults, Rules};
use podwork_protocol::template::{UrlTemplate, encode};

fuzz_target!(|texts: (&str, &str, &str)| {
    let (template, worker_id, job_id) = texts;
    // Parsing may fail, but must not panic.
    let _ = template.parse::<Rules>();
    let _ = template.parse::<Faults>();

    // An inserted value is always encoded, so it cannot change the structure of the URL.
    let filled = encode(job_id);
    assert!(
        filled
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte))
    );
    let take = UrlTemplate::of_take(template, worker_id);
    let url = take.url().with("job_in_progress", job_id);
    assert!(url.as_str().ends_with(&format!("job_in_progress={filled}")));
    assert!(url.as_str().starts_with(take.url().as_str()));
    let done = UrlTemplate::of_worker(template, worker_id);
    let url = done.job(job_id);
    assert!(!template.contains("$ID") || job_id.contains('%') || url.as_str().contains(&*filled));
    let _ = (take.batch(), take.stop());
});
