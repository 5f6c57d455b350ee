//! What a function's signature asks of the runtime.

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Expr, FnArg, GenericArgument, GenericParam, Lifetime, PatType, Path, PathArguments, ReturnType,
    Safety, Signature, Type, TypeImplTrait, TypeParamBound, TypeReference,
};

use crate::errors::Errors;

/// What the attribute's argument says of the return type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Stream,
    Iterator,
}

/// What stands in the attribute's brackets.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) mode: Option<Mode>,
    /// `join`, where it stands.
    pub(crate) join: Option<Path>,
    pub(crate) schema: bool,
    /// `validate`, where it stands.
    pub(crate) validate: Option<Path>,
    pub(crate) max_batch: Option<Setting>,
    pub(crate) max_wait: Option<Setting>,
    pub(crate) max_weight: Option<Setting>,
    pub(crate) weight: Option<Setting>,
}

/// `name = value`.
pub(crate) struct Setting {
    pub(crate) name: Path,
    /// What stands for it in the code that is written.
    pub(crate) value: Expr,
}

/// A signature, understood.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Reading {
    pub(crate) awaited: bool,
    /// Many outputs, and how they come; one if `None`.
    pub(crate) mode: Option<Mode>,
    /// Chunks that wait together may be posted as one.
    pub(crate) join: bool,
    /// It tells what it takes and gives.
    pub(crate) schema: bool,
    /// Its inputs are checked.
    pub(crate) validate: bool,
    /// It takes its jobs together.
    pub(crate) batch: Option<Batching>,
    pub(crate) state: Option<Type>,
    /// In the order of the parameters.
    pub(crate) arguments: Vec<Argument>,
    /// The type of the output, or of one item of a stream, if it can be said again inside another function.
    pub(crate) output: Option<Type>,
    /// Where the return type stands, else the name.
    pub(crate) output_span: Span,
}

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

/// What one parameter asks for.
pub(crate) enum Argument {
    Input(Type),
    /// The inputs of several jobs.
    Batch(Type),
    State(Type),
    Context(Type),
}

pub(crate) fn read(sig: &Signature, options: Options, errors: &mut Errors) -> Reading {
    check_function("handler", sig, errors);
    let arguments = arguments(sig, errors);
    let state = arguments.iter().find_map(|argument| match argument {
        Argument::State(state) => Some(state.clone()),
        _ => None,
    });
    let unit = Type::Tuple(syn::parse_quote!(()));
    let (returned, output_span) = match &sig.output {
        ReturnType::Type(_, returned) => (&**returned, returned.span()),
        ReturnType::Default => (&unit, sig.ident.span()),
    };
    let opaque = Opaque::of(returned);
    check_opaque(returned, opaque, errors);
    let mode = resolve_mode(sig, returned, options.mode, opaque, errors);
    if let (Some(join), None) = (&options.join, mode) {
        errors.add(
            join,
            "`join` is for handlers that yield chunks, and this one has one output: leave it out",
        );
    }
    let takes_input =
        |argument: &Argument| matches!(argument, Argument::Input(_) | Argument::Batch(_));
    if let (Some(validate), false) = (&options.validate, arguments.iter().any(takes_input)) {
        errors.add(
            validate,
            "`validate` checks the input, and this handler takes none: leave it out",
        );
    }
    let batch = batch(&arguments, returned, mode, &options, errors);
    Reading {
        awaited: sig.asyncness.is_some(),
        mode,
        join: options.join.is_some(),
        schema: options.schema,
        validate: options.validate.is_some(),
        batch,
        state,
        arguments,
        output: mode
            .map_or_else(|| Some(returned.clone()), |_| item(returned))
            .filter(can_be_repeated),
        output_span,
    }
}

/// How the jobs are handed over together, if they are.
fn batch(
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

/// Finds what the runtime could not call; `what` it is: a handler, or another function of the user's.
pub(crate) fn check_function(what: &str, sig: &Signature, errors: &mut Errors) {
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

fn arguments(sig: &Signature, errors: &mut Errors) -> Vec<Argument> {
    let (mut input, mut state, mut context) = (false, false, false);
    let mut arguments = Vec::new();
    for parameter in &sig.inputs {
        let FnArg::Typed(parameter) = parameter else {
            continue;
        };
        let Some(argument) = argument(parameter, errors) else {
            continue;
        };
        let (seen, message) = match argument {
            Argument::Input(_) | Argument::Batch(_) => (
                &mut input,
                "a handler takes one input, as a job has one: put both into one struct; or, if one of them is the \
                 job's context under another name, write it `podwork::Context`",
            ),
            Argument::State(_) => (
                &mut state,
                "a handler takes one state, as a worker has one: put both into one struct, and let the worker's \
                 `.setup` make that",
            ),
            Argument::Context(_) => (
                &mut context,
                "a handler takes one `Context`, as it runs one job: leave this one out, or clone the other",
            ),
        };
        if std::mem::replace(seen, true) {
            errors.add(&parameter.ty, message);
        }
        arguments.push(argument);
    }
    arguments
}

fn argument(parameter: &PatType, errors: &mut Errors) -> Option<Argument> {
    if let Some(cfg) = parameter
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("cfg"))
    {
        errors.add(
            cfg,
            "a handler's parameters cannot come and go: write two functions, with the `#[cfg]` above each",
        );
    }
    let ty = bare(&parameter.ty);
    if Opaque::inside(ty).is_some() {
        errors.add(
            &parameter.ty,
            "a handler cannot be generic, as nobody would say which type is meant when a job comes: write the \
             concrete type instead of `impl Trait`",
        );
        return None;
    }
    let message = match ty {
        Type::Reference(reference) => match state(reference) {
            Ok(state) => return Some(Argument::State(state)),
            Err(message) => message,
        },
        ty if is_context(ty) => return Some(Argument::Context(ty.clone())),
        ty if borrows(ty) => {
            "an input is owned, as the job's JSON is gone once it is decoded: write types that own what they hold, \
             such as `String` and `Vec<T>`, and `'static` where a lifetime has to stand"
                .to_owned()
        }
        ty => {
            let argument = match batched(ty) {
                Some(_) => Argument::Batch,
                None => Argument::Input,
            };
            return Some(argument(ty.clone()));
        }
    };
    errors.add(&parameter.ty, &message);
    None
}

/// The type of the state behind a reference, or why it cannot be one.
fn state(reference: &TypeReference) -> Result<Type, String> {
    let target = bare(&reference.elem);
    let shown = target.to_token_stream();
    Err(match target {
        Type::Path(path) if path.path.is_ident("str") => {
            "an input is owned, as the job's JSON is gone once it is decoded: write `String`".to_owned()
        }
        Type::Slice(slice) => format!(
            "an input is owned, as the job's JSON is gone once it is decoded: write `Vec<{}>`",
            slice.elem.to_token_stream()
        ),
        target if is_context(target) => {
            format!("the context is passed by value, and is cheap to clone: write `{shown}`")
        }
        Type::TraitObject(_) => format!(
            "the state is of one concrete type, which the worker's `.setup` makes: write `&std::sync::Arc<{shown}>`, \
             or a struct around it"
        ),
        _ if reference.mutability.is_some() => format!(
            "the state is shared by all jobs that run at once: take `&{shown}`, and keep what changes in a \
             `std::sync::Mutex` inside it"
        ),
        target if borrows(target) => {
            "the state outlives every job, so it cannot borrow: write a type that owns what it holds, or `'static` \
             where a lifetime has to stand"
                .to_owned()
        }
        target => return Ok(target.clone()),
    })
}

/// The kind of the return, from what the attribute says and what the type shows.
fn resolve_mode(
    sig: &Signature,
    returned: &Type,
    said: Option<Mode>,
    shown: Option<Opaque>,
    errors: &mut Errors,
) -> Option<Mode> {
    let shown = match shown {
        Some(Opaque::Stream) => Some(Mode::Stream),
        Some(Opaque::Iterator) => Some(Mode::Iterator),
        Some(Opaque::Future | Opaque::Other) | None => None,
    };
    if said.is_some() && shown.is_some() && said != shown {
        errors.add(
            returned,
            "`#[handler(..)]` says another kind than this type shows: leave out its argument",
        );
    }
    let mode = shown.or(said);
    if mode == Some(Mode::Iterator) && sig.asyncness.is_some() {
        errors.add(
            sig.asyncness,
            "a handler that returns an iterator runs on a thread for blocking work, where nothing can be awaited: \
             leave out `async`; or return `impl Stream`, and make it with `podwork::stream!`",
        );
    }
    mode
}

fn check_opaque(returned: &Type, shown: Option<Opaque>, errors: &mut Errors) {
    if shown == Some(Opaque::Future) {
        errors.add(
            returned,
            "what a plain `fn` returns is not awaited: write `async fn`, and what the future gives as its return type",
        );
    }
    if shown.is_none() && Opaque::inside(returned).is_some_and(|inside| inside != Opaque::Other) {
        errors.add(
            returned,
            "a handler's stream or iterator is its whole return type, as errors come as items: write \
             `-> impl Stream<Item = podwork::Result<T>>` with `podwork::try_stream!`, or `-> impl Iterator<Item = \
             podwork::Result<T>>`",
        );
    }
}

/// What stands behind an `impl`, as far as it matters to a handler.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opaque {
    Stream,
    Iterator,
    Future,
    Other,
}

impl Opaque {
    /// Of a type that is as a whole an `impl Trait`.
    fn of(ty: &Type) -> Option<Self> {
        match bare(ty) {
            Type::ImplTrait(opaque) => Some(Self::of_bounds(opaque)),
            _ => None,
        }
    }

    /// The first one anywhere in the type that matters, else the first one.
    fn inside(ty: &Type) -> Option<Self> {
        struct Found(Option<Opaque>);

        impl<'ast> Visit<'ast> for Found {
            fn visit_type_impl_trait(&mut self, opaque: &'ast TypeImplTrait) {
                if matches!(self.0, None | Some(Opaque::Other)) {
                    self.0 = Some(Opaque::of_bounds(opaque));
                }
                visit::visit_type_impl_trait(self, opaque);
            }
        }

        let mut found = Found(None);
        found.visit_type(ty);
        found.0
    }

    fn of_bounds(opaque: &TypeImplTrait) -> Self {
        let known = opaque.bounds.iter().find_map(|bound| {
            let TypeParamBound::Trait(bound) = bound else {
                return None;
            };
            match &*bound.path.segments.last()?.ident.to_string() {
                "Stream" | "FusedStream" | "TryStream" => Some(Self::Stream),
                "Iterator" | "DoubleEndedIterator" | "ExactSizeIterator" | "FusedIterator" => {
                    Some(Self::Iterator)
                }
                "Future" => Some(Self::Future),
                _ => None,
            }
        });
        known.unwrap_or(Self::Other)
    }
}

/// `T` of `impl Stream<Item = T>`.
fn item(returned: &Type) -> Option<Type> {
    let Type::ImplTrait(opaque) = bare(returned) else {
        return None;
    };
    opaque.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else {
            return None;
        };
        let PathArguments::AngleBracketed(arguments) = &bound.path.segments.last()?.arguments
        else {
            return None;
        };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(assoc) if assoc.ident == "Item" => Some(assoc.ty.clone()),
            _ => None,
        })
    })
}

/// Whether a type from the signature means the same inside another function.
fn can_be_repeated(ty: &Type) -> bool {
    let mut lifetimes = Lifetimes::default();
    lifetimes.visit_type(ty);
    !lifetimes.named && Opaque::inside(ty).is_none() && !matches!(ty, Type::Never(_))
}

fn borrows(ty: &Type) -> bool {
    let mut lifetimes = Lifetimes::default();
    lifetimes.visit_type(ty);
    lifetimes.named || lifetimes.elided
}

/// The lifetimes of a type, but for `'static`.
#[derive(Default)]
struct Lifetimes {
    named: bool,
    elided: bool,
}

impl<'ast> Visit<'ast> for Lifetimes {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident == "_" {
            self.elided = true;
        } else if lifetime.ident != "static" {
            self.named = true;
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.elided |= reference.lifetime.is_none();
        visit::visit_type_reference(self, reference);
    }
}

fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Path(ty) if ty.path.segments.last().is_some_and(|last| last.ident == "Context"))
}

/// `T` of `Batch<T>`.
fn batched(ty: &Type) -> Option<&Type> {
    let Type::Path(ty) = ty else {
        return None;
    };
    let last = ty
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Batch")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    let mut arguments = arguments.args.iter();
    match (arguments.next(), arguments.next()) {
        (Some(GenericArgument::Type(item)), None) => Some(item),
        _ => None,
    }
}

/// The type inside parentheses, and inside the groups that `macro_rules!` makes.
fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Paren(inner) => bare(&inner.elem),
        Type::Group(inner) => bare(&inner.elem),
        ty => ty,
    }
}
