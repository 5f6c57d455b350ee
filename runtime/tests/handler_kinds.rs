//! Tests of `#[handler]` with every kind of function, each run as a job.
#![allow(
    clippy::unwrap_used,
    clippy::unnecessary_wraps,
    clippy::assertions_on_constants,
    clippy::manual_assert,
    reason = "handlers have the shapes that are tested here"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use podwork::testing::{TestJob, Tested};
use podwork::{
    Batch, Context, Handler, HandlerError, HandlerKind, Reply, Result, Stream, handler, stream,
    try_stream,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Words {
    text: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Count {
    words: usize,
}

struct Model {
    factor: u32,
}

const MODEL: Model = Model { factor: 10 };

async fn run<H: Handler<State = ()>>(input: Value) -> Tested {
    TestJob::new(input).run::<H>().await
}

async fn run_with_model<H: Handler<State = Model>>(input: Value) -> Tested {
    TestJob::new(input).state(MODEL).run::<H>().await
}

/// Returns the kind and message of the job's error.
fn failure(job: Tested) -> (String, String) {
    let error = job.result.unwrap_err();
    (error.kind().to_owned(), error.message().to_owned())
}

mod one_output {
    use super::*;

    #[handler]
    async fn same(numbers: Vec<f64>) -> Vec<f64> {
        numbers
    }

    #[tokio::test]
    async fn numbers_are_read_as_they_were_written() {
        let numbers: Vec<f64> = (1..10_000_u32)
            .map(|n| f64::from(n).powi(77) / 7.0)
            .collect();
        let output = run::<same>(json!(numbers)).await.result.unwrap();
        assert!(output == json!(numbers));
    }

    #[handler]
    async fn count(input: Words) -> Count {
        Count {
            words: input.text.split_whitespace().count(),
        }
    }

    #[handler]
    fn count_blocking(Words { text }: Words) -> Count {
        Count {
            words: text.split_whitespace().count(),
        }
    }

    #[handler]
    async fn parse(text: String, cx: Context, model: &Model) -> Result<u32> {
        cx.progress("parsing");
        Ok(text.parse::<u32>()? * model.factor)
    }

    #[handler]
    fn parse_blocking(
        model: &Model,
        mut text: String,
        cx: podwork::Context,
    ) -> std::result::Result<u32, std::num::ParseIntError> {
        cx.progress("parsing");
        text.insert(0, '1');
        text.parse::<u32>().map(|number| number * model.factor)
    }

    #[handler]
    async fn nothing() {}

    #[handler]
    fn name(cx: Context) -> String {
        cx.id().to_owned()
    }

    #[handler]
    async fn borrowed(model: &Model) -> &u32 {
        &model.factor
    }

    #[tokio::test]
    async fn values() {
        let input = json!({ "text": "to be" });
        let expected = json!({ "words": 2 });
        assert_eq!(run::<count>(input.clone()).await.result.unwrap(), expected);
        assert_eq!(run::<count_blocking>(input).await.result.unwrap(), expected);
        assert_eq!(
            run::<nothing>(json!("ignored")).await.result.unwrap(),
            Value::Null
        );
        assert_eq!(run::<name>(json!(1)).await.result.unwrap(), "test");
        assert_eq!(
            run_with_model::<borrowed>(json!(1)).await.result.unwrap(),
            10
        );
    }

    #[tokio::test]
    async fn results() {
        let job = run_with_model::<parse>(json!("4")).await;
        assert_eq!(job.result.unwrap(), 40);
        assert_eq!(job.progress, ["parsing"]);
        let job = run_with_model::<parse_blocking>(json!("4")).await;
        assert_eq!(job.result.unwrap(), 140);
        assert_eq!(job.progress, ["parsing"]);

        for job in [
            run_with_model::<parse>(json!("x")).await,
            run_with_model::<parse_blocking>(json!("x")).await,
        ] {
            let (kind, message) = failure(job);
            assert_eq!(kind, "handler_error");
            assert_eq!(message, "invalid digit found in string");
        }
    }

    #[tokio::test]
    async fn an_input_that_does_not_fit_names_the_place() {
        let (kind, message) = failure(run::<count>(json!({ "text": 7 })).await);
        assert_eq!(kind, "invalid_input");
        assert!(
            message.starts_with("invalid input at `text`: "),
            "{message}"
        );
    }

    #[tokio::test]
    async fn the_function_is_still_a_function() {
        let words = || Words {
            text: "to be".to_owned(),
        };
        assert_eq!(count(words()).await, count_blocking(words()));
        assert_eq!(*borrowed(&MODEL).await, 10);
    }
}

mod many_outputs {
    use super::*;

    #[handler]
    fn words(input: Words, cx: Context) -> impl Stream<Item = String> {
        stream! {
            for word in input.text.split_whitespace() {
                cx.progress(word.len());
                yield word.to_owned();
            }
        }
    }

    #[handler]
    async fn numbers(text: String, model: &Model) -> impl Stream<Item = Result<u32>> {
        tokio::task::yield_now().await;
        try_stream! {
            for part in text.split(' ') {
                yield part.parse::<u32>()? * model.factor;
            }
        }
    }

    #[handler(stream)]
    fn boxed(model: &Model) -> Pin<Box<dyn Stream<Item = u32> + Send + '_>> {
        Box::pin(stream! { yield model.factor })
    }

    #[handler]
    fn upto(n: u32) -> impl Iterator<Item = u32> {
        1..=n
    }

    #[handler]
    fn parsed(
        text: String,
        model: &Model,
    ) -> impl Iterator<Item = Result<u32, std::num::ParseIntError>> {
        let factor = model.factor;
        text.split(' ')
            .map(|part| part.parse::<u32>().map(|number| number * factor))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[handler(iterator)]
    fn listed(cx: Context) -> Vec<Result<String, String>> {
        vec![Ok(cx.id().to_owned()), Err("the end".to_owned())]
    }

    #[tokio::test]
    async fn streams() {
        let job = run::<words>(json!({ "text": "to be" })).await;
        assert_eq!(job.outputs, ["to", "be"]);
        assert_eq!(job.progress, [2, 2]);
        assert_eq!(job.result.unwrap(), json!([]));
        assert_eq!(run_with_model::<boxed>(json!({})).await.outputs, [10]);
    }

    #[tokio::test]
    async fn iterators() {
        let job = run::<upto>(json!(3)).await;
        assert_eq!(job.outputs, [1, 2, 3]);
        assert_eq!(job.result.unwrap(), json!([]));
    }

    #[tokio::test]
    async fn an_item_that_fails_ends_the_stream_and_fails_the_job() {
        let job = run_with_model::<numbers>(json!("1 2 x 4")).await;
        assert_eq!(job.outputs, [10, 20]);
        assert_eq!(
            job.result.unwrap_err().message(),
            "invalid digit found in string"
        );

        let job = run_with_model::<parsed>(json!("1 2 x 4")).await;
        assert_eq!(job.outputs, [10, 20]);
        assert_eq!(
            job.result.unwrap_err().message(),
            "invalid digit found in string"
        );

        let job = run::<listed>(json!(null)).await;
        assert_eq!(job.outputs, ["test"]);
        assert_eq!(job.result.unwrap_err().message(), "the end");
    }

    #[tokio::test]
    async fn the_final_output_repeats_the_chunks_if_enabled() {
        let job = TestJob::new(json!(2)).aggregate_stream(true);
        assert_eq!(job.run::<upto>().await.result.unwrap(), json!([1, 2]));
        let job = TestJob::new(json!({ "text": "a b" })).aggregate_stream(true);
        assert_eq!(job.run::<words>().await.result.unwrap(), json!(["a", "b"]));
    }

    #[tokio::test]
    async fn an_input_that_does_not_fit_yields_nothing() {
        for job in [
            run::<upto>(json!("x")).await,
            run::<words>(json!("x")).await,
        ] {
            assert_eq!(job.outputs, [json!(null); 0]);
            assert_eq!(failure(job).0, "invalid_input");
        }
    }

    #[test]
    fn the_platform_is_told_which_handlers_stream() {
        assert!(
            words::KIND.streams()
                && numbers::KIND.streams()
                && boxed::KIND.streams()
                && upto::KIND.streams()
        );
        assert!(!super::errors::aliased::KIND.streams());
        assert_eq!(upto::NAME, "upto");
    }
}

mod replies {
    use std::convert::Infallible;
    use std::num::ParseIntError;

    use super::*;

    #[derive(Deserialize)]
    struct Request {
        text: String,
        #[serde(default)]
        stream: bool,
    }

    fn pieces(text: String) -> impl Stream<Item = String> {
        stream! {
            for word in text.split(' ') {
                yield word.to_owned();
            }
        }
    }

    #[handler]
    async fn chat(request: Request) -> Reply<Count, String> {
        if request.stream {
            return Reply::stream(pieces(request.text));
        }
        Reply::once(Count {
            words: request.text.split(' ').count(),
        })
    }

    /// A plain `fn`, whose stream runs on its thread and may block it.
    #[handler(join)]
    fn parsed(request: Request, model: &Model) -> podwork::Result<Reply<u32>, ParseIntError> {
        let factor = model.factor;
        if !request.stream {
            return Ok(Reply::once(request.text.parse::<u32>()? * factor));
        }
        Ok(Reply::try_stream(try_stream! {
            for word in request.text.split(' ') {
                yield word.parse::<u32>()? * factor;
            }
        }))
    }

    #[handler]
    fn endless(blocking: bool, cx: Context) -> Reply<()> {
        cx.progress(blocking);
        Reply::stream(futures::stream::repeat(()))
    }

    /// The name stands for `podwork::Reply` only if it has arguments.
    mod own {
        use super::super::*;

        #[derive(Serialize)]
        pub(super) struct Reply {
            text: &'static str,
        }

        #[handler]
        pub(super) async fn own() -> Result<Reply> {
            Ok(Reply { text: "own" })
        }
    }

    #[tokio::test]
    async fn a_job_has_one_output_or_a_stream_as_its_handler_decides() {
        let job = run::<chat>(json!({ "text": "a b c" })).await;
        assert_eq!(job.outputs, [json!(null); 0]);
        assert_eq!(job.result.unwrap(), json!({ "words": 3 }));
        let job = run::<chat>(json!({ "text": "a b c", "stream": true })).await;
        assert_eq!(job.outputs, ["a", "b", "c"]);
        assert_eq!(job.result.unwrap(), json!([]));

        let job = run_with_model::<parsed>(json!({ "text": "4" })).await;
        assert_eq!(job.result.unwrap(), json!(40));
        let job = run_with_model::<parsed>(json!({ "text": "1 2", "stream": true })).await;
        assert_eq!(job.outputs, [10, 20]);
    }

    #[tokio::test]
    async fn an_error_before_or_in_the_stream_fails_the_job() {
        for stream in [false, true] {
            let job = run_with_model::<parsed>(json!({ "text": "x", "stream": stream })).await;
            assert_eq!(job.outputs, [json!(null); 0]);
            assert_eq!(failure(job).1, "invalid digit found in string");
        }
        let job = run_with_model::<parsed>(json!({ "text": "1 x", "stream": true })).await;
        assert_eq!(job.outputs, [10]);
        assert_eq!(failure(job).1, "invalid digit found in string");
    }

    #[tokio::test]
    async fn only_streams_are_aggregated() {
        let job = TestJob::new(json!({ "text": "a b", "stream": true })).aggregate_stream(true);
        assert_eq!(job.run::<chat>().await.result.unwrap(), json!(["a", "b"]));
        let job = TestJob::new(json!({ "text": "a b" })).aggregate_stream(true);
        assert_eq!(
            job.run::<chat>().await.result.unwrap(),
            json!({ "words": 2 })
        );
    }

    #[tokio::test]
    async fn an_endless_stream_on_a_thread_ends_when_its_job_ends() {
        let job = TestJob::new(json!(true)).job_timeout(Duration::from_millis(50));
        let job = tokio::time::timeout(Duration::from_mins(1), job.run::<endless>());
        assert_eq!(failure(job.await.unwrap()).0, "timeout");
    }

    #[tokio::test]
    async fn another_type_of_the_name_without_arguments_is_an_output() {
        assert_eq!(
            run::<own::own>(json!(null)).await.result.unwrap(),
            json!({ "text": "own" })
        );
        assert_eq!(own::own::KIND, HandlerKind::Once);
        assert_eq!(chat::KIND, HandlerKind::PerJob { join: false });
        assert_eq!(parsed::KIND, HandlerKind::PerJob { join: true });
        let _: Reply<Infallible> = Reply::stream(futures::stream::empty());
    }
}

mod errors {
    use super::*;

    type Answer<T> = core::result::Result<T, Refusal>;

    /// An error that could also be an output. If it were treated as one, the job would count as completed.
    #[derive(Debug, Serialize)]
    pub(super) struct Refusal {
        why: String,
    }

    impl fmt::Display for Refusal {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.why)
        }
    }

    impl std::error::Error for Refusal {}

    /// A type like `anyhow::Error`, which is not an `Error` itself but converts into a boxed one.
    #[derive(Debug)]
    struct Any(Box<dyn std::error::Error + Send + Sync>);

    impl From<Any> for Box<dyn std::error::Error + Send + Sync> {
        fn from(any: Any) -> Self {
            any.0
        }
    }

    #[handler]
    pub(super) async fn aliased() -> Answer<u32> {
        Err(Refusal {
            why: "not today".to_owned(),
        })
    }

    #[handler]
    fn any() -> Result<u32, Any> {
        Err(Any("deep inside".into()))
    }

    #[handler]
    fn text() -> Result<(), &'static str> {
        Err("a text")
    }

    #[handler]
    fn own(fail: bool) -> Result<Value, HandlerError> {
        if fail {
            return Err("failed on request".into());
        }
        Ok(json!({ "Ok": 1 }))
    }

    #[tokio::test]
    async fn every_result_fails_the_job_by_its_err() {
        let failures = [
            (run::<aliased>(json!(null)).await, "not today"),
            (run::<any>(json!(null)).await, "deep inside"),
            (run::<text>(json!(null)).await, "a text"),
            (run::<own>(json!(true)).await, "failed on request"),
        ];
        for (job, message) in failures {
            assert_eq!(job.result.unwrap_err().message(), message);
        }
        assert_eq!(
            run::<own>(json!(false)).await.result.unwrap(),
            json!({ "Ok": 1 })
        );
    }

    #[handler]
    async fn scores() -> BTreeMap<String, Vec<f32>> {
        BTreeMap::from([("scores".to_owned(), vec![0.5, f32::NAN])])
    }

    #[handler]
    fn odd_keys() -> Result<BTreeMap<Vec<u8>, u8>> {
        Ok(BTreeMap::from([(vec![1], 1)]))
    }

    #[handler]
    fn odd_item() -> impl Iterator<Item = f64> {
        [1.0, f64::INFINITY, 2.0].into_iter()
    }

    #[tokio::test]
    async fn an_output_that_is_no_json_fails_the_job() {
        let kind = || "invalid_output".to_owned();
        let because = |why| format!("cannot write the output as JSON: {why}");
        assert_eq!(
            failure(run::<scores>(json!(null)).await),
            (kind(), because("NaN is not a JSON number (at `scores[1]`)"))
        );
        assert_eq!(
            failure(run::<odd_keys>(json!(null)).await),
            (kind(), because("key must be a string"))
        );
        let job = run::<odd_item>(json!(null)).await;
        assert_eq!(job.outputs, [1.0]);
        assert_eq!(failure(job), (kind(), because("inf is not a JSON number")));
    }

    #[handler]
    async fn panics() -> u32 {
        panic!("in the handler")
    }

    #[handler]
    fn panics_blocking() -> u32 {
        panic!("in the handler")
    }

    #[handler]
    fn panics_at_once() -> impl Stream<Item = u32> {
        if true {
            panic!("in the handler");
        }
        futures::stream::empty()
    }

    #[handler]
    fn panics_midway() -> impl Iterator<Item = u32> {
        [1, 0].into_iter().map(|n| 1 / n)
    }

    #[tokio::test]
    async fn a_panic_fails_the_job() {
        for job in [
            run::<panics>(json!(null)).await,
            run::<panics_blocking>(json!(null)).await,
            run::<panics_at_once>(json!(null)).await,
        ] {
            let (kind, message) = failure(job);
            assert_eq!(kind, "panic");
            assert!(message.ends_with(": in the handler"), "{message}");
        }
        let job = run::<panics_midway>(json!(null)).await;
        assert_eq!(job.outputs, [1]);
        assert_eq!(failure(job).0, "panic");
    }
}

mod batches {
    use super::*;

    #[handler]
    fn scaled(model: &Model, numbers: Batch<u32>) -> Vec<u32> {
        numbers.iter().map(|n| n * model.factor).collect()
    }

    #[handler(max_batch = 2, max_wait = "1s")]
    async fn halved(numbers: Batch<u32>) -> Vec<Result<u32>> {
        let half = |n: &u32| match n % 2 {
            0 => Ok(n / 2),
            _ => Err(format!("{n} is odd").into()),
        };
        for (n, cx) in numbers.iter().zip(numbers.contexts()) {
            cx.progress(json!({ cx.id(): n }));
        }
        numbers.iter().map(half).collect()
    }

    #[handler]
    async fn none_or_all(numbers: Batch<u32>) -> Result<Vec<f64>, String> {
        if numbers.contains(&0) {
            return Err("division by 0".to_owned());
        }
        Ok(numbers.into_iter().map(|n| 1.0 / f64::from(n)).collect())
    }

    #[handler]
    fn forgetful(_numbers: Batch<u32>) -> Vec<u32> {
        Vec::new()
    }

    #[tokio::test]
    async fn a_job_is_a_batch_of_its_own() {
        let job = run_with_model::<scaled>(json!(4)).await;
        assert_eq!(job.result.unwrap(), json!(40));

        let job = run::<halved>(json!(4)).await;
        assert_eq!(job.progress, [json!({ "test": 4 })]);
        assert_eq!(job.result.unwrap(), json!(2));
        let failure = run::<halved>(json!(5)).await.result.unwrap_err();
        assert_eq!(failure.message(), "5 is odd");
        let failure = run::<halved>(json!("x")).await.result.unwrap_err();
        assert_eq!(failure.kind(), "invalid_input");

        let job = run::<none_or_all>(json!(4)).await;
        assert_eq!(job.result.unwrap(), json!(0.25));
        let failure = run::<none_or_all>(json!(0)).await.result.unwrap_err();
        assert_eq!(failure.message(), "division by 0");

        let failure = run::<forgetful>(json!(0)).await.result.unwrap_err();
        assert_eq!(failure.kind(), "invalid_output");
        assert!(
            failure.message().contains("0 results for 1 job(s)"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn a_batch_handler_is_still_a_function() {
        let made = halved([6, 7].into_iter().collect()).await;
        assert_eq!(*made[0].as_ref().unwrap(), 3);
        assert!(made[1].is_err());

        let batch: Batch<&str> = ["a", "b"].into_iter().collect();
        assert_eq!(&batch[..], ["a", "b"]);
        assert_eq!((&batch).into_iter().count(), 2);
        let (inputs, contexts) = batch.into_parts();
        contexts[1].progress("to nobody");
        assert!(!contexts[1].is_cancelled());
        assert_eq!((inputs[1], contexts[1].id()), ("b", "1"));
    }
}

mod places {
    use super::*;

    pub(crate) mod deeper {
        #[podwork::handler]
        pub(crate) async fn double(number: u32) -> u32 {
            number * 2
        }
    }

    #[tokio::test]
    async fn handlers_can_be_in_modules_and_functions() {
        #[handler]
        fn triple(number: u32) -> u32 {
            number * 3
        }

        assert_eq!(run::<deeper::double>(json!(2)).await.result.unwrap(), 4);
        assert_eq!(run::<triple>(json!(2)).await.result.unwrap(), 6);
        assert_eq!(triple(3), 9);
    }

    #[handler]
    async fn replaced(cx: Context) {
        cx.refresh_worker();
    }

    #[tokio::test]
    async fn a_handler_can_ask_for_a_new_worker() {
        assert!(run::<replaced>(json!(null)).await.refresh);
        assert!(!run::<deeper::double>(json!(1)).await.refresh);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_over_its_time_limit_fails() {
    #[handler]
    async fn slow(hours: u64) -> u64 {
        tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
        hours
    }

    let limit = Duration::from_secs(7000);
    let job = |hours| TestJob::new(json!(hours)).job_timeout(limit).run::<slow>();
    assert_eq!(job(1).await.result.unwrap(), json!(1));
    let failure = job(2).await.result.unwrap_err();
    assert_eq!(failure.kind(), "timeout");
    assert!(failure.message().contains("limit of 7000s"), "{failure}");
}
