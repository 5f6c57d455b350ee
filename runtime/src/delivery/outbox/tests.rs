use super::*;
use futures::FutureExt as _;
use serde_json::json;

fn raw(value: serde_json::Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(&value).unwrap()
}

fn last(value: serde_json::Value) -> Final {
    Final {
        outcome: Ok(raw(value)),
        refresh: false,
    }
}

/// Returns all waiting messages as strings: `c…` for a chunk, `p…` for progress, `f…` for the final result.
fn drain(outbox: &Outbox) -> Vec<String> {
    std::iter::from_fn(|| outbox.next().now_or_never())
        .map(spell)
        .collect()
}

fn spell(message: Message) -> String {
    match message {
        Message::Chunk(chunk) => format!("c{chunk}"),
        Message::Progress(progress) => format!("p{progress}"),
        Message::Final(last) => format!("f{}", last.outcome.unwrap()),
    }
}

#[tokio::test]
async fn newer_progress_replaces_queued_progress() {
    let outbox = Outbox::default();
    outbox.chunk(raw(json!(1))).await.unwrap();
    outbox.progress(raw(json!(10)));
    outbox.chunk(raw(json!(2))).await.unwrap();
    outbox.progress(raw(json!(20)));
    assert_eq!(drain(&outbox), ["c1", "p20", "c2"]);
    outbox.progress(raw(json!(30)));
    outbox.progress(raw(json!(31)));
    assert_eq!(drain(&outbox), ["p31"]);
}

#[tokio::test]
async fn the_result_is_the_last_post() {
    let outbox = Outbox::default();
    outbox.chunk(raw(json!(1))).await.unwrap();
    outbox.progress(raw(json!(10)));
    outbox.finish(last(json!("end")));
    outbox.progress(raw(json!(11)));
    outbox.finish(last(json!("second end")));
    assert_eq!(drain(&outbox), ["c1", "f\"end\""]);
    // Not even a task that outlives the handler can add a message.
    outbox.progress(raw(json!(12)));
    assert!(drain(&outbox).is_empty());
}

#[tokio::test]
async fn a_full_outbox_blocks_the_handler_until_it_is_half_empty() {
    let outbox = Outbox::default();
    for n in 0..MAX_CHUNKS {
        outbox.chunk(raw(json!(n))).await.unwrap();
    }
    let mut waiting = std::pin::pin!(outbox.chunk(raw(json!("last"))));
    assert!(waiting.as_mut().now_or_never().is_none());
    for _ in 0..MAX_CHUNKS / 2 - 1 {
        outbox.next().await;
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    outbox.next().await;
    waiting.await.unwrap();
    // As long as there is room, adding a chunk does not wait.
    for n in 0..MAX_CHUNKS / 2 - 1 {
        outbox.chunk(raw(json!(n))).now_or_never().unwrap().unwrap();
    }

    let outbox = Outbox::default();
    outbox
        .chunk(raw(json!("x".repeat(MAX_BYTES))))
        .await
        .unwrap();
    assert!(outbox.chunk(raw(json!(1))).now_or_never().is_none());
}

#[tokio::test]
async fn closing_the_outbox_releases_a_waiting_handler() {
    let outbox = Outbox::default();
    outbox
        .chunk(raw(json!("x".repeat(MAX_BYTES))))
        .await
        .unwrap();
    let mut waiting = std::pin::pin!(outbox.chunk(raw(json!(1))));
    assert!(waiting.as_mut().now_or_never().is_none());
    outbox.close();
    waiting.await.unwrap_err();
    outbox.progress(raw(json!(1)));
    outbox.finish(last(json!("end")));
    assert_eq!(drain(&outbox), ["f\"end\""]);
}

#[tokio::test]
async fn a_test_sees_every_progress() {
    let outbox = Outbox::keeping_all();
    outbox.progress(raw(json!(1)));
    outbox.progress(raw(json!(2)));
    outbox.finish(last(json!("end")));
    assert_eq!(drain(&outbox), ["p1", "p2", "f\"end\""]);
}

/// An operation on an outbox.
#[derive(Debug, Clone, Copy)]
enum Op {
    Chunk,
    Progress,
    Next,
    Finish,
}

/// A simple model of the outbox, without regard to cost: the waiting messages in order, as strings like those of
/// `drain`.
#[derive(Default)]
struct Model {
    waiting: Vec<String>,
    finished: bool,
}

impl Model {
    fn apply(&mut self, op: Op, n: usize) -> Option<String> {
        match op {
            Op::Chunk if !self.finished => self.waiting.push(format!("c{n}")),
            Op::Progress if !self.finished => {
                let mut waiting = self.waiting.iter_mut();
                match waiting.find(|waiting| waiting.starts_with('p')) {
                    Some(waiting) => *waiting = format!("p{n}"),
                    None => self.waiting.push(format!("p{n}")),
                }
            }
            Op::Finish if !self.finished => {
                self.finished = true;
                self.waiting.retain(|waiting| !waiting.starts_with('p'));
                self.waiting.push(format!("f{n}"));
            }
            Op::Next if !self.waiting.is_empty() => return Some(self.waiting.remove(0)),
            _ => {}
        }
        None
    }
}

proptest::proptest! {
    #[test]
    fn the_outbox_matches_its_model(
        ops in proptest::collection::vec(
            proptest::sample::select(vec![
                Op::Chunk, Op::Chunk, Op::Progress, Op::Progress, Op::Next, Op::Next, Op::Finish,
            ]),
            0..60,
        ),
    ) {
        let (outbox, mut model) = (Outbox::default(), Model::default());
        for (n, op) in ops.into_iter().enumerate() {
            let expected = model.apply(op, n);
            match op {
                // A handler yields no chunks once it has ended.
                Op::Chunk if model.finished => {}
                Op::Chunk => outbox.chunk(raw(json!(n))).now_or_never().unwrap().unwrap(),
                Op::Progress => outbox.progress(raw(json!(n))),
                Op::Finish => outbox.finish(last(json!(n))),
                Op::Next => {
                    let got = outbox.next().now_or_never().map(spell);
                    proptest::prop_assert_eq!(got, expected);
                }
            }
        }
        proptest::prop_assert_eq!(drain(&outbox), model.waiting);
    }
}

#[tokio::test]
async fn queued_chunks_are_joined_where_allowed() {
    let outbox = Outbox::new(true, true);
    for chunk in [
        json!("a"),
        json!("b"),
        json!(1),
        json!(2),
        json!([1]),
        json!([2]),
    ] {
        outbox.chunk(raw(chunk)).await.unwrap();
    }
    outbox.progress(raw(json!(9)));
    outbox.chunk(raw(json!([3]))).await.unwrap();
    assert_eq!(
        drain(&outbox),
        ["c\"ab\"", "c1", "c2", "c[1,2]", "p9", "c[3]"]
    );
    assert_eq!(outbox.bytes(), 0);
    outbox.progress(raw(json!(10)));
    outbox.progress(raw(json!(11)));
    assert_eq!(drain(&outbox), ["p11"], "positions count past messages");
}
