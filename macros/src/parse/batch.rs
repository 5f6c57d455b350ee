//! How jobs are handed over together.

use syn::{Expr, Type};

use super::options::{Options, Setting};
use super::output::Mode;
use super::parameters::Argument;
use super::types::batched;
use crate::errors::Errors;

/// How jobs are handed over together.
pub(crate) struct Batching {
    /// The input of one job.
    pub(crate) item: Type,
    pub(crate) max_batch: Option<Expr>,
    pub(crate) max_wait: Option<Expr>,
    pub(crate) weighing: Option<Weighing>,
}

/// What the jobs of one call may weigh.
pub(crate) struct Weighing {
    /// A function of an input.
    pub(crate) weight: Expr,
    pub(crate) max: Expr,
}

/// How the jobs are handed over together, if they are.
pub(super) fn batch(
    arguments: &[Argument],
    returned: &Type,
    mode: Option<Mode>,
    options: &Options,
    errors: &mut Errors,
) -> Option<Batching> {
    let item = arguments.iter().find_map(|argument| match argument {
        Argument::Batch(inputs) => batched(inputs).cloned(),
        _ => None,
    });
    let Some(item) = item else {
        let Options {
            max_batch,
            max_wait,
            max_weight,
            weight,
            ..
        } = options;
        for setting in [max_batch, max_wait, max_weight, weight]
            .into_iter()
            .flatten()
        {
            errors.add(
                &setting.name,
                "this is for handlers that take several jobs at once, and this one takes one: have it take a \
                 `podwork::Batch<T>` and return a `Vec`, or leave this out",
            );
        }
        return None;
    };
    if mode.is_some() {
        errors.add(
            returned,
            "a handler that takes a `Batch` has one result for each job and yields no chunks: return a `Vec`, and tell \
             how far a job is with `progress` of its context; or take the jobs one by one",
        );
    }
    let context = arguments.iter().find_map(|argument| match argument {
        Argument::Context(context) => Some(context),
        _ => None,
    });
    if let Some(context) = context {
        errors.add(
            context,
            "a handler that takes a `Batch` runs several jobs, and each has a context of its own: leave this out, and \
             find them in the batch's `contexts()`",
        );
    }
    let value = |setting: &Option<Setting>| setting.as_ref().map(|setting| setting.value.clone());
    let weighing = match (&options.weight, &options.max_weight) {
        (Some(weight), Some(max)) => Some(Weighing {
            weight: weight.value.clone(),
            max: max.value.clone(),
        }),
        (None, None) => None,
        (Some(lone), None) | (None, Some(lone)) => {
            errors.add(
                &lone.name,
                "`weight` and `max_weight` go together: a function that tells what an input weighs, and the most that a \
                 batch may weigh, such as `weight = Prompt::tokens, max_weight = 4096`",
            );
            None
        }
    };
    Some(Batching {
        item,
        max_batch: value(&options.max_batch),
        max_wait: value(&options.max_wait),
        weighing,
    })
}
