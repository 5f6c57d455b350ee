//! The body of `Handler::call`, and the pieces that other calls of the user's function share with it.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned as _;

use crate::parse::{ChunkSource, HandlerSignature, Parameter, ParsedHandler};

/// Quotes the body of `Handler::call`. Its spans point to the user's code that causes an error.
pub(super) fn call(handler: &ParsedHandler) -> TokenStream {
    let HandlerSignature {
        awaited,
        chunks,
        parameters,
        output_span,
        ..
    } = &handler.signature;
    let at_name = at(handler.name.span());
    let at_output = at(*output_span);

    let decode = parameters
        .iter()
        .map(|parameter| decode(handler, parameter));
    let (called, output) = (called(handler), output_type(handler));
    // All tokens of a part share one span, so that rustc reports failures in several of its steps as one error.
    let (kind, shape) = shape(handler);
    let drive = match chunks {
        None => quote_spanned!(at_name=> encode(output)),
        Some(ChunkSource::Stream) => {
            quote_spanned!(at_output=> ::podwork::macro_support::drive_stream(output, call, encode).await)
        }
        Some(ChunkSource::Iterator) => {
            quote_spanned!(at_output=> ::podwork::macro_support::drive_iterator(output, call, encode))
        }
        Some(ChunkSource::Reply) if *awaited => {
            quote_spanned!(at_output=> ::podwork::macro_support::drive_reply(output, call).await)
        }
        Some(ChunkSource::Reply) => {
            quote_spanned!(at_output=> ::podwork::macro_support::drive_reply_on_thread(output, call))
        }
    };
    let encoder = (*chunks != Some(ChunkSource::Reply)).then(|| {
        quote_spanned! {at_output=>
            let encode = ::podwork::macro_support::#shape.tag().encoder::<#output>();
        }
    });
    let body = quote_spanned! {at_name=>
        #(#decode)*
        #called
        #kind
        #encoder
        #drive
    };
    if *awaited || *chunks == Some(ChunkSource::Stream) {
        quote_spanned!(at_name=> ::podwork::macro_support::future(async move { #body }))
    } else {
        quote_spanned!(at_name=> ::podwork::macro_support::blocking::<Self>(call, |call| { #body }))
    }
}

/// Quotes the import of the tag of all shapes except that of `Result`.
pub(super) fn plain_shape() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::podwork::macro_support::PlainShape as _;
    }
}

/// Quotes the conversion of the output to a stream, an iterator or a reply, and the call that returns its shape.
pub(super) fn shape(handler: &ParsedHandler) -> (TokenStream, TokenStream) {
    let at_output = at(handler.signature.output_span);
    match handler.signature.chunks {
        None => (
            TokenStream::new(),
            quote_spanned!(at_output=> shape(&output)),
        ),
        Some(ChunkSource::Stream) => (
            quote_spanned!(at_output=> let output = ::podwork::macro_support::stream(output);),
            quote_spanned!(at_output=> stream_shape(&output)),
        ),
        Some(ChunkSource::Iterator) => (
            quote_spanned!(at_output=> let output = ::podwork::macro_support::iterator(output);),
            quote_spanned!(at_output=> iterator_shape(&output)),
        ),
        Some(ChunkSource::Reply) => (
            quote_spanned!(at_output=> let output = ::podwork::macro_support::reply(output);),
            quote_spanned!(at_output=> reply_shape(&output)),
        ),
    }
}

/// Quotes the call of the user's function, whose value is named `output`.
pub(super) fn called(handler: &ParsedHandler) -> TokenStream {
    let name = &handler.name;
    let at_name = at(name.span());
    let arguments = handler.signature.parameters.iter().map(argument);
    let wait = handler
        .signature
        .awaited
        .then(|| quote_spanned!(at_name=> .await));
    quote_spanned!(at_name=> let output = #name(#(#arguments),*) #wait;)
}

/// Returns the type of the output, or `_` if the signature does not show it.
pub(super) fn output_type(handler: &ParsedHandler) -> TokenStream {
    let HandlerSignature {
        output,
        output_span,
        ..
    } = &handler.signature;
    output.as_ref().map_or_else(
        || quote_spanned!(at(*output_span)=> _),
        ToTokens::to_token_stream,
    )
}

/// Quotes the decoding of an input of this type.
pub(super) fn input(handler: &ParsedHandler, ty: &Type) -> TokenStream {
    let at_type = at(ty.span());
    if handler.signature.validate {
        quote_spanned!(at_type=> call.checked_input::<#ty>())
    } else {
        quote_spanned!(at_type=> call.input::<#ty>())
    }
}

/// Quotes the preparation of the argument for a parameter.
fn decode(handler: &ParsedHandler, parameter: &Parameter) -> TokenStream {
    match parameter {
        Parameter::Input(ty) => {
            let input = input(handler, ty);
            quote_spanned!(at(ty.span())=> let input = #input?;)
        }
        Parameter::State(ty) => quote_spanned!(at(ty.span())=> let state = call.state();),
        Parameter::Batch(_) | Parameter::Context(_) => TokenStream::new(),
    }
}

/// Quotes the argument for a parameter.
fn argument(parameter: &Parameter) -> TokenStream {
    match parameter {
        Parameter::Input(ty) => quote_spanned!(at(ty.span())=> input),
        Parameter::Batch(ty) => quote_spanned!(at(ty.span())=> inputs),
        Parameter::State(ty) => quote_spanned!(at(ty.span())=> &*state),
        Parameter::Context(ty) => quote_spanned!(at(ty.span())=> call.context()),
    }
}

/// Returns a span that locates errors at `place` and resolves names in the macro.
pub(super) fn at(place: Span) -> Span {
    Span::mixed_site().located_at(place)
}
