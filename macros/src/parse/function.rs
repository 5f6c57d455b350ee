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

/// Rejects functions that the runtime could not call.
pub(super) fn check_function(kind: FunctionKind, sig: &Signature, errors: &mut Errors) {
    if let Some(receiver) = sig.receiver() {
        let instead = match kind {
            FunctionKind::Handler => ", and take what `self` holds as the worker's state, `&S`",
            FunctionKind::FitnessCheck => "",
        };
        errors.add(
            receiver,
            &format!(
                "a {kind} is a free function, as there is no object for the runtime to call it on: move it out of the \
                 `impl`{instead}"
            ),
        );
    }
    for parameter in &sig.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            errors.add(
                parameter,
                &format!(
                    "a {kind} cannot be generic, as nobody would say which type is meant when it is called: write \
                     the concrete type"
                ),
            );
        }
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        errors.add(
            unsafety,
            &format!(
                "a {kind} cannot be `unsafe`, as the runtime cannot keep promises for it: make it a safe function \
                 with an `unsafe` block inside"
            ),
        );
    }
    if let Some(abi) = &sig.abi {
        errors.add(
            abi,
            &format!("a {kind} is called from Rust: leave out the `extern`"),
        );
    } else if let Some(variadic) = &sig.variadic {
        errors.add(
            variadic,
            &format!("a {kind} takes no such list: write a type for it, such as `Vec<T>`"),
        );
    }
}
