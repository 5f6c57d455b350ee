//! The rules for every function that the runtime calls.

use std::fmt;

use syn::{GenericParam, Safety, Signature};

use crate::errors::Errors;

/// The kinds of functions that the runtime calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FunctionKind {
    Handler,
    FitnessCheck,
}

impl fmt::Display for FunctionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handler => "handler",
            Self::FitnessCheck => "fitness check",
        })
    }
}

/// Rejects functions that the runtime cannot call.
pub(super) fn check_function(kind: FunctionKind, sig: &Signature, errors: &mut Errors) {
    if let Some(receiver) = sig.receiver() {
        let instead = match kind {
            FunctionKind::Handler => ", and take the data of `self` as the worker's state, `&S`",
            FunctionKind::FitnessCheck => "",
        };
        errors.add(
            receiver,
            &format!(
                "a {kind} must be a free function, because the runtime has no object to call it on: move it out of the \
                 `impl`{instead}"
            ),
        );
    }
    for parameter in &sig.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            errors.add(
                parameter,
                &format!(
                    "a {kind} cannot be generic, because the runtime cannot choose a type when it calls it: write the \
                     concrete type"
                ),
            );
        }
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        errors.add(
            unsafety,
            &format!(
                "a {kind} cannot be `unsafe`, because the runtime cannot uphold its safety contract: make it a safe \
                 function with an `unsafe` block inside"
            ),
        );
    }
    if let Some(abi) = &sig.abi {
        errors.add(
            abi,
            &format!("a {kind} is called from Rust: remove the `extern`"),
        );
    } else if let Some(variadic) = &sig.variadic {
        errors.add(
            variadic,
            &format!("a {kind} cannot be variadic: take a single type, such as `Vec<T>`"),
        );
    }
}
