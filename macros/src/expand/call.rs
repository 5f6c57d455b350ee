//! The pieces of a call of the user's function, and `Handler::call`, which is made of them.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned as _;

use crate::parse::{Argument, Handler, Mode, Reading};

/// The body of `Handler::call`. Its spans lie where the user has to look if it does not compile.
pub(super) fn call(handler: &Handler) -> TokenStream {
    let Reading {
        awaited,
        mode,
        arguments,
        output_span,
        ..
    } = &handler.reading;
    let at_name = at(handler.name.span());
    let at_output = at(*output_span);

    let decode = arguments.iter().map(|argument| decode(handler, argument));
    let (called, output) = (called(handler), output_type(handler));
    // All of a part's tokens have one span: rustc then takes what fails in several of its steps for one error.
    let (kind, shape) = shape(handler);
    let drive = match mode {
        None => quote_spanned!(at_name=> encode(output)),
        Some(Mode::Stream) => {
            quote_spanned!(at_output=> ::podwork::__private::drive_stream(output, call, encode).await)
        }
        Some(Mode::Iterator) => {
            quote_spanned!(at_output=> ::podwork::__private::drive_iterator(output, call, encode))
        }
    };
    let encoder = quote_spanned! {at_output=>
        let encode = ::podwork::__private::#shape.tag().encoder::<#output>();
    };
    let body = quote_spanned! {at_name=>
        #(#decode)*
        #called
        #kind
        #encoder
        #drive
    };
    if *awaited || *mode == Some(Mode::Stream) {
        quote_spanned!(at_name=> ::podwork::__private::future(async move { #body }))
    } else {
        quote_spanned!(at_name=> ::podwork::__private::blocking::<Self>(call, |call| { #body }))
    }
}

/// Brings the tag of all shapes but `Result`'s.
pub(super) fn plain_shape() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::podwork::__private::PlainShape as _;
    }
}

/// What makes the output ready for its kind, and what then tells its shape.
pub(super) fn shape(handler: &Handler) -> (TokenStream, TokenStream) {
    let at_output = at(handler.reading.output_span);
    match handler.reading.mode {
        None => (
            TokenStream::new(),
            quote_spanned!(at_output=> shape(&output)),
        ),
        Some(Mode::Stream) => (
            quote_spanned!(at_output=> let output = ::podwork::__private::stream(output);),
            quote_spanned!(at_output=> stream_shape(&output)),
        ),
        Some(Mode::Iterator) => (
            quote_spanned!(at_output=> let output = ::podwork::__private::iterator(output);),
            quote_spanned!(at_output=> iterator_shape(&output)),
        ),
    }
}

/// Calls the user's function, which leaves its `output`.
pub(super) fn called(handler: &Handler) -> TokenStream {
    let name = &handler.name;
    let at_name = at(name.span());
    let arguments = handler.reading.arguments.iter().map(argument);
    let wait = handler
        .reading
        .awaited
        .then(|| quote_spanned!(at_name=> .await));
    quote_spanned!(at_name=> let output = #name(#(#arguments),*) #wait;)
}

/// The output's type, as far as the signature tells it.
pub(super) fn output_type(handler: &Handler) -> TokenStream {
    let Reading {
        output,
        output_span,
        ..
    } = &handler.reading;
    output.as_ref().map_or_else(
        || quote_spanned!(at(*output_span)=> _),
        ToTokens::to_token_stream,
    )
}

/// Reads the input of this type.
pub(super) fn input(handler: &Handler, ty: &Type) -> TokenStream {
    let at_type = at(ty.span());
    if handler.reading.validate {
        quote_spanned!(at_type=> call.checked_input::<#ty>())
    } else {
        quote_spanned!(at_type=> call.input::<#ty>())
    }
}

/// Gets ready what an argument needs.
fn decode(handler: &Handler, argument: &Argument) -> TokenStream {
    match argument {
        Argument::Input(ty) => {
            let input = input(handler, ty);
            quote_spanned!(at(ty.span())=> let input = #input?;)
        }
        Argument::State(ty) => quote_spanned!(at(ty.span())=> let state = call.state();),
        Argument::Batch(_) | Argument::Context(_) => TokenStream::new(),
    }
}

fn argument(argument: &Argument) -> TokenStream {
    match argument {
        Argument::Input(ty) => quote_spanned!(at(ty.span())=> input),
        Argument::Batch(ty) => quote_spanned!(at(ty.span())=> inputs),
        Argument::State(ty) => quote_spanned!(at(ty.span())=> &*state),
        Argument::Context(ty) => quote_spanned!(at(ty.span())=> call.context()),
    }
}

/// A span that errors show at `place`, with names of the macro's own.
pub(super) fn at(place: Span) -> Span {
    Span::mixed_site().located_at(place)
}
