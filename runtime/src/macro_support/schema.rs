//! Support for the code that `#[handler(schema)]` generates.

use std::future::Future;

use podwork_protocol::HandlerSchema;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::handler::Handler;

use super::output::{FallibleTag, OutputShape, PlainTag};

/// A type that has a schema.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema",
    label = "not `schemars::JsonSchema`",
    note = "derive `schemars::JsonSchema` (schemars 1) for it, or remove `schema` from `#[handler(schema)]`"
)]
pub trait Described: JsonSchema {}

#[diagnostic::do_not_recommend]
impl<T: JsonSchema + ?Sized> Described for T {}

/// A `Result` of an output that has a schema. The schema does not cover its error.
pub trait DescribedResult {
    /// Returns the schema of its `Ok`.
    fn output_schema() -> Value;
}

impl<T: Described, E> DescribedResult for Result<T, E> {
    fn output_schema() -> Value {
        generate::<T>(SchemaSettings::draft2020_12().for_serialize())
    }
}

impl PlainTag {
    /// Returns the schema of the output.
    pub fn schema<T: Described>(self, _: OutputShape<T>) -> Value {
        generate::<T>(SchemaSettings::draft2020_12().for_serialize())
    }
}

impl FallibleTag {
    /// Returns the schema of the output in its `Ok`.
    pub fn schema<R: DescribedResult>(self, _: OutputShape<R>) -> Value {
        R::output_schema()
    }
}

/// Combines the schemas of a handler's input and output.
pub fn of<H: Handler>(input: Value, output: Value) -> HandlerSchema {
    HandlerSchema::new(H::NAME, H::KIND.streams(), input, output)
}

/// Returns the input schema of a handler that takes no input: any input is accepted and ignored.
pub fn anything() -> Value {
    Value::Bool(true)
}

/// Returns the schema of an input.
pub fn input<T: Described>() -> Value {
    generate::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

fn generate<T: JsonSchema + ?Sized>(settings: SchemaSettings) -> Value {
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    // A schema with a title alone accepts anything, and has a shorter form.
    if let Value::Object(members) = &schema
        && members
            .keys()
            .all(|name| matches!(name.as_str(), "$schema" | "title"))
    {
        schema = Value::Bool(true);
    }
    schema
}

/// Stands for a value of any type, in code that is only type-checked.
///
/// # Panics
/// Panics if called.
pub fn any<T>() -> T {
    unreachable!("this code is only type-checked")
}

/// Returns the shape of a function's return value, without calling it.
pub fn of_call<T>(_: impl FnOnce() -> OutputShape<T>) -> OutputShape<T> {
    OutputShape::new()
}

/// Returns the shape of an async function's return value, without calling it.
pub fn of_future<T, F: Future<Output = OutputShape<T>>>(_: impl FnOnce() -> F) -> OutputShape<T> {
    OutputShape::new()
}
