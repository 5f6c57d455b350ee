//! The parameters of a handler.

use quote::ToTokens;
use syn::{FnArg, PatType, Signature, Type, TypeReference};

use super::output::Opaque;
use super::types::{bare, batched, borrows, is_context};
use crate::errors::Errors;

/// One parameter of a handler, with its type.
pub(crate) enum Parameter {
    Input(Type),
    /// The inputs of several jobs.
    Batch(Type),
    State(Type),
    Context(Type),
}

pub(super) fn parameters(sig: &Signature, errors: &mut Errors) -> Vec<Parameter> {
    let (mut input, mut state, mut context) = (false, false, false);
    let mut parameters = Vec::new();
    for parameter in &sig.inputs {
        let FnArg::Typed(typed) = parameter else {
            continue;
        };
        let Some(parameter) = parameter_of(typed, errors) else {
            continue;
        };
        let (seen, message) = match parameter {
            Parameter::Input(_) | Parameter::Batch(_) => (
                &mut input,
                "a handler takes one input, because a job has one: put both into one struct; or, if one of them is the \
                 job's context under another name, write it as `podwork::Context`",
            ),
            Parameter::State(_) => (
                &mut state,
                "a handler takes one state, because a worker has one: put both into one struct, and create it in the \
                 worker's `.setup`",
            ),
            Parameter::Context(_) => (
                &mut context,
                "a handler takes one `Context`, because it runs one job: remove this one, or clone the other",
            ),
        };
        if std::mem::replace(seen, true) {
            errors.add(&typed.ty, message);
        }
        parameters.push(parameter);
    }
    parameters
}

/// Reads one parameter. Returns `None` if a handler cannot take it.
fn parameter_of(typed: &PatType, errors: &mut Errors) -> Option<Parameter> {
    if let Some(cfg) = typed
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("cfg"))
    {
        errors.add(
            cfg,
            "a handler's parameters cannot have a `#[cfg]`: write two functions, each with a `#[cfg]` above it",
        );
    }
    let ty = bare(&typed.ty);
    if Opaque::inside(ty).is_some() {
        errors.add(
            &typed.ty,
            "a handler cannot be generic, because the runtime cannot choose a type when it calls it: write the \
             concrete type instead of `impl Trait`",
        );
        return None;
    }
    let message = match ty {
        Type::Reference(reference) => match state(reference) {
            Ok(state) => return Some(Parameter::State(state)),
            Err(message) => message,
        },
        ty if is_context(ty) => return Some(Parameter::Context(ty.clone())),
        ty if borrows(ty) => {
            "an input must be owned, because the job's JSON is dropped once it is decoded: write types that own their \
             data, such as `String` and `Vec<T>`, and `'static` where a lifetime is required"
                .to_owned()
        }
        ty => {
            let parameter = match batched(ty) {
                Some(_) => Parameter::Batch,
                None => Parameter::Input,
            };
            return Some(parameter(ty.clone()));
        }
    };
    errors.add(&typed.ty, &message);
    None
}

/// Returns the type of the state behind a reference, or the reason why the type cannot be a state.
fn state(reference: &TypeReference) -> Result<Type, String> {
    let target = bare(&reference.elem);
    let shown = target.to_token_stream();
    Err(match target {
        Type::Path(path) if path.path.is_ident("str") => {
            "an input must be owned, because the job's JSON is dropped once it is decoded: write `String`".to_owned()
        }
        Type::Slice(slice) => format!(
            "an input must be owned, because the job's JSON is dropped once it is decoded: write `Vec<{}>`",
            slice.elem.to_token_stream()
        ),
        target if is_context(target) => {
            format!("the context is passed by value, which is cheap to clone: write `{shown}`")
        }
        Type::TraitObject(_) => format!(
            "the state must have one concrete type, which the worker's `.setup` creates: write \
             `&std::sync::Arc<{shown}>`, or a struct around it"
        ),
        _ if reference.mutability.is_some() => format!(
            "the state is shared by all jobs that run at once: take `&{shown}`, and keep mutable data in a \
             `std::sync::Mutex` inside it"
        ),
        target if borrows(target) => {
            "the state outlives every job, so it cannot borrow: write a type that owns its data, or `'static` where \
             a lifetime is required"
                .to_owned()
        }
        target => return Ok(target.clone()),
    })
}
