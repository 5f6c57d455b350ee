//! Running at home: the platform of `podwork-platform` in the worker's own process, and the ordinary worker pulling
//! from it over loopback HTTP. The local path is the production path.

mod loopback;
mod realtime;
mod serve;
mod test_input;

use podwork_platform::{Builder, Platform};
use tokio::runtime::Handle;

use crate::args::Args;
use crate::config::Realtime;
use crate::error::Error;
use crate::handler::Handler;
use crate::worker::{Settings, Shutdown, StateSource};

/// Does what the command line or the environment asks for: serves the API or realtime calls, or runs the test input.
pub(crate) async fn run<H: Handler>(
    settings: Settings,
    source: impl StateSource<H::State>,
    args: Args,
    realtime: Option<Realtime>,
    handlers: Handle,
    shutdown: Shutdown,
) -> Result<(), Error> {
    if args.serve_api {
        serve::run::<H>(settings, source, args, handlers, shutdown).await
    } else if let Some(realtime) = realtime {
        realtime::run::<H>(settings, source, &realtime, handlers, shutdown).await
    } else {
        test_input::run::<H>(settings, source, args, handlers, shutdown).await
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
