//! The implementation of `DescribedHandler`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Ident;
use syn::spanned::Spanned as _;

use super::call::{at, called, output_type, plain_shape, shape};
use crate::parse::{Parameter, ParsedHandler};

/// Quotes the implementation of `DescribedHandler`. Code that never runs calls the function, so that the compiler
/// infers the type of the output, which the signature may not show.
pub(super) fn described(handler: &ParsedHandler) -> TokenStream {
    let ParsedHandler {
        name, signature, ..
    } = handler;
    let at_name = at(name.span());
    let at_output = at(signature.output_span);

    let input = input_schema(handler);
    let given = signature.parameters.iter().map(given);
    let called = called(handler);
    let (results, shape, output) = match &signature.batch {
        None => {
            let (results, shape) = shape(handler);
            (results, shape, output_type(handler))
        }
        Some(_) => batch_shape(handler),
    };
    let body = quote_spanned! {at_name=>
        #(#given)*
        #called
        #results
        ::podwork::macro_support::#shape
    };
    let of = if signature.awaited {
        quote_spanned!(at_name=> of_future(|| async move { #body }))
    } else {
        quote_spanned!(at_name=> of_call(|| { #body }))
    };
    let output = quote_spanned!(at_output=> shape.tag().schema::<#output>(shape));
    let plain_shape = plain_shape();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl ::podwork::DescribedHandler for #name {
            fn schema() -> ::podwork::HandlerSchema {
                #plain_shape
                let shape = ::podwork::macro_support::schema::#of;
                ::podwork::macro_support::schema::of::<Self>(#input, #output)
            }
        }
    }
}

/// Quotes the schema of one job's input.
fn input_schema(handler: &ParsedHandler) -> TokenStream {
    let ParsedHandler {
        name, signature, ..
    } = handler;
    let own = signature
        .parameters
        .iter()
        .find_map(|parameter| match parameter {
            Parameter::Input(ty) => Some(ty),
            _ => None,
        });
    own.or(signature.batch.as_ref().map(|batch| &batch.item))
        .map_or_else(
            || quote_spanned!(at(name.span())=> ::podwork::macro_support::schema::anything()),
            |ty| quote_spanned!(at(ty.span())=> ::podwork::macro_support::schema::input::<#ty>()),
        )
}

/// Quotes the code that takes the results out of a batch's output, their shape, and their type, which the compiler
/// infers.
fn batch_shape(handler: &ParsedHandler) -> (TokenStream, TokenStream, TokenStream) {
    let at_output = at(handler.signature.output_span);
    let output = output_type(handler);
    (
        quote_spanned! {at_output=>
            let ::core::result::Result::Ok(results) =
                ::podwork::macro_support::shape(&output).tag().whole::<#output>(output)
            else {
                ::core::unreachable!()
            };
        },
        quote_spanned!(at_output=> results_shape(&results)),
        quote_spanned!(at_output=> _),
    )
}

/// Quotes a value for a parameter, in code that never runs.
fn given(parameter: &Parameter) -> TokenStream {
    let (ty, name, of) = match parameter {
        Parameter::Input(ty) => (ty, "input", quote!(#ty)),
        Parameter::Batch(ty) => (ty, "inputs", quote!(#ty)),
        Parameter::State(ty) => (ty, "state", quote!(&'static #ty)),
        Parameter::Context(ty) => (ty, "call", quote!(::podwork::macro_support::Call<()>)),
    };
    let at_type = at(ty.span());
    let name = Ident::new(name, at_type);
    quote_spanned!(at_type=> let #name = ::podwork::macro_support::schema::any::<#of>();)
}
