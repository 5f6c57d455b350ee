//! `BatchHandler`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;

use super::call::{at, called, input, output_type, plain_shape};
use crate::parse::{Batching, Handler, Weighing};

/// The implementation of `BatchHandler`.
pub(super) fn batch_handler(handler: &Handler, batch: &Batching) -> TokenStream {
    let name = &handler.name;
    let Batching {
        item,
        max_batch,
        max_wait,
        weighing,
    } = batch;
    let max_batch = max_batch.as_ref().map(|value| {
        quote_spanned! {at(value.span())=>
            const MAX_BATCH: ::core::primitive::usize = ::podwork::__private::jobs(#value);
        }
    });
    // An associated constant would only be looked at where the handler is used.
    let check = max_batch
        .is_some()
        .then(|| quote!(const _: ::core::primitive::usize = <#name as ::podwork::BatchHandler>::MAX_BATCH;));
    let max_wait = max_wait.as_ref().map(
        |value| quote_spanned!(at(value.span())=> const MAX_WAIT: ::core::time::Duration = #value;),
    );
    let check_weight = weighing.as_ref().map(|Weighing { max, .. }| {
        quote_spanned! {at(max.span())=>
            const _: () = {
                let max: ::core::primitive::usize = #max;
                ::core::assert!(max > 0, "`max_weight` is 0, and is to be above that");
            };
        }
    });
    let weighing = weighing.as_ref().map(|Weighing { weight, max }| {
        quote_spanned! {at(weight.span())=>
            const WEIGHING: ::core::option::Option<::podwork::__private::Weighing<Self::Item>> =
                ::core::option::Option::Some(::podwork::__private::Weighing::new(#weight, #max));
        }
    });
    let input = input(handler, item);
    let (shape, call) = (plain_shape(), call_batch(handler));
    quote_spanned! {Span::mixed_site()=>
        #check
        #check_weight

        #[automatically_derived]
        impl ::podwork::BatchHandler for #name {
            #max_batch
            #max_wait
            #weighing

            fn input(
                call: &::podwork::__private::Call<Self::State>,
            ) -> ::core::result::Result<Self::Item, ::podwork::HandlerError> {
                #input
            }

            fn call_batch(
                inputs: ::podwork::Batch<Self::Item>,
                state: ::std::sync::Arc<Self::State>,
            ) -> ::podwork::__private::Reply<::std::vec::Vec<::podwork::__private::Outcome>> {
                #shape
                #call
            }
        }
    }
}

/// The body of `BatchHandler::call_batch`.
fn call_batch(handler: &Handler) -> TokenStream {
    let at_name = at(handler.name.span());
    let at_output = at(handler.reading.output_span);

    let (called, output) = (called(handler), output_type(handler));
    let results = quote_spanned! {at_output=>
        let results = ::podwork::__private::shape(&output).tag().whole::<#output>(output)?;
        let encode = ::podwork::__private::results_shape(&results).tag().encoder();
    };
    let body = quote_spanned! {at_name=>
        let jobs = inputs.len();
        #called
        #results
        ::podwork::__private::outcomes(results, jobs, encode)
    };
    if handler.reading.awaited {
        quote_spanned!(at_name=> ::podwork::__private::future(async move { #body }))
    } else {
        quote_spanned!(at_name=> ::podwork::__private::blocking_batch::<Self>(inputs, state, |inputs, state| { #body }))
    }
}
