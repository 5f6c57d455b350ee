//! Running at home: the platform of `podwork-platform` in the worker's own process, and the ordinary worker pulling
//! from it over loopback HTTP. The local path is the production path.

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

/// What a worker does where no platform calls for it.
#[derive(Debug)]
pub(crate) enum Mode {
    /// Runs one job and shows what becomes of it.
    TestInput(TestInput),
    /// Serves the platform's API.
    Serve(Serve),
}

/// Runs the worker on a platform of its own.
pub(crate) async fn run<H: Handler, S: StateSource<H::State>>(
    mode: Mode,
    launch: Launch<S>,
) -> Result<(), Error> {
    match mode {
        Mode::TestInput(test) => test_input::run::<H, S>(test, launch).await,
        Mode::Serve(serve) => serve::run::<H, S>(serve, launch).await,
    }
}

/// A platform that shows what the handler takes and gives, if it tells.
#[cfg_attr(
    not(feature = "schema"),
    expect(clippy::extra_unused_type_parameters, reason = "then none tells")
)]
fn platform<H: Handler>() -> Builder {
    let builder = Platform::builder();
    #[cfg(feature = "schema")]
    if let Some(schema) = H::SCHEMA {
        return builder.schema(schema());
    }
    builder
}
