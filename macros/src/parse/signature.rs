//! A handler's signature.

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::{ReturnType, Signature, Type};

use super::batch::{self, Batching};
use super::function::check_function;
use super::options::Options;
use super::output::{self, Mode, Opaque};
use super::parameters::{self, Argument};
use crate::errors::Errors;

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

pub(super) fn read(sig: &Signature, options: Options, errors: &mut Errors) -> Reading {
    check_function("handler", sig, errors);
    let arguments = parameters::arguments(sig, errors);
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
    output::check_opaque(returned, opaque, errors);
    let mode = output::resolve_mode(sig, returned, options.mode, opaque, errors);
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
    let batch = batch::batch(&arguments, returned, mode, &options, errors);
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
            .map_or_else(|| Some(returned.clone()), |_| output::item(returned))
            .filter(output::can_be_repeated),
        output_span,
    }
}
