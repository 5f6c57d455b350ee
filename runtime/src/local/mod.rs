//! The local platform: `podwork-platform` in the worker's own process. The ordinary worker polls it by HTTP over
//! loopback, so a local run takes the same path as production.

mod loopback;
mod serve;
mod test_input;

pub(crate) use serve::Serve;
pub(crate) use test_input::TestInput;

use podwork_platform::{Builder, Platform};

use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::StateSource;
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
pub(crate) async fn run<H: Handler, S: StateSource<H::State>>(
    mode: Mode,
    launch: Launch<S>,
) -> Result<(), Error> {
    match mode {
        Mode::TestInput(test) => test_input::run::<H, S>(test, launch).await,
        Mode::Serve(serve) => serve::run::<H, S>(serve, launch).await,
    }
}

/// Returns the builder of a platform that shows the handler's schema, if it has one.
#[cfg_attr(
    not(feature = "schema"),
    expect(
        clippy::extra_unused_type_parameters,
        reason = "no handler has a schema then"
    )
)]
fn platform<H: Handler>() -> Builder {
    let builder = Platform::builder();
    #[cfg(feature = "schema")]
    if let Some(schema) = H::SCHEMA {
        return builder.schema(schema());
    }
    builder
}
