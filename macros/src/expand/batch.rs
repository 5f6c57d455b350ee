//! The implementation of `BatchHandler`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Ident;
use syn::spanned::Spanned as _;

use super::call::{at, called, input, output_type, plain_shape};
use crate::parse::{BatchSettings, ParsedHandler, WeightLimit};

/// Quotes the implementation of `BatchHandler`.
pub(super) fn batch_handler(handler: &ParsedHandler, batch: &BatchSettings) -> TokenStream {
    let name = &handler.name;
    let checks = checks(name, batch);
    let constants = constants(batch);
    let input = input(handler, &batch.item);
    let (shape, call) = (plain_shape(), call_batch(handler));
    quote_spanned! {Span::mixed_site()=>
        #checks

        #[automatically_derived]
        impl ::podwork::BatchHandler for #name {
            #constants

            fn input(
                call: &::podwork::macro_support::Call<Self::State>,
            ) -> ::core::result::Result<Self::Item, ::podwork::HandlerError> {
                #input
            }

            fn call_batch(
                inputs: ::podwork::Batch<Self::Item>,
                state: ::std::sync::Arc<Self::State>,
            ) -> ::podwork::macro_support::Work<::std::vec::Vec<::podwork::macro_support::Outcome>> {
                #shape
                #call
            }
        }
    }
}

/// Quotes checks of the settings. They are in a `const _`, which the compiler always evaluates; it evaluates an
/// associated constant only where the handler is used.
fn checks(name: &Ident, batch: &BatchSettings) -> TokenStream {
    let max_batch = batch.max_batch.is_some().then(|| {
        quote! {
            const _: ::core::primitive::usize = <#name as ::podwork::BatchHandler>::MAX_BATCH;
        }
    });
    let max_weight = batch.weight_limit.as_ref().map(|WeightLimit { max, .. }| {
        quote_spanned! {at(max.span())=>
            const _: () = {
                let max: ::core::primitive::usize = #max;
                ::core::assert!(max > 0, "`max_weight` is 0: it must be above 0");
            };
        }
    });
    quote!(#max_batch #max_weight)
}

/// Quotes the settings as constants of the trait. A missing setting keeps the trait's default.
fn constants(batch: &BatchSettings) -> TokenStream {
    let max_batch = batch.max_batch.as_ref().map(|value| {
        quote_spanned! {at(value.span())=>
            const MAX_BATCH: ::core::primitive::usize = ::podwork::macro_support::jobs(#value);
        }
    });
    let max_wait = batch.max_wait.as_ref().map(
        |value| quote_spanned!(at(value.span())=> const MAX_WAIT: ::core::time::Duration = #value;),
    );
    let weighing = batch.weight_limit.as_ref().map(|WeightLimit { weight, max }| {
        quote_spanned! {at(weight.span())=>
            const WEIGHING: ::core::option::Option<::podwork::macro_support::Weighing<Self::Item>> =
                ::core::option::Option::Some(::podwork::macro_support::Weighing::new(#weight, #max));
        }
    });
    quote!(#max_batch #max_wait #weighing)
}

/// Quotes the body of `BatchHandler::call_batch`.
fn call_batch(handler: &ParsedHandler) -> TokenStream {
    let at_name = at(handler.name.span());
    let at_output = at(handler.signature.output_span);

    let (called, output) = (called(handler), output_type(handler));
    let results = quote_spanned! {at_output=>
        let results = ::podwork::macro_support::shape(&output).tag().whole::<#output>(output)?;
        let encode = ::podwork::macro_support::results_shape(&results).tag().encoder();
    };
    let body = quote_spanned! {at_name=>
        let jobs = inputs.len();
        #called
        #results
        ::podwork::macro_support::outcomes(results, jobs, encode)
    };
    if handler.signature.awaited {
        quote_spanned!(at_name=> ::podwork::macro_support::future(async move { #body }))
    } else {
        quote_spanned!(at_name=> ::podwork::macro_support::blocking_batch::<Self>(inputs, state, |inputs, state| { #body }))
    }
}
