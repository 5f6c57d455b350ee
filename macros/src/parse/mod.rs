//! Parses the user's code into plain data, and collects its mistakes.

mod batch;
mod fitness;
mod function;
mod options;
mod other_names;
mod output;
mod parameters;
mod signature;
mod types;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Error, ExprYield, Ident, Item, Signature, Visibility, parse2};

pub(crate) use batch::{BatchSettings, WeightLimit};
pub(crate) use fitness::{ParsedFitnessCheck, fitness_check};
pub(crate) use output::ChunkSource;
pub(crate) use parameters::Parameter;
pub(crate) use signature::HandlerSignature;

use crate::errors::Errors;
use options::HandlerOptions;

/// The item under `#[handler]`.
pub(crate) struct ParsedItem {
    /// The item as the user wrote it; empty if compiling it would only add errors.
    pub(crate) item: TokenStream,
    /// The function, for which a type is generated; `None` if the item is not a function.
    pub(crate) handler: Option<ParsedHandler>,
    /// All mistakes, combined.
    pub(crate) error: Option<Error>,
}

/// A function under `#[handler]`.
pub(crate) struct ParsedHandler {
    /// The function's `#[cfg]`s, which apply to the generated type as well.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) name: Ident,
    pub(crate) signature: HandlerSignature,
}

struct Function {
    attrs: Vec<Attribute>,
    vis: Visibility,
    sig: Signature,
    body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
            body: input.step(|cursor| match cursor.token_tree() {
                Some((TokenTree::Group(body), rest)) if body.delimiter() == Delimiter::Brace => {
                    Ok((body, rest))
                }
                _ => {
                    Err(cursor.error("a handler needs a body: the runtime calls it for every job"))
                }
            })?,
        })
    }
}

pub(crate) fn handler(arguments: TokenStream, item: TokenStream) -> ParsedItem {
    let function = match parse2::<Function>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            return ParsedItem {
                error: Some(not_a_function(&item).unwrap_or(error)),
                item,
                handler: None,
            };
        }
    };
    let mut errors = Errors::default();
    let options = errors
        .take(HandlerOptions::parse(arguments))
        .unwrap_or_default();
    let signature = HandlerSignature::read(&function.sig, options, &mut errors);

    // Compiling the function would add more errors for the same mistake.
    let yields = bare_yield(&function.body);
    let item = if yields.is_some() {
        TokenStream::new()
    } else {
        item
    };
    if let Some(found) = yields {
        errors.add(
            found.yield_token,
            "stable Rust has no bare `yield`: return `impl Stream<Item = T>` from a plain `fn`, and create the stream \
             with `podwork::stream! { … yield item; … }`, or with `podwork::try_stream!` to use `?`",
        );
    }
    let handler = function.sig.receiver().is_none().then(|| ParsedHandler {
        cfgs: function
            .attrs
            .into_iter()
            .filter(|attribute| attribute.path().is_ident("cfg"))
            .collect(),
        vis: function.vis,
        name: function.sig.ident,
        signature,
    });
    ParsedItem {
        item,
        handler,
        error: errors.into_error(),
    }
}

/// Returns the error for an item that is well formed but not a function.
fn not_a_function(item: &TokenStream) -> Option<Error> {
    let place = match parse2::<Item>(item.clone()).ok()? {
        Item::Struct(item) => item.ident.to_token_stream(),
        Item::Enum(item) => item.ident.to_token_stream(),
        Item::Mod(item) => item.ident.to_token_stream(),
        Item::Trait(item) => item.ident.to_token_stream(),
        Item::Impl(item) => item.self_ty.to_token_stream(),
        Item::Fn(_) | Item::Verbatim(_) => return None,
        item => item.to_token_stream(),
    };
    Some(Error::new_spanned(
        place,
        "`#[handler]` applies only to functions, which the runtime calls for every job: write it above a free `fn` or \
         `async fn`",
    ))
}

/// Returns the first `yield` outside of macros such as `stream!`.
fn bare_yield(body: &Group) -> Option<ExprYield> {
    struct YieldFinder(Option<ExprYield>);

    impl<'ast> Visit<'ast> for YieldFinder {
        fn visit_expr_yield(&mut self, expr: &'ast ExprYield) {
            self.0.get_or_insert_with(|| expr.clone());
        }

        // rustc checks items inside the function.
        fn visit_item(&mut self, _: &'ast Item) {}
    }

    // A body that syn cannot parse is left to rustc.
    let block = parse2::<Block>(body.to_token_stream()).ok()?;
    let mut found = YieldFinder(None);
    visit::visit_block(&mut found, &block);
    found.0
}
