//! Generation of code. The generated code only calls functions of `podwork::macro_support`, which do the work.

mod batch;
mod call;
mod fitness;
mod schema;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Error;
use syn::ext::IdentExt as _;

pub(crate) use fitness::fitness_check;

use crate::parse::{ChunkSource, ParsedHandler, ParsedItem};
use batch::batch_handler;
use call::{call, plain_shape};
use schema::described;

pub(crate) fn handler(parsed: &ParsedItem) -> TokenStream {
    let item = &parsed.item;
    let error = parsed.error.as_ref().map(Error::to_compile_error);
    let Some(handler) = &parsed.handler else {
        return quote!(#item #error);
    };
    // The runtime determines the signature, so the user cannot follow these lints.
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

/// Quotes the hidden type. After a mistake, its methods are unreachable: the type then exists only so that code that
/// names it does not cause more errors.
fn handler_type(handler: &ParsedHandler, broken: bool) -> TokenStream {
    let ParsedHandler {
        cfgs,
        vis,
        name,
        signature,
    } = handler;
    let state = signature
        .state
        .as_ref()
        .map_or_else(|| quote!(()), ToTokens::to_token_stream);
    let text = name.unraw().to_string();
    let join = signature.join;
    let kind = match signature.chunks {
        None => quote!(Once),
        Some(ChunkSource::Stream | ChunkSource::Iterator) => quote!(Stream { join: #join }),
        Some(ChunkSource::Reply) => quote!(PerJob { join: #join }),
    };
    let call = call_body(handler, broken);
    // After a mistake, the other traits would only add errors.
    let batch = signature.batch.as_ref().filter(|_| !broken);
    let item = batch.map_or_else(|| quote!(()), |batch| batch.item.to_token_stream());
    let batch_handler = batch.map(|batch| batch_handler(handler, batch));
    let described = (signature.schema && !broken).then(|| described(handler));
    let others = other_traits(batch_handler.is_some(), described.is_some());
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
                const KIND: ::podwork::HandlerKind = ::podwork::HandlerKind::#kind;
                type Item = #item;
                #others

                fn call(call: ::podwork::macro_support::Call<Self::State>) -> ::podwork::macro_support::Work {
                    #call
                }
            }

            #batch_handler
            #described
        };
    }
}

/// Quotes the body of `Handler::call`.
fn call_body(handler: &ParsedHandler, broken: bool) -> TokenStream {
    match &handler.signature.batch {
        _ if broken => quote!(::core::unreachable!()),
        Some(_) => {
            quote_spanned!(Span::mixed_site()=> ::podwork::macro_support::alone::<Self>(call))
        }
        None => {
            let (shape, call) = (plain_shape(), call(handler));
            quote!(#shape #call)
        }
    }
}

/// Quotes the constants of `Handler` that refer to the other traits.
fn other_traits(batch: bool, schema: bool) -> TokenStream {
    let batch = batch.then(|| {
        quote! {
            const BATCH: ::core::option::Option<
                ::podwork::macro_support::Batching<Self::State, Self::Item>,
            > = ::core::option::Option::Some(::podwork::macro_support::Batching::of::<Self>());
        }
    });
    let schema = schema.then(|| {
        quote! {
            const SCHEMA: ::core::option::Option<fn() -> ::podwork::HandlerSchema> =
                ::core::option::Option::Some(<Self as ::podwork::DescribedHandler>::schema);
        }
    });
    quote!(#batch #schema)
}
