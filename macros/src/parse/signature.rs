//! The signature of a handler: its parameters, its return type, and how it is called.

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::{ReturnType, Signature, Type};

use super::batch::{self, BatchSettings};
use super::function::{FunctionKind, check_function};
use super::options::HandlerOptions;
use super::output::{self, ChunkSource, Shape};
use super::parameters::{self, Parameter};
use crate::errors::Errors;

/// The signature of a handler, with the attribute's options applied.
#[allow(clippy::struct_excessive_bools, reason = "the flags are independent")]
pub(crate) struct HandlerSignature {
    /// `true` for an `async fn`.
    pub(crate) awaited: bool,
    /// The source of the chunks; `None` for a handler with one output.
    pub(crate) chunks: Option<ChunkSource>,
    /// `true` to post chunks that wait together as one.
    pub(crate) join: bool,
    /// `true` to describe the input and the output as JSON Schema.
    pub(crate) schema: bool,
    /// `true` to check inputs by the rules of their type.
    pub(crate) validate: bool,
    /// The settings of a handler that takes several jobs at once.
    pub(crate) batch: Option<BatchSettings>,
    /// The type behind `&S`, if the handler takes a state.
    pub(crate) state: Option<Type>,
    /// The parameters, in the order of the function.
    pub(crate) parameters: Vec<Parameter>,
    /// The type of the output, or of one item of a stream. `None` if it cannot be repeated inside another function.
    pub(crate) output: Option<Type>,
    /// The span of the return type, or of the name if no return type is written.
    pub(crate) output_span: Span,
}

impl HandlerSignature {
    pub(super) fn read(sig: &Signature, options: HandlerOptions, errors: &mut Errors) -> Self {
        check_function(FunctionKind::Handler, sig, errors);
        let parameters = parameters::parameters(sig, errors);
        let state = parameters.iter().find_map(|parameter| match parameter {
            Parameter::State(state) => Some(state.clone()),
            _ => None,
        });
        let unit = Type::Tuple(syn::parse_quote!(()));
        let (returned, output_span) = match &sig.output {
            ReturnType::Type(_, returned) => (&**returned, returned.span()),
            ReturnType::Default => (&unit, sig.ident.span()),
        };
        let shape = Shape::of(returned);
        output::check_shape(returned, shape, options.chunks, errors);
        let chunks = output::chunk_source(sig, returned, options.chunks, shape, errors);
        check_options(&options, chunks, &parameters, errors);
        Self {
            awaited: sig.asyncness.is_some(),
            chunks,
            join: options.join.is_some(),
            schema: options.schema,
            validate: options.validate.is_some(),
            batch: batch::settings(&parameters, returned, chunks, &options, errors),
            state,
            parameters,
            output: chunks
                .map_or_else(|| Some(returned.clone()), |_| output::item(returned))
                .filter(output::can_be_repeated),
            output_span,
        }
    }
}

/// Rejects options that have no effect on this signature.
fn check_options(
    options: &HandlerOptions,
    chunks: Option<ChunkSource>,
    parameters: &[Parameter],
    errors: &mut Errors,
) {
    if let (Some(join), None) = (&options.join, chunks) {
        errors.add(
            join,
            "`join` is for handlers that yield chunks, but this one has one output: remove the option",
        );
    }
    let takes_input = parameters
        .iter()
        .any(|parameter| matches!(parameter, Parameter::Input(_) | Parameter::Batch(_)));
    if let (Some(validate), false) = (&options.validate, takes_input) {
        errors.add(
            validate,
            "`validate` checks the input, but this handler takes no input: remove the option",
        );
    }
}
