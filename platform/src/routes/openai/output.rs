//! Job outputs and chunks as OpenAI answers and events. Workers return them in several forms.

use axum::http::StatusCode;
use bytes::Bytes;
use podwork_protocol::RawValue;
use serde_json::Value;

use super::error::ErrorObject;

/// The size limit, in bytes, up to which an output may be an error object.
const LARGEST_ERROR: usize = 64 * 1024;

/// The event at the end of a stream.
const DONE: &str = "data: [DONE]\n\n";

/// Returns the answer for an output: the object itself, a list with that one object, as a handler that streams returns
/// it, or the object as a string. An error object has its own status.
pub(super) fn whole(output: Option<&Bytes>) -> (StatusCode, String) {
    let text = object(text_of(output));
    if text.len() > LARGEST_ERROR {
        return (StatusCode::OK, text);
    }
    let value = serde_json::from_str(&text).unwrap_or_default();
    match ErrorObject::of_object(&value) {
        Some(error) => (error.status(), error.body()),
        None => (StatusCode::OK, text),
    }
}

/// Returns the object in one of its forms. Everything else is returned as it is.
fn object(text: String) -> String {
    let inner = match text.as_bytes().first() {
        Some(b'[') => match serde_json::from_str::<[Box<RawValue>; 1]>(&text) {
            Ok([only]) => Some(only.get().to_owned()),
            Err(_) => None,
        },
        Some(b'"') => serde_json::from_str::<String>(&text).ok(),
        _ => return text,
    };
    match inner {
        Some(inner) if is_json(&inner) => object(inner),
        _ => text,
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Returns the events of a job's chunks.
pub(super) fn events_of_chunks<'a>(chunks: impl IntoIterator<Item = &'a Bytes>) -> String {
    let mut events = String::new();
    for chunk in chunks {
        add_events(&mut events, &text_of(Some(chunk)));
    }
    events
}

/// Returns the events of the output of a handler that does not stream.
pub(super) fn events_of_whole(output: Option<&Bytes>) -> String {
    let (_, text) = whole(output);
    let mut events = String::new();
    add_events(&mut events, &text);
    if !events.contains(DONE.trim_end()) {
        events.push_str(DONE);
    }
    events
}

/// Adds a chunk: the text of events, a list of chunks, or an object, which becomes an event.
fn add_events(events: &mut String, chunk: &str) {
    match chunk.as_bytes().first() {
        Some(b'"') => {
            let text = serde_json::from_str::<String>(chunk).unwrap_or_default();
            events.push_str(&text);
        }
        Some(b'[') => {
            let chunks = serde_json::from_str::<Vec<Box<RawValue>>>(chunk).unwrap_or_default();
            for chunk in chunks {
                add_events(events, chunk.get());
            }
        }
        _ => {
            // An event ends at a line break.
            let line = chunk.replace(['\n', '\r'], " ");
            events.push_str("data: ");
            events.push_str(&line);
            events.push_str("\n\n");
        }
    }
}

fn text_of(json: Option<&Bytes>) -> String {
    json.map_or_else(
        || Value::Null.to_string(),
        |json| String::from_utf8_lossy(json).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(value: &Value) -> Bytes {
        value.to_string().into()
    }

    #[test]
    fn an_output_in_any_form_is_one_object() {
        let object = json!({"id": "x", "n": 1});
        let expected = (StatusCode::OK, object.to_string());
        for output in [
            object.clone(),
            json!([object]),
            object.to_string().into(),
            json!([object.to_string()]),
        ] {
            assert_eq!(whole(Some(&bytes(&output))), expected, "{output}");
        }
        // The digits of numbers are kept.
        let text = r#"[{"seed": 5400121572116418999, "x": 1.10}]"#;
        assert_eq!(
            whole(Some(&Bytes::from_static(text.as_bytes()))).1,
            r#"{"seed": 5400121572116418999, "x": 1.10}"#
        );
        for output in [json!([1, 2]), json!("a text"), json!([]), json!(1)] {
            assert_eq!(whole(Some(&bytes(&output))).1, output.to_string());
        }
        assert_eq!(whole(None).1, "null");
    }

    #[test]
    fn an_output_that_is_an_error_has_its_status() {
        let error = json!({"error": {"message": "m", "type": "t", "param": null, "code": 429}});
        let (status, body) = whole(Some(&bytes(&json!([error]))));
        assert_eq!((status.as_u16(), body), (429, error.to_string()));
    }

    #[test]
    fn chunks_in_any_form_are_events() {
        let chunks = [
            json!("data: {\"a\": 1}\n\nda"),
            json!("ta: 2\n\n"),
            json!(["data: 3\n\n", {"b": "x\ny"}]),
            json!({"c": 4}),
            json!("data: [DONE]\n\n"),
        ];
        let chunks: Vec<Bytes> = chunks.iter().map(bytes).collect();
        assert_eq!(
            events_of_chunks(&chunks),
            "data: {\"a\": 1}\n\ndata: 2\n\ndata: 3\n\ndata: {\"b\":\"x\\ny\"}\n\ndata: {\"c\":4}\n\ndata: [DONE]\n\n"
        );
    }

    #[test]
    fn an_output_without_chunks_is_one_event_and_the_end() {
        let object = json!({"a": 1});
        let expected = "data: {\"a\":1}\n\ndata: [DONE]\n\n";
        for output in [object.clone(), json!([object]), object.to_string().into()] {
            assert_eq!(events_of_whole(Some(&bytes(&output))), expected);
        }
        let events = json!(["data: {\"a\":1}\n\n", "data: [DONE]\n\n"]);
        assert_eq!(events_of_whole(Some(&bytes(&events))), expected);
    }
}
