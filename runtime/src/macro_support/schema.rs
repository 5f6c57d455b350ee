//! What the code written by `#[handler(schema)]` calls.

use std::future::Future;
use std::marker::PhantomData;

use podwork_protocol::HandlerSchema;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::handler::Handler;

use super::{Fallible, Plain, Shape};

/// What can be described by a schema.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema",
    label = "not `schemars::JsonSchema`",
    note = "derive `schemars::JsonSchema` for it, of schemars 1; or leave out `schema` of `#[handler(schema)]`"
)]
pub trait Described: JsonSchema {}

#[diagnostic::do_not_recommend]
impl<T: JsonSchema + ?Sized> Described for T {}

/// A `Result` of an output that can be described; what its error looks like is the platform's affair.
pub trait DescribedResult {
    /// The schema of what is in its `Ok`.
    fn output_schema() -> Value;
}

impl<T: Described, E> DescribedResult for Result<T, E> {
    fn output_schema() -> Value {
        generate::<T>(SchemaSettings::draft2020_12().for_serialize())
    }
}

impl Plain {
    /// The schema of the output.
    pub fn schema<T: Described>(self, _: Shape<T>) -> Value {
        generate::<T>(SchemaSettings::draft2020_12().for_serialize())
    }
}

impl Fallible {
    /// The schema of the output, when there is one.
    pub fn schema<R: DescribedResult>(self, _: Shape<R>) -> Value {
        R::output_schema()
    }
}

/// A handler's schema, of those of its input and its output.
pub fn of<H: Handler>(input: Value, output: Value) -> HandlerSchema {
    HandlerSchema {
        handler: H::NAME.to_owned(),
        streams: H::KIND.streams(),
        input,
        output,
    }
}

/// The schema of the input of a handler that takes none: whatever it is, it is ignored.
pub fn anything() -> Value {
    Value::Bool(true)
}

/// The schema of an input.
pub fn input<T: Described>() -> Value {
    generate::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

fn generate<T: JsonSchema + ?Sized>(settings: SchemaSettings) -> Value {
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    // A title alone says nothing: that is the schema of anything, and has a shorter form.
    if let Value::Object(members) = &schema
        && members
            .keys()
            .all(|name| matches!(name.as_str(), "$schema" | "title"))
    {
        schema = Value::Bool(true);
    }
    schema
}

/// A value of any type, in code that is never run: only its types are asked.
///
/// # Panics
/// It is run.
pub fn any<T>() -> T {
    unreachable!("this is code to be compiled, not to be run")
}

/// The shape of what a function would return. It is not called.
pub fn of_call<T>(_: impl FnOnce() -> Shape<T>) -> Shape<T> {
    Shape::new()
}

/// … of what an async function would.
pub fn of_future<T, F: Future<Output = Shape<T>>>(_: impl FnOnce() -> F) -> Shape<T> {
    Shape::new()
}

impl<T> Shape<T> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Shape<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shape<T> {}
