//! The parameters of a handler.

use quote::ToTokens;
use syn::{FnArg, PatType, Signature, Type, TypeReference};

use super::output::has_opaque;
use super::types::{argument_of, bare, batched, borrows, is_context, last_segment, lists_contexts};
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
    let typed = sig.inputs.iter().filter_map(|parameter| match parameter {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let takes_batch = typed.clone().any(|typed| batched(&typed.ty).is_some());
    let (mut input, mut state, mut context) = (None, false, false);
    let mut parameters = Vec::new();
    for typed in typed {
        if takes_batch && has_contexts(&typed.ty) {
            errors.add(&typed.ty, CONTEXTS_OF_A_BATCH);
            continue;
        }
        let Some(parameter) = parameter_of(typed, errors) else {
            continue;
        };
        match &parameter {
            Parameter::Input(ty) | Parameter::Batch(ty) => match &input {
                Some(first) => reject_second_input(first, ty, errors),
                None => input = Some(ty.clone()),
            },
            Parameter::State(_) if std::mem::replace(&mut state, true) => errors.add(
                &typed.ty,
                "a handler takes one state, because a worker has one: put both into one struct, and create it in the \
                 worker's `.setup`",
            ),
            Parameter::Context(_) if std::mem::replace(&mut context, true) => errors.add(
                &typed.ty,
                "a handler takes one `Context`, because it runs one job: remove this one, or clone the other",
            ),
            Parameter::State(_) | Parameter::Context(_) => {}
        }
        parameters.push(parameter);
    }
    parameters
}

const CONTEXTS_OF_A_BATCH: &str = "the contexts of the jobs are part of the `Batch`: remove this parameter, and use \
                                   `contexts()` of the batch, or `into_parts()` to own them";

/// Adds the error for a second input, at the parameter that is likely the wrong one. It names the way to pass what the
/// user may have meant instead.
fn reject_second_input(first: &Type, second: &Type, errors: &mut Errors) {
    const ONE_INPUT: &str = "a handler takes one input, because a job has one";
    const OTHERWISE: &str = "if one is the job's context under another name, write `podwork::Context`; otherwise put \
                             both into one struct";
    let both = [second, first];
    if let Some(context) = both.into_iter().find(|ty| is_context_in_a_wrapper(ty)) {
        let cure = "every job has a context, which is passed by value: write `Context` without a type around it";
        errors.add(context, &format!("{ONE_INPUT}, and {cure}"));
        return;
    }
    let mut states = both
        .into_iter()
        .filter(|ty| batched(ty).is_none() && !is_data(ty));
    let (Some(likely), other) = (states.next(), states.next()) else {
        errors.add(second, &format!("{ONE_INPUT}: put both into one struct"));
        return;
    };
    let state = shown_state(likely);
    let other = other.map_or_else(String::new, |other| {
        format!(" if the other one is, write `&{}`;", shown_state(other))
    });
    errors.add(
        likely,
        &format!(
            "{ONE_INPUT}: if this is the worker's state, write `&{state}`;{other} {OTHERWISE}"
        ),
    );
}

/// Returns the state that the user may have meant by this type, without the wrappers that other frameworks require.
fn shown_state(ty: &Type) -> String {
    let inner = argument_of(ty, &["Arc", "Rc", "State", "Data", "Extension"]);
    inner.map_or_else(|| written(ty), shown_state)
}

/// Returns whether the type is one of the standard types of plain data, which is no state.
fn is_data(ty: &Type) -> bool {
    const DATA: &str = "bool char f32 f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize String Value PathBuf Vec \
                        Option HashMap BTreeMap HashSet BTreeSet RemoteFile";
    match bare(ty) {
        Type::Array(_) | Type::Tuple(_) => true,
        ty => last_segment(ty).is_some_and(|last| DATA.split(' ').any(|data| last.ident == data)),
    }
}

/// Returns whether the type is a list of contexts, or a context behind a reference or in a wrapper.
fn has_contexts(ty: &Type) -> bool {
    let target = match bare(ty) {
        Type::Reference(reference) => bare(&reference.elem),
        ty => ty,
    };
    let borrowed = matches!(bare(ty), Type::Reference(_)) && is_context(target);
    borrowed || lists_contexts(target) || is_context_in_a_wrapper(target)
}

/// Returns whether the type is a context inside an `Option`, an `Arc` or the like.
fn is_context_in_a_wrapper(ty: &Type) -> bool {
    argument_of(
        ty,
        &["Option", "Arc", "Rc", "Box", "Mutex", "RwLock", "Vec"],
    )
    .is_some_and(is_context)
}

/// Returns the type as the user wrote it, without the spaces between its tokens.
fn written(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (spaced, plain) in [
        (" :: ", "::"),
        (" < ", "<"),
        (" >", ">"),
        (" ,", ","),
        ("& ", "&"),
    ] {
        text = text.replace(spaced, plain);
    }
    text
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
    if has_opaque(ty) {
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
    let shown = written(target);
    Err(match target {
        Type::Path(path) if path.path.is_ident("str") => {
            "an input must be owned, because the job's JSON is dropped once it is decoded: write `String`".to_owned()
        }
        Type::Slice(list) if is_context(&list.elem) => {
            "a handler runs one job, which has one context: write `Context`; to run several jobs at once, take a \
             `podwork::Batch<T>`, whose `contexts()` returns those of its jobs"
                .to_owned()
        }
        Type::Slice(slice) => format!(
            "an input must be owned, because the job's JSON is dropped once it is decoded: write `Vec<{item}>`, or \
             `podwork::Batch<{item}>` for the inputs of several jobs",
            item = written(&slice.elem)
        ),
        target if batched(target).is_some() => {
            format!("a batch is passed by value, and derefs to the slice of its inputs: write `{shown}`")
        }
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
