//! Parsing of `#[fitness_check]` functions.

use proc_macro2::TokenStream;
use syn::{Attribute, Error, Ident, ItemFn, parse2};

use super::function::{FunctionKind, check_function};
use crate::errors::Errors;

/// A function under `#[fitness_check]`.
pub(crate) struct ParsedFitnessCheck {
    /// The function's `#[cfg]`s, which apply to its registration as well.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) name: Ident,
}

pub(crate) fn fitness_check(
    arguments: &TokenStream,
    item: &TokenStream,
) -> syn::Result<ParsedFitnessCheck> {
    let function = parse2::<ItemFn>(item.clone()).map_err(|error| {
        Error::new(
            error.span(),
            "`#[fitness_check]` applies only to functions, which the runtime calls before the first job: write it \
             above a free `fn` or `async fn`",
        )
    })?;
    let mut errors = Errors::default();
    check_function(FunctionKind::FitnessCheck, &function.sig, &mut errors);
    if let Some(parameter) = function
        .sig
        .inputs
        .first()
        .filter(|_| function.sig.receiver().is_none())
    {
        errors.add(
            parameter,
            "a fitness check takes no parameters, because it runs before there is a job or a state: remove this \
             parameter, or check the state where it is created, in the worker's `.setup`",
        );
    }
    if !arguments.is_empty() {
        errors.add(
            arguments,
            "`#[fitness_check]` takes no arguments: the check is named after the function",
        );
    }
    match errors.into_error() {
        Some(error) => Err(error),
        None => Ok(ParsedFitnessCheck {
            cfgs: function
                .attrs
                .into_iter()
                .filter(|attribute| attribute.path().is_ident("cfg"))
                .collect(),
            name: function.sig.ident,
        }),
    }
}
