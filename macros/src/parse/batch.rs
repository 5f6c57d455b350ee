//! The settings of a handler that takes several jobs at once.

use syn::{Expr, Type};

use super::options::{HandlerOptions, Setting};
use super::output::ChunkSource;
use super::parameters::Parameter;
use super::types::batched;
use crate::errors::Errors;

/// The settings of a handler that takes a `Batch`.
pub(crate) struct BatchSettings {
    /// The type of one job's input.
    pub(crate) item: Type,
    pub(crate) max_batch: Option<Expr>,
    pub(crate) max_wait: Option<Expr>,
    pub(crate) weight_limit: Option<WeightLimit>,
}

/// The limit on the weight of the jobs in one batch.
pub(crate) struct WeightLimit {
    /// A function from an input to its weight.
    pub(crate) weight: Expr,
    pub(crate) max: Expr,
}

/// Reads the settings. Returns `None` for a handler that takes one job at a time.
pub(super) fn settings(
    parameters: &[Parameter],
    returned: &Type,
    chunks: Option<ChunkSource>,
    options: &HandlerOptions,
    errors: &mut Errors,
) -> Option<BatchSettings> {
    let item = parameters.iter().find_map(|parameter| match parameter {
        Parameter::Batch(inputs) => batched(inputs).cloned(),
        _ => None,
    });
    let Some(item) = item else {
        reject_settings(options, errors);
        return None;
    };
    if chunks.is_some() {
        errors.add(
            returned,
            "a handler that takes a `Batch` returns one result per job and cannot stream chunks: return a `Vec`, and \
             report how far a job is with `progress` of its context; or take one job at a time",
        );
    }
    let context = parameters.iter().find_map(|parameter| match parameter {
        Parameter::Context(context) => Some(context),
        _ => None,
    });
    if let Some(context) = context {
        errors.add(
            context,
            "a handler that takes a `Batch` runs several jobs, each with its own context: remove this parameter, and \
             use `contexts()` of the batch",
        );
    }
    let value = |setting: &Option<Setting>| setting.as_ref().map(|setting| setting.value.clone());
    Some(BatchSettings {
        item,
        max_batch: value(&options.max_batch),
        max_wait: value(&options.max_wait),
        weight_limit: weight_limit(options, errors),
    })
}

/// Rejects batch settings on a handler that takes one job at a time.
fn reject_settings(options: &HandlerOptions, errors: &mut Errors) {
    let HandlerOptions {
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
            "this option is only for handlers that take several jobs at once, and this handler takes one: take a \
             `podwork::Batch<T>` and return a `Vec`, or remove the option",
        );
    }
}

fn weight_limit(options: &HandlerOptions, errors: &mut Errors) -> Option<WeightLimit> {
    match (&options.weight, &options.max_weight) {
        (Some(weight), Some(max)) => Some(WeightLimit {
            weight: weight.value.clone(),
            max: max.value.clone(),
        }),
        (None, None) => None,
        (Some(lone), None) | (None, Some(lone)) => {
            errors.add(
                &lone.name,
                "`weight` and `max_weight` must be set together: a function that returns the weight of an input, and \
                 the maximum weight of a batch, such as `weight = Prompt::tokens, max_weight = 4096`",
            );
            None
        }
    }
}
