//! The podwork worker, built as for an image: without the default features of `podwork`.

use std::time::{Duration, Instant};

use podwork::{Batch, Context, ExitCode, Handler, Stream, Worker, handler, state, stream};
use podwork_benches::contenders::work::{self, CountInput, DONE, GENERATED, TOKEN, Workload};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct EchoData {
    data: String,
}

#[handler]
async fn noop() -> &'static str {
    DONE
}

#[handler]
async fn echo(input: EchoData) -> EchoData {
    input
}

fn chunks(count: usize) -> impl Stream<Item = &'static str> {
    stream! {
        let began = Instant::now();
        for _ in 0..count {
            yield TOKEN;
        }
        println!("{GENERATED}{}", began.elapsed().as_micros());
    }
}

#[handler]
fn tokens(input: CountInput) -> impl Stream<Item = &'static str> {
    chunks(input.count)
}

#[handler(join)]
fn joined(input: CountInput) -> impl Stream<Item = &'static str> {
    chunks(input.count)
}

#[handler(join)]
fn paced(input: CountInput) -> impl Stream<Item = &'static str> {
    stream! {
        let mut milliseconds = tokio::time::interval(Duration::from_millis(1));
        for made in 0..input.count {
            if made % 5 == 0 {
                milliseconds.tick().await;
            }
            yield TOKEN;
        }
    }
}

#[handler]
async fn progress(input: CountInput, cx: Context) -> &'static str {
    for update in 0..input.count {
        cx.progress(update);
        // Awaits between updates, as a real handler does.
        tokio::task::yield_now().await;
    }
    DONE
}

#[handler]
async fn sleep(input: CountInput) -> &'static str {
    tokio::time::sleep(Duration::from_millis(input.count as u64)).await;
    DONE
}

#[handler]
fn cpu(input: CountInput) -> u8 {
    work::hash(input.count)
}

#[handler]
fn call(input: CountInput) -> &'static str {
    work::device(Duration::from_millis(input.count as u64), 1);
    DONE
}

#[handler(max_batch = 16, max_wait = "5ms")]
fn batch(inputs: Batch<CountInput>) -> Vec<&'static str> {
    let longest = inputs.iter().map(|input| input.count).max();
    work::device(
        Duration::from_millis(longest.unwrap_or_default() as u64),
        inputs.len(),
    );
    vec![DONE; inputs.len()]
}

fn run<H: Handler>(concurrency: usize) -> ExitCode
where
    state::NoState: state::StateSource<H::State>,
{
    Worker::new::<H>().concurrency(concurrency).run()
}

fn main() -> ExitCode {
    match work::assigned() {
        Ok((Workload::Noop, at_once)) => run::<noop>(at_once),
        Ok((Workload::Echo, at_once)) => run::<echo>(at_once),
        Ok((Workload::Stream, at_once)) => run::<tokens>(at_once),
        Ok((Workload::Join, at_once)) => run::<joined>(at_once),
        Ok((Workload::Paced, at_once)) => run::<paced>(at_once),
        Ok((Workload::Progress, at_once)) => run::<progress>(at_once),
        Ok((Workload::Sleep, at_once)) => run::<sleep>(at_once),
        Ok((Workload::Cpu, at_once)) => run::<cpu>(at_once),
        Ok((Workload::Call, at_once)) => run::<call>(at_once),
        Ok((Workload::Batch, at_once)) => run::<batch>(at_once),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
