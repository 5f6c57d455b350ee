//! Example values for a JSON Schema, used as the initial content of forms.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// The maximum depth of the example, since types may be recursive.
const DEEPEST: usize = 12;
/// The maximum number of schemas visited, since each level may have many.
const MOST_STEPS: usize = 1000;
/// The maximum number of entries of one list, if the schema requires many.
const MOST_ENTRIES: u64 = 8;
/// The maximum length of a text, if the schema requires a long one.
const LONGEST: u64 = 200;

/// Returns a value that matches the schema, on a best-effort basis. It uses the schema's own examples and defaults, the
/// required fields, and the first of several alternatives. Some keywords, such as `pattern`, are ignored.
pub(crate) fn example(schema: &Value) -> Value {
    let mut maker = Maker {
        root: schema,
        steps: 0,
    };
    maker.make(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    steps: usize,
}

impl<'a> Maker<'a> {
    fn make(&mut self, schema: &'a Value, depth: usize) -> Value {
        self.steps += 1;
        if depth > DEEPEST || self.steps > MOST_STEPS {
            return Value::Null;
        }
        if let Some(own) = own_example(schema) {
            return own;
        }
        let mut made = match schema.get("$ref").and_then(|to| self.find(to)) {
            Some(target) => self.make(target, depth + 1),
            None => self.by_type(schema, depth),
        };
        for choice in ["oneOf", "anyOf"] {
            if let Some(choices) = schema.get(choice).and_then(Value::as_array) {
                let chosen = choices
                    .iter()
                    .find(|choice| type_of(choice) != Some("null"));
                if let Some(chosen) = chosen {
                    made = join(made, self.make(chosen, depth + 1));
                }
            }
        }
        for part in schema
            .get("allOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            made = join(made, self.make(part, depth + 1));
        }
        made
    }

    /// Returns the target of a reference within the schema.
    fn find(&self, to: &Value) -> Option<&'a Value> {
        let fragment = percent_decode_str(to.as_str()?.strip_prefix('#')?);
        self.root.pointer(&fragment.decode_utf8().ok()?)
    }

    fn by_type(&mut self, schema: &'a Value, depth: usize) -> Value {
        match type_of(schema) {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, depth),
            Some("string") => text(schema),
            Some("integer") => number(schema, true),
            Some("number") => number(schema, false),
            Some("boolean") => json!(false),
            _ => Value::Null,
        }
    }

    /// Returns an object with the required fields, and those with a default or example.
    fn object(&mut self, schema: &'a Value, depth: usize) -> Value {
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| {
            let mut required = required.into_iter().flatten();
            required.any(|required| required == name)
        };
        let fields = schema.get("properties").and_then(Value::as_object);
        let mut made = Map::new();
        for (name, field) in fields.into_iter().flatten() {
            if is_required(name) || own_example(field).is_some() {
                made.insert(name.clone(), self.make(field, depth + 1));
            }
        }
        Value::Object(made)
    }

    fn array(&mut self, schema: &'a Value, depth: usize) -> Value {
        let fixed = schema.get("prefixItems").and_then(Value::as_array);
        let mut made: Vec<Value> = fixed
            .into_iter()
            .flatten()
            .map(|entry| self.make(entry, depth + 1))
            .collect();
        let Some(entry) = schema.get("items").filter(|entry| **entry != json!(false)) else {
            return made.into();
        };
        // An empty list shows nothing, so the example has one entry if the schema allows it.
        let bound = |name, unless| schema.get(name).and_then(Value::as_u64).unwrap_or(unless);
        let wanted = bound("minItems", 0)
            .max(u64::from(fixed.is_none()))
            .min(bound("maxItems", u64::MAX));
        while (made.len() as u64) < wanted.min(MOST_ENTRIES) && depth < DEEPEST {
            made.push(self.make(entry, depth + 1));
        }
        made.into()
    }
}

/// Returns the schema's own example, constant, default, or first allowed value.
fn own_example(schema: &Value) -> Option<Value> {
    let first = |name| schema.get(name).and_then(|list| list.get(0));
    first("examples")
        .or_else(|| schema.get("const"))
        .or_else(|| schema.get("default"))
        .or_else(|| first("enum"))
        .cloned()
}

/// Returns the first type of the schema other than `null`, or the type that its keywords imply.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(only)) => Some(only),
        Some(Value::Array(several)) => {
            let mut names = several.iter().filter_map(Value::as_str);
            names.find(|name| *name != "null")
        }
        _ if schema.get("properties").is_some() => Some("object"),
        _ if schema.get("items").is_some() => Some("array"),
        _ => None,
    }
}

/// Merges two objects. If they are not both objects, returns `more` unless it is `null`.
fn join(made: Value, more: Value) -> Value {
    match (made, more) {
        (Value::Object(mut made), Value::Object(more)) => {
            made.extend(more);
            Value::Object(made)
        }
        (made, Value::Null) => made,
        (_, more) => more,
    }
}

fn text(schema: &Value) -> Value {
    let usual = match schema.get("format").and_then(Value::as_str) {
        Some("uri" | "url") => "https://example.com/",
        Some("email") => "ada@example.com",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("date") => "2026-01-01",
        Some("time") => "00:00:00Z",
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("ip" | "ipv4") => "127.0.0.1",
        Some("ipv6") => "::1",
        _ => {
            let bound = |name, unless| schema.get(name).and_then(Value::as_u64).unwrap_or(unless);
            let length = bound("minLength", 0)
                .max(4)
                .min(bound("maxLength", LONGEST));
            let length = usize::try_from(length.min(LONGEST)).unwrap_or_default();
            return "text"
                .chars()
                .cycle()
                .take(length)
                .collect::<String>()
                .into();
        }
    };
    usual.into()
}

/// Returns 0, or else a number near a bound that satisfies all bounds.
fn number(schema: &Value, whole: bool) -> Value {
    let bound = |name| schema.get(name).and_then(Value::as_f64);
    let step = bound("multipleOf").filter(|step| *step > 0.0);
    let fits = |number: &f64| {
        bound("minimum").is_none_or(|least| *number >= least)
            && bound("maximum").is_none_or(|most| *number <= most)
            && bound("exclusiveMinimum").is_none_or(|least| *number > least)
            && bound("exclusiveMaximum").is_none_or(|most| *number < most)
            && step.is_none_or(|step| (number / step).fract() == 0.0)
            && (!whole || number.fract() == 0.0)
    };
    let step = step.unwrap_or(1.0);
    let low = bound("minimum").or(bound("exclusiveMinimum"));
    let high = bound("maximum").or(bound("exclusiveMaximum"));
    let up = low.map(|low| (low / step).ceil() * step);
    let down = high.map(|high| (high / step).floor() * step);
    let candidates = [
        Some(0.0),
        up,
        up.map(|up| up + step),
        down,
        down.map(|down| down - step),
        low,
        high,
        low.zip(high).map(|(low, high)| f64::midpoint(low, high)),
    ];
    let found = candidates.into_iter().flatten().find(fits);
    let found = found.unwrap_or_default();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, which is fine for an example"
    )]
    if found.fract() == 0.0 {
        json!(found as i64)
    } else {
        json!(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &Value, expected: &Value) {
        assert_eq!(example(schema), *expected, "{schema}");
    }

    #[test]
    fn an_example_in_the_schema_takes_precedence() {
        check(
            &json!({"type": "string", "examples": ["a fox"], "default": "x"}),
            &json!("a fox"),
        );
        check(
            &json!({"type": "integer", "default": 20, "enum": [1]}),
            &json!(20),
        );
        check(&json!({"const": {"a": 1}}), &json!({"a": 1}));
        check(&json!({"enum": ["first", "second"]}), &json!("first"));
    }

    #[test]
    fn example_objects_contain_required_members_and_defaults() {
        let schema = json!({
            "type": "object",
            "properties": {
                "prompt": {"type": "string", "minLength": 6, "maxLength": 40},
                "steps": {"type": "integer", "default": 20},
                "seed": {"type": ["integer", "null"]},
                "size": {"$ref": "#/$defs/Size"},
            },
            "required": ["prompt", "size"],
            "$defs": {"Size": {
                "type": "object",
                "properties": {"width": {"type": "integer", "minimum": 8}},
                "required": ["width"],
            }},
        });
        check(
            &schema,
            &json!({"prompt": "textte", "steps": 20, "size": {"width": 8}}),
        );
    }

    #[test]
    fn references_may_be_percent_encoded() {
        let schema = json!({
            "allOf": [{"$ref": "#/$defs/Gr%C3%B6%C3%9Fe"}, {"$ref": "#/$defs/a~1b%20c"}],
            "$defs": {
                "Größe": {"required": ["w"], "properties": {"w": {"type": "integer"}}},
                "a/b c": {"required": ["x"], "properties": {"x": {"type": "boolean"}}},
            },
        });
        check(&schema, &json!({"w": 0, "x": false}));
    }

    #[test]
    fn of_alternatives_the_first_with_a_value_is_the_example() {
        let some = json!({"type": "object", "properties": {"url": {"type": "string", "format": "uri"}}, "required": ["url"]});
        check(
            &json!({"anyOf": [{"type": "null"}, some]}),
            &json!({"url": "https://example.com/"}),
        );
        // Flattened: fields besides the alternatives.
        let flat = json!({
            "type": "object",
            "properties": {"width": {"type": "integer", "minimum": 1}},
            "required": ["width"],
            "oneOf": [some, {"type": "string"}],
        });
        check(&flat, &json!({"url": "https://example.com/", "width": 1}));
        check(
            &json!({"allOf": [flat, {"required": ["x"], "properties": {"x": {"type": "boolean"}}}]}),
            &json!({"url": "https://example.com/", "width": 1, "x": false}),
        );
    }

    #[test]
    fn lists_and_numbers_keep_their_bounds() {
        let pixel = json!({"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 3, "maxItems": 3});
        check(
            &json!({"type": "array", "items": pixel}),
            &json!([[0, 0, 0]]),
        );
        check(
            &json!({"type": "array", "items": {"type": "null"}, "maxItems": 0}),
            &json!([]),
        );
        check(
            &json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": false}),
            &json!(["text", false]),
        );
        check(
            &json!({"type": "integer", "exclusiveMinimum": 0}),
            &json!(1),
        );
        check(&json!({"type": "integer", "maximum": -3}), &json!(-3));
        check(
            &json!({"type": "integer", "minimum": 5, "multipleOf": 8}),
            &json!(8),
        );
        check(
            &json!({"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0}),
            &json!(0.5),
        );
        check(
            &json!({"type": "number", "minimum": 0.1, "maximum": 0.2}),
            &json!(0.1),
        );
        check(&json!({"type": "string", "maxLength": 2}), &json!("te"));
    }

    #[test]
    fn a_schema_without_a_known_type_gives_null() {
        for schema in [
            json!(true),
            json!({}),
            json!({"$ref": "https://example.com/x"}),
            json!({"type": "null"}),
        ] {
            check(&schema, &Value::Null);
        }
    }

    #[test]
    fn recursive_types_have_a_finite_example() {
        let tree = json!({
            "$ref": "#/$defs/Tree",
            "$defs": {"Tree": {
                "type": "object",
                "properties": {
                    "left": {"$ref": "#/$defs/Tree"},
                    "right": {"$ref": "#/$defs/Tree"},
                    "more": {"type": "array", "items": {"$ref": "#"}, "minItems": 1_000_000_000},
                },
                "required": ["left", "right", "more"],
            }},
        });
        let text = example(&tree).to_string();
        assert!(text.len() < 100_000, "{}", text.len());
        check(&json!({"$ref": "#"}), &Value::Null);
        check(
            &json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
            &Value::Null,
        );
    }
}
