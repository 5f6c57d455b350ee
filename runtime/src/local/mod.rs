//! The local platform: `podwork-platform` in the worker's own process. The ordinary worker polls it by HTTP over
//! loopback, so a local run takes the same path as production.

mod loopback;
mod serve;
mod test_input;

pub(crate) use serve::Serve;
pub(crate) use test_input::TestInput;

use futures::FutureExt as _;
use podwork_platform::{Builder, Platform};

use crate::error::Error;
use crate::run::bound::UnboundHandler;
use crate::worker::Launch;

/// The mode of a local run.
#[derive(Debug)]
pub(crate) enum Mode {
    /// Runs one job and prints its events and its result.
    TestInput(TestInput),
    /// Serves the API of the platform.
    Serve(Serve),
}

/// Runs the worker on its own local platform.
pub(crate) async fn run(mode: Mode, launch: Launch) -> Result<(), Error> {
    match mode {
        Mode::TestInput(test) => test_input::run(test, launch).boxed().await,
        Mode::Serve(serve) => serve::run(serve, launch).boxed().await,
    }
}

/// Returns the builder of a platform that shows the handler's schema, if it has one.
#[cfg_attr(
    not(feature = "schema"),
    expect(unused_variables, reason = "no handler has a schema then")
)]
fn platform(handler: &UnboundHandler) -> Builder {
    let builder = Platform::builder();
    #[cfg(feature = "schema")]
    if let Some(schema) = handler.schema {
        return builder.schema(schema());
    }
    builder
}
