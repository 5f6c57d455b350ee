//! The cost of each job in `podwork-protocol`: parsing the job, serializing its result, and building its URL.
#![allow(missing_docs, reason = "criterion generates undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use podwork_protocol::RawValue;
use podwork_protocol::template::UrlTemplate;
use podwork_protocol::worker::{Post, TakenJobs};

const ID: &str = "88dc7238-1eb0-4abc-8fc7-02f5dfd5fb0c";

fn job(input: &str) -> String {
    format!(r#"{{"id":"{ID}","input":{input}}}"#)
}

/// Returns a JSON text of about `bytes` bytes.
fn text(bytes: usize) -> String {
    format!(r#"{{"data":"{}"}}"#, "x".repeat(bytes))
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let batch = format!("[{}]", vec![job("{}"); 100].join(","));
    for (name, body) in [
        ("a small job", job("{}")),
        ("a batch of 100", batch),
        ("64 KB", job(&text(64_000))),
        ("5 MB", job(&text(5_000_000))),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| TakenJobs::parse(black_box(body.as_bytes())));
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, output) in [
        ("a small result", r#""done""#.to_owned()),
        ("64 KB", text(64_000)),
        ("5 MB", text(5_000_000)),
    ] {
        group.throughput(Throughput::Bytes(output.len() as u64));
        let mut post = Post::default();
        post.output = RawValue::from_string(output).ok();
        group.bench_function(name, |bencher| {
            bencher.iter(|| serde_json::to_vec(black_box(&post)));
        });
    }
}

fn url(criterion: &mut Criterion) {
    let done = "https://api.runpod.ai/v2/endpoint/job-done/$RUNPOD_POD_ID/$ID?gpu=NVIDIA+H200";
    let done = UrlTemplate::of_worker(done, "worker-1");
    criterion.bench_function("the URL of a result", |bencher| {
        bencher.iter(|| done.job(black_box(ID)).with("isStream", "false"));
    });
}

criterion_group!(hot_path, decode, encode, url);
criterion_main!(hot_path);
