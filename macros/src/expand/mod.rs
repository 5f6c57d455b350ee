//! The code beside the function. It only wires; all that is done stands in `podwork::__private`.

mod batch;
mod call;
mod fitness;
mod schema;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Error;
use syn::ext::IdentExt as _;

pub(crate) use fitness::fitness_check;

use crate::parse::{Handler, Parsed};
use batch::batch_handler;
use call::{call, plain_shape};
use schema::described;

pub(crate) fn handler(parsed: &Parsed) -> TokenStream {
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
    let call = match &reading.batch {
        _ if broken => quote!(::core::unreachable!()),
        Some(_) => {
            quote_spanned!(Span::mixed_site()=> ::podwork::__private::alone::<Self>(call))
        }
        None => {
            let (shape, call) = (plain_shape(), call(handler));
            quote!(#shape #call)
        }
    };
    // A mere stand-in takes no batches, or all that it should say of them would be in error.
    let batch = reading.batch.as_ref().filter(|_| !broken);
    let item = batch.map_or_else(|| quote!(()), |batch| batch.item.to_token_stream());
    let batching = batch.map(|_| {
        quote! {
            const BATCH: ::core::option::Option<
                ::podwork::__private::Batching<Self::State, Self::Item>,
            > = ::core::option::Option::Some(::podwork::__private::Batching::of::<Self>());
        }
    });
    let batch_handler = batch.map(|batch| batch_handler(handler, batch));
    let described = (reading.schema && !broken).then(|| described(handler));
    let schema = described.is_some().then(|| {
        quote! {
            const SCHEMA: ::core::option::Option<fn() -> ::podwork::HandlerSchema> =
                ::core::option::Option::Some(<Self as ::podwork::DescribedHandler>::schema);
        }
    });
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
                type Item = #item;
                #batching
                #schema

                fn call(call: ::podwork::__private::Call<Self::State>) -> ::podwork::__private::Reply {
                    #call
                }
            }

            #batch_handler
            #described
        };
    }
}
