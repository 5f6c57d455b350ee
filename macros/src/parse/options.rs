//! The attribute's own arguments.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Ident, Lit, Meta, Path, Token, parse_quote_spanned};

use super::output::Mode;

/// What stands in the attribute's brackets.
#[derive(Default)]
pub(super) struct Options {
    pub(super) mode: Option<Mode>,
    /// `join`, where it stands.
    pub(super) join: Option<Path>,
    pub(super) schema: bool,
    /// `validate`, where it stands.
    pub(super) validate: Option<Path>,
    pub(super) max_batch: Option<Setting>,
    pub(super) max_wait: Option<Setting>,
    pub(super) max_weight: Option<Setting>,
    pub(super) weight: Option<Setting>,
}

/// `name = value`.
pub(super) struct Setting {
    pub(super) name: Path,
    /// What stands for it in the code that is written.
    pub(super) value: Expr,
}

/// Reads the attribute's own arguments.
pub(super) fn options(arguments: TokenStream) -> syn::Result<Options> {
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
