//! What a handler takes and gives, told by its types: `#[handler(schema)]`.

use std::io::{self, Write as _};

use podwork_protocol::HandlerSchema;

use crate::error::Error;
use crate::handler::Handler;

/// A [`Handler`] that tells what it takes and gives. Written by [`#[handler(schema)]`](macro@crate::handler), not by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` tells no schema",
    label = "no `#[handler(schema)]`",
    note = "write `#[handler(schema)]` above the function"
)]
pub trait DescribedHandler: Handler {
    /// What it takes and gives.
    #[doc(hidden)]
    fn schema() -> HandlerSchema;
}

/// What a handler under `#[handler(schema)]` takes and gives, as JSON Schema: what its worker prints for `--rp_schema`.
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

/// `--rp_schema`: nothing but the schema, on standard output.
pub(crate) fn print<H: Handler>() -> Result<(), Error> {
    let flag = "--rp_schema";
    let schema = H::SCHEMA.ok_or_else(|| Error::Flag {
        flag,
        problem: format!(
            "the handler `{}` tells no schema: write `#[handler(schema)]` above it",
            H::NAME
        ),
    })?;
    let mut text = serde_json::to_string_pretty(&schema()).expect("texts and JSON values are JSON");
    text.push('\n');
    let printed = io::stdout().lock().write_all(text.as_bytes());
    printed.map_err(|source| Error::System {
        what: "writing the schema to standard output",
        source,
    })
}
