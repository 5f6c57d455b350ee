//! Fitness checks: requirements on the machine, checked before the worker polls for its first job.

mod cgroup;
mod gpu;
mod system;

use std::borrow::Cow;

use futures::future::BoxFuture;
use podwork_protocol::env;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use crate::config::Fitness;
use crate::error::HandlerError;
use crate::platform_client::Failing;

use crate::handler::seal::Seal;
use crate::handler::state::{Given, Setup, StateSource as _};

type CheckResult = Result<(), HandlerError>;
type RunCheck = Box<dyn FnOnce() -> BoxFuture<'static, CheckResult> + Send>;

/// A named check that runs once.
pub(crate) struct FitnessCheck {
    name: Cow<'static, str>,
    run: RunCheck,
}

/// A fitness check: a sync or async `fn()` or `fn() -> Result<(), E>`. `M` only distinguishes these kinds and is always
/// inferred.
#[diagnostic::on_unimplemented(
    message = "this cannot be a fitness check",
    note = "a fitness check takes no parameters and returns `()` or `Result<(), E>`, async or not"
)]
pub trait MachineCheck<M>: Setup<(), M> {}

#[diagnostic::do_not_recommend]
impl<M, F: Setup<(), M>> MachineCheck<M> for F {}

impl FitnessCheck {
    pub(crate) fn new<M>(name: impl Into<Cow<'static, str>>, check: impl MachineCheck<M>) -> Self {
        let check = Given::setup(check);
        Self {
            name: name.into(),
            run: Box::new(move || check.make(Seal)),
        }
    }
}

impl std::fmt::Debug for FitnessCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FitnessCheck").field(&self.name).finish()
    }
}

/// A function with the attribute `#[fitness_check]`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registered {
    name: &'static str,
    /// The file and the line of the function. Checks run in this order.
    place: (&'static str, u32),
    run: fn() -> BoxFuture<'static, CheckResult>,
}

impl Registered {
    /// Registers the function `run` under its name and its place in the source.
    pub const fn new(
        name: &'static str,
        place: (&'static str, u32),
        run: fn() -> BoxFuture<'static, CheckResult>,
    ) -> Self {
        Self { name, place, run }
    }
}

inventory::collect!(Registered);

fn registered() -> Vec<FitnessCheck> {
    let mut all: Vec<&Registered> = inventory::iter::<Registered>.into_iter().collect();
    all.sort_by_key(|check| check.place);
    all.into_iter()
        .map(|check| FitnessCheck {
            name: check.name.into(),
            run: Box::new(check.run),
        })
        .collect()
}

fn built_in(limits: Fitness) -> Vec<FitnessCheck> {
    let mut checks = Vec::new();
    if limits.skip_system {
        debug!(
            "Skipping the memory and disk checks: {} is set.",
            env::SKIP_AUTO_SYSTEM_CHECKS
        );
    } else {
        let memory = move || system::memory(limits.min_memory_gb);
        checks.push(FitnessCheck::new("memory", memory));
        let disk = move || system::disk(limits.min_disk_percent);
        checks.push(FitnessCheck::new("disk", disk));
    }
    if !limits.skip_gpu {
        checks.push(FitnessCheck::new("gpu", move || gpu::check(limits.gpus)));
    }
    checks
}

/// Runs all checks in order: the built-in ones, the functions with the attribute `#[fitness_check]`, and those of the
/// builder. Stops at the first failure.
pub(crate) async fn pass(
    limits: Fitness,
    own: Vec<FitnessCheck>,
    handlers: &Handle,
) -> Result<(), (Failing, HandlerError)> {
    for FitnessCheck { name, run } in built_in(limits).into_iter().chain(registered()).chain(own) {
        let ended = AbortOnDropHandle::new(handlers.spawn(async move { run().await })).await;
        match ended.unwrap_or_else(|error| Err(error.into())) {
            Ok(()) => info!(check = %name, "Fitness check passed."),
            Err(failure) => {
                let failing = Failing {
                    check: name.into_owned(),
                    reason: failure.message().to_owned(),
                };
                return Err((failing, failure));
            }
        }
    }
    Ok(())
}
