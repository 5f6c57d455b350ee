//! `#[fitness_check]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::{Error, ItemFn, parse2};

use crate::errors::Errors;
use crate::signature::check_function;

pub(crate) fn expand(arguments: &TokenStream, item: &TokenStream) -> TokenStream {
    let function = match parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = Error::new(
                error.span(),
                "`#[fitness_check]` goes on a function, which the runtime calls before the first job: write it above \
                 a free `fn` or `async fn`",
            )
            .into_compile_error();
            return quote!(#item #error);
        }
    };
    let mut errors = Errors::default();
    check_function("fitness check", &function.sig, &mut errors);
    if let Some(parameter) = function
        .sig
        .inputs
        .first()
        .filter(|_| function.sig.receiver().is_none())
    {
        errors.add(
            parameter,
            "a fitness check takes nothing, as it runs before there is a job or a state: leave this out, or check the \
             state where it is made, in the worker's `.setup`",
        );
    }
    if !arguments.is_empty() {
        errors.add(
            arguments,
            "`#[fitness_check]` takes no arguments: the check has the function's name",
        );
    }
    if let Some(error) = errors.into_error() {
        let error = error.into_compile_error();
        return quote!(#item #error);
    }

    let cfgs = function
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let name = &function.sig.ident;
    let text = name.unraw().to_string();
    let span = Span::mixed_site().located_at(name.span());
    quote_spanned! {span=>
        #item

        #(#cfgs)*
        const _: () = {
            use ::podwork::__private::inventory;
            inventory::submit! {
                ::podwork::__private::Registered::new(
                    #text,
                    (::core::file!(), ::core::line!()),
                    || ::podwork::__private::fitness(#name),
                )
            }
        };
    }
}
