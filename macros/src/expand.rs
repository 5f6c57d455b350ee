//! The code beside the function. It only wires; all that is done stands in `podwork::__private`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Error;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;

use crate::parse::{Handler, Parsed};
use crate::signature::{Argument, Mode, Reading};

pub(crate) fn expand(parsed: &Parsed) -> TokenStream {
    let item = &parsed.item;
    let error = parsed.error.as_ref().map(Error::to_compile_error);
    let Some(handler) = &parsed.handler else {
        return quote!(#item #error);
    };
    // What these lints ask for, the runtime would not take: it is the one that calls.
    let lints = (!item.is_empty()).then(|| {
        quote! {
            #[allow(
                clippy::borrowed_box,
                clippy::needless_pass_by_value,
                clippy::ptr_arg,
                clippy::trivially_copy_pass_by_ref,
                clippy::unused_async,
            )]
        }
    });
    let handler = handler_type(handler, parsed.error.is_some());
    quote!(#lints #item #error #handler)
}

/// The hidden type. After a mistake it is a mere stand-in, so that the places which name it are not in error as well.
fn handler_type(handler: &Handler, broken: bool) -> TokenStream {
    let Handler {
        cfgs,
        vis,
        name,
        reading,
    } = handler;
    let state = reading
        .state
        .as_ref()
        .map_or_else(|| quote!(()), ToTokens::to_token_stream);
    let text = name.unraw().to_string();
    let streams = reading.mode.is_some();
    let join = reading.join;
    let call = if broken {
        quote!(::core::unreachable!())
    } else {
        call(handler)
    };
    quote_spanned! {Span::mixed_site()=>
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(missing_debug_implementations, non_camel_case_types, unreachable_pub)]
        #vis struct #name {}

        #(#cfgs)*
        #[allow(deprecated, clippy::let_unit_value)]
        const _: () = {
            #[automatically_derived]
            impl ::podwork::Handler for #name {
                type State = #state;
                const NAME: &'static str = #text;
                const STREAMS: bool = #streams;
                const JOIN: bool = #join;

                fn call(call: ::podwork::__private::Call<Self::State>) -> ::podwork::__private::Reply {
                    #[allow(unused_imports)]
                    use ::podwork::__private::PlainShape as _;
                    #call
                }
            }
        };
    }
}

/// The body of `Handler::call`. Its spans lie where the user has to look if it does not compile.
fn call(handler: &Handler) -> TokenStream {
    let Reading {
        awaited,
        mode,
        arguments,
        output,
        output_span,
        ..
    } = &handler.reading;
    let name = &handler.name;
    let at_name = at(name.span());
    let at_output = at(*output_span);

    let decode = arguments.iter().map(decode);
    let arguments = arguments.iter().map(argument);
    let wait = awaited.then(|| quote_spanned!(at_name=> .await));
    let called = quote_spanned!(at_name=> #(#decode)* let output = #name(#(#arguments),*) #wait;);

    let output = output
        .as_ref()
        .map_or_else(|| quote_spanned!(at_output=> _), ToTokens::to_token_stream);
    // All of a part's tokens have one span: rustc then takes what fails in several of its steps for one error.
    let (kind, shape, drive) = match mode {
        None => (
            TokenStream::new(),
            quote_spanned!(at_output=> shape(&output)),
            quote_spanned!(at_name=> encode(output)),
        ),
        Some(Mode::Stream) => (
            quote_spanned!(at_output=> let output = ::podwork::__private::stream(output);),
            quote_spanned!(at_output=> stream_shape(&output)),
            quote_spanned!(at_output=> ::podwork::__private::drive_stream(output, call, encode).await),
        ),
        Some(Mode::Iterator) => (
            quote_spanned!(at_output=> let output = ::podwork::__private::iterator(output);),
            quote_spanned!(at_output=> iterator_shape(&output)),
            quote_spanned!(at_output=> ::podwork::__private::drive_iterator(output, call, encode)),
        ),
    };
    let encoder = quote_spanned! {at_output=>
        let encode = ::podwork::__private::#shape.tag().encoder::<#output>();
    };
    let body = quote_spanned! {at_name=>
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

/// Gets ready what an argument needs.
fn decode(argument: &Argument) -> TokenStream {
    match argument {
        Argument::Input(ty) => {
            quote_spanned!(at(ty.span())=> let input = call.input::<#ty>()?;)
        }
        Argument::State(ty) => quote_spanned!(at(ty.span())=> let state = call.state();),
        Argument::Context(_) => TokenStream::new(),
    }
}

fn argument(argument: &Argument) -> TokenStream {
    match argument {
        Argument::Input(ty) => quote_spanned!(at(ty.span())=> input),
        Argument::State(ty) => quote_spanned!(at(ty.span())=> &*state),
        Argument::Context(ty) => quote_spanned!(at(ty.span())=> call.context()),
    }
}

/// A span that errors show at `place`, with names of the macro's own.
fn at(place: Span) -> Span {
    Span::mixed_site().located_at(place)
}
