//! What the user wrote, as plain data; and what is wrong with it.

use std::collections::HashSet;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Error, Expr, ExprLit, ExprYield, Ident, Item, Lit, Meta, Path, Signature,
    Token, Visibility, parse_quote_spanned, parse2,
};

use crate::errors::Errors;
use crate::signature::{self, Mode, Options, Reading, Setting};

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

pub(crate) fn parse(arguments: TokenStream, item: TokenStream) -> Parsed {
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
    let options = errors.take(options(arguments)).unwrap_or_default();
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

/// Reads the attribute's own arguments.
fn options(arguments: TokenStream) -> syn::Result<Options> {
    let arguments = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(arguments)?;
    let mut options = Options::default();
    let mut said = HashSet::new();
    for argument in &arguments {
        if !said.insert(argument.path().get_ident()) {
            return Err(Error::new_spanned(
                argument,
                "this is said twice: keep one of the two",
            ));
        }
        let mode = match argument {
            Meta::Path(path) if path.is_ident("join") => {
                options.join = Some(path.clone());
                continue;
            }
            Meta::Path(path) if path.is_ident("schema") => {
                needs_feature(path, "schema", cfg!(feature = "schema"))?;
                options.schema = true;
                continue;
            }
            Meta::Path(path) if path.is_ident("validate") => {
                needs_feature(path, "validate", cfg!(feature = "validate"))?;
                options.validate = Some(path.clone());
                continue;
            }
            Meta::NameValue(setting) => {
                let name = setting.path.get_ident().map(Ident::to_string);
                let (slot, value) = match name.unwrap_or_default().as_str() {
                    "max_batch" => (&mut options.max_batch, number(&setting.value, JOBS)?),
                    "max_wait" => (&mut options.max_wait, duration(&setting.value)?),
                    "max_weight" => (&mut options.max_weight, number(&setting.value, WEIGHT)?),
                    "weight" => (&mut options.weight, setting.value.clone()),
                    _ => return Err(unknown(argument)),
                };
                *slot = Some(Setting {
                    name: setting.path.clone(),
                    value,
                });
                continue;
            }
            Meta::Path(path) if path.is_ident("stream") => Mode::Stream,
            Meta::Path(path) if path.is_ident("iterator") => Mode::Iterator,
            _ => return Err(unknown(argument)),
        };
        if options.mode.replace(mode).is_some() {
            return Err(Error::new_spanned(
                argument,
                "a handler returns a stream or an iterator, not both: keep one of the arguments",
            ));
        }
    }
    Ok(options)
}

fn unknown(argument: &Meta) -> Error {
    Error::new_spanned(
        argument,
        "`#[handler]` knows no such argument; it knows `stream` (the function returns a stream) and `iterator` (the \
         function returns an iterator), for return types that do not show it, `join` (chunks that wait together are \
         posted as one), `max_batch = 16` and `max_wait = \"5ms\"` (how many jobs are handed over together as a `Batch`, \
         and how long one waits for others), `weight = …` and `max_weight = 4096` (what a job's input weighs, and a batch \
         at most), `schema` (its types tell what it takes and gives), and `validate` (inputs are checked by the rules of \
         their type)",
    )
}

/// Refuses what a feature of `podwork` brings, unless it is on.
fn needs_feature(argument: &Path, feature: &str, on: bool) -> syn::Result<()> {
    if on {
        return Ok(());
    }
    Err(Error::new_spanned(
        argument,
        format!(
            "`{feature}` is brought by podwork's feature of that name, which is off: switch it on with \
             `cargo add podwork --features {feature}`, or leave this out"
        ),
    ))
}

const JOBS: &str = "`max_batch` is a number of jobs, and a batch holds one at least: write `max_batch = 16`, or name a \
                    constant";

const WEIGHT: &str = "`max_weight` is a whole number above 0, in the unit of `weight`: write `max_weight = 4096`, or \
                      name a constant";

/// Any constant, but no literal other than a number above 0.
fn number(value: &Expr, expected: &str) -> syn::Result<Expr> {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Int(number),
            ..
        }) if number.base10_digits() != "0" => {}
        Expr::Lit(_) => {
            return Err(Error::new_spanned(value, expected));
        }
        _ => {}
    }
    Ok(value.clone())
}

/// What `max_wait` is set to: a text such as `"5ms"`, or any constant `Duration`.
fn duration(value: &Expr) -> syn::Result<Expr> {
    let Expr::Lit(ExprLit { lit, .. }) = value else {
        return Ok(value.clone());
    };
    let millis = match lit {
        Lit::Str(text) => millis(&text.value()),
        _ => None,
    };
    let Some(millis) = millis else {
        return Err(Error::new_spanned(
            value,
            "`max_wait` is a time with its unit, `ms` or `s`: write `max_wait = \"5ms\"`, or name a constant `Duration`",
        ));
    };
    Ok(parse_quote_spanned!(lit.span()=> ::core::time::Duration::from_millis(#millis)))
}

fn millis(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    number.trim_end().parse::<u64>().ok()?.checked_mul(unit)
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

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn what_an_absent_feature_brings_is_refused_with_how_to_have_it() {
        let word: Path = parse_quote!(schema);
        assert!(needs_feature(&word, "schema", true).is_ok());
        let refused = needs_feature(&word, "schema", false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`schema` is brought by podwork's feature of that name, which is off: switch it on with `cargo add podwork \
             --features schema`, or leave this out"
        );
    }
}
