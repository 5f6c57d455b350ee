//! `DescribedHandler`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Ident;
use syn::spanned::Spanned as _;

use super::call::{at, called, output_type, plain_shape, shape};
use crate::parse::{Argument, Handler};

/// The implementation of `DescribedHandler`. The function is called in code that is never run: so the compiler tells the
/// output's type, which the signature may not show.
pub(super) fn described(handler: &Handler) -> TokenStream {
    let Handler { name, reading, .. } = handler;
    let at_name = at(name.span());
    let at_output = at(reading.output_span);

    let input = reading
        .arguments
        .iter()
        .find_map(|argument| match argument {
            Argument::Input(ty) => Some(ty),
            _ => None,
        });
    let input = input
        .or(reading.batch.as_ref().map(|batch| &batch.item))
        .map_or_else(
            || quote_spanned!(at_name=> ::podwork::__private::schema::anything()),
            |ty| quote_spanned!(at(ty.span())=> ::podwork::__private::schema::input::<#ty>()),
        );
    let given = reading.arguments.iter().map(given);
    let (called, output) = (called(handler), output_type(handler));
    let (kind, shape, output) = match &reading.batch {
        None => {
            let (kind, shape) = shape(handler);
            (kind, shape, output)
        }
        Some(_) => (
            quote_spanned! {at_output=>
                let ::core::result::Result::Ok(results) =
                    ::podwork::__private::shape(&output).tag().whole::<#output>(output)
                else {
                    ::core::unreachable!()
                };
            },
            quote_spanned!(at_output=> results_shape(&results)),
            quote_spanned!(at_output=> _),
        ),
    };
    let body = quote_spanned! {at_name=>
        #(#given)*
        #called
        #kind
        ::podwork::__private::#shape
    };
    let of = if reading.awaited {
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
                let shape = ::podwork::__private::schema::#of;
                ::podwork::__private::schema::of::<Self>(#input, #output)
            }
        }
    }
}

/// Stands for what an argument needs, in code that is never run.
fn given(argument: &Argument) -> TokenStream {
    let (ty, name, of) = match argument {
        Argument::Input(ty) => (ty, "input", quote!(#ty)),
        Argument::Batch(ty) => (ty, "inputs", quote!(#ty)),
        Argument::State(ty) => (ty, "state", quote!(&'static #ty)),
        Argument::Context(ty) => (ty, "call", quote!(::podwork::__private::Call<()>)),
    };
    let at_type = at(ty.span());
    let name = Ident::new(name, at_type);
    quote_spanned!(at_type=> let #name = ::podwork::__private::schema::any::<#of>();)
}
