//! The rules for every function that the runtime calls.

use syn::{GenericParam, Safety, Signature};

use crate::errors::Errors;

/// Finds what the runtime could not call; `what` it is: a handler, or another function of the user's.
pub(super) fn check_function(what: &str, sig: &Signature, errors: &mut Errors) {
    if let Some(receiver) = sig.receiver() {
        let instead = match what {
            "handler" => ", and take what `self` holds as the worker's state, `&S`",
            _ => "",
        };
        errors.add(
            receiver,
            &format!(
                "a {what} is a free function, as there is no object for the runtime to call it on: move it out of the \
                 `impl`{instead}"
            ),
        );
    }
    for parameter in &sig.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            errors.add(
                parameter,
                &format!(
                    "a {what} cannot be generic, as nobody would say which type is meant when it is called: write \
                     the concrete type"
                ),
            );
        }
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        errors.add(
            unsafety,
            &format!(
                "a {what} cannot be `unsafe`, as the runtime cannot keep promises for it: make it a safe function \
                 with an `unsafe` block inside"
            ),
        );
    }
    if let Some(abi) = &sig.abi {
        errors.add(
            abi,
            &format!("a {what} is called from Rust: leave out the `extern`"),
        );
    } else if let Some(variadic) = &sig.variadic {
        errors.add(
            variadic,
            &format!("a {what} takes no such list: write a type for it, such as `Vec<T>`"),
        );
    }
}
