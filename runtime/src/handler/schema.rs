//! The JSON Schema of a handler's input and output, derived from their types: `#[handler(schema)]`.

use podwork_protocol::HandlerSchema;

use crate::error::Error;
use crate::handler::Handler;
use crate::output::print as print_text;

/// A [`Handler`] with a schema. [`#[handler(schema)]`](macro@crate::handler) implements this trait; do not implement it
/// by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema",
    label = "missing `#[handler(schema)]`",
    note = "add `#[handler(schema)]` to the function"
)]
pub trait DescribedHandler: Handler {
    /// Returns the schema of the input and the output.
    #[doc(hidden)]
    fn schema() -> HandlerSchema;
}

/// Returns the JSON Schema of the input and the output of a handler with `#[handler(schema)]`. A worker prints it for
/// `--rp_schema`.
///
/// ```
/// use podwork::handler;
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Greet {
///     /// Whom to greet.
///     name: String,
/// }
///
/// #[handler(schema)]
/// async fn greet(input: Greet) -> String {
///     format!("Hello, {}!", input.name)
/// }
///
/// let schema = podwork::schema::<greet>();
/// assert_eq!(schema.input["properties"]["name"]["description"], "Whom to greet.");
/// assert_eq!(schema.output["type"], "string");
/// ```
#[must_use]
pub fn schema<H: DescribedHandler>() -> HandlerSchema {
    H::schema()
}

/// Prints the schema, and nothing else, on standard output: `--rp_schema`.
pub(crate) fn print(handler: &str, schema: Option<fn() -> HandlerSchema>) -> Result<(), Error> {
    let schema = schema.ok_or_else(|| Error::Flag {
        flag: "--rp_schema",
        problem: format!("the handler `{handler}` has no schema: add `#[handler(schema)]` to it"),
    })?;
    let mut text = serde_json::to_string_pretty(&schema()).expect("a schema is always valid JSON");
    text.push('\n');
    print_text(text)
}
