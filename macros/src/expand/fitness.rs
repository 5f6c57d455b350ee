//! The registration of a fitness check.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt as _;

use crate::parse::ParsedFitnessCheck;

pub(crate) fn fitness_check(
    item: &TokenStream,
    parsed: syn::Result<ParsedFitnessCheck>,
) -> TokenStream {
    let ParsedFitnessCheck { cfgs, name } = match parsed {
        Ok(check) => check,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#item #error);
        }
    };
    let text = name.unraw().to_string();
    let span = Span::mixed_site().located_at(name.span());
    quote_spanned! {span=>
        #item

        #(#cfgs)*
        const _: () = {
            use ::podwork::macro_support::inventory;
            inventory::submit! {
                ::podwork::macro_support::Registered::new(
                    #text,
                    (::core::file!(), ::core::line!()),
                    || ::podwork::macro_support::fitness(#name),
                )
            }
        };
    }
}
