//! What the user wrote, as plain data; and what is wrong with it.

mod batch;
mod fitness;
mod function;
mod options;
mod output;
mod parameters;
mod signature;
mod types;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Error, ExprYield, Ident, Item, Signature, Visibility, parse2};

pub(crate) use batch::{Batching, Weighing};
pub(crate) use fitness::{FitnessCheck, fitness_check};
pub(crate) use output::Mode;
pub(crate) use parameters::Argument;
pub(crate) use signature::Reading;

use crate::errors::Errors;

/// The item under the attribute.
pub(crate) struct Parsed {
    /// As the user wrote it; empty where it had better not be compiled.
    pub(crate) item: TokenStream,
    /// What to write beside it, if it is a function.
    pub(crate) handler: Option<Handler>,
    /// All mistakes.
    pub(crate) error: Option<Error>,
}

/// The type that stands for the function.
pub(crate) struct Handler {
    /// The function's `#[cfg]`s, which go for the type as well.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) name: Ident,
    pub(crate) reading: Reading,
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

pub(crate) fn handler(arguments: TokenStream, item: TokenStream) -> Parsed {
    let function = match parse2::<Function>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            return Parsed {
                error: Some(not_a_function(&item).unwrap_or(error)),
                item,
                handler: None,
            };
        }
    };
    let mut errors = Errors::default();
    let options = errors.take(options::options(arguments)).unwrap_or_default();
    let reading = signature::read(&function.sig, options, &mut errors);

    // Compiled, the function would bring errors of its own for the one mistake.
    let yields = bare_yield(&function.body);
    let item = if yields.is_some() {
        TokenStream::new()
    } else {
        item
    };
    if let Some(found) = yields {
        errors.add(
            found.yield_token,
            "stable Rust has no bare `yield`: return `impl Stream<Item = T>` from a plain `fn`, and make the stream \
             with `podwork::stream! { … yield item; … }`, or with `podwork::try_stream!` where `?` is to work",
        );
    }
    let handler = function.sig.receiver().is_none().then(|| Handler {
        cfgs: function
            .attrs
            .into_iter()
            .filter(|attribute| attribute.path().is_ident("cfg"))
            .collect(),
        vis: function.vis,
        name: function.sig.ident,
        reading,
    });
    Parsed {
        item,
        handler,
        error: errors.into_error(),
    }
}

/// The error for an item that is well formed, but no function.
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
        "`#[handler]` goes on a function, which the runtime calls for every job: write it above a free `fn` or \
         `async fn`",
    ))
}

/// The first `yield` that no macro such as `stream!` takes care of.
fn bare_yield(body: &Group) -> Option<ExprYield> {
    struct Found(Option<ExprYield>);

    impl<'ast> Visit<'ast> for Found {
        fn visit_expr_yield(&mut self, expr: &'ast ExprYield) {
            self.0.get_or_insert_with(|| expr.clone());
        }

        // What an item inside the function does is its own affair.
        fn visit_item(&mut self, _: &'ast Item) {}
    }

    // A body that syn cannot read is left for rustc to judge.
    let block = parse2::<Block>(body.to_token_stream()).ok()?;
    let mut found = Found(None);
    visit::visit_block(&mut found, &block);
    found.0
}
