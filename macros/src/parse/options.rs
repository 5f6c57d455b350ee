//! The options of `#[handler(…)]`.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::{
    Error, Expr, ExprLit, Ident, Lit, Meta, MetaNameValue, Path, Token, parse_quote_spanned,
};

use super::output::ChunkSource;

/// The options of `#[handler(…)]`.
#[derive(Default)]
pub(super) struct HandlerOptions {
    /// The option `stream` or `iterator`, if present.
    pub(super) chunks: Option<ChunkSource>,
    /// The option `join`, if present.
    pub(super) join: Option<Path>,
    pub(super) schema: bool,
    /// The option `validate`, if present.
    pub(super) validate: Option<Path>,
    pub(super) max_batch: Option<Setting>,
    pub(super) max_wait: Option<Setting>,
    pub(super) max_weight: Option<Setting>,
    pub(super) weight: Option<Setting>,
}

/// An option of the form `name = value`.
pub(super) struct Setting {
    pub(super) name: Path,
    /// The value, as an expression for the generated code.
    pub(super) value: Expr,
}

impl HandlerOptions {
    pub(super) fn parse(arguments: TokenStream) -> syn::Result<Self> {
        let arguments = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(arguments)?;
        let mut options = Self::default();
        let mut seen = HashSet::new();
        for argument in &arguments {
            if !seen.insert(argument.path().get_ident()) {
                return Err(Error::new_spanned(
                    argument,
                    "duplicate option: remove one of the two",
                ));
            }
            match argument {
                Meta::Path(word) => options.set_word(argument, word)?,
                Meta::NameValue(setting) => options.set_value(argument, setting)?,
                Meta::List(_) => return Err(unknown(argument)),
            }
        }
        Ok(options)
    }

    /// Applies an option without a value.
    fn set_word(&mut self, argument: &Meta, word: &Path) -> syn::Result<()> {
        let name = word.get_ident().map(Ident::to_string);
        let chunks = match name.unwrap_or_default().as_str() {
            "join" => {
                self.join = Some(word.clone());
                return Ok(());
            }
            "schema" => {
                needs_feature(word, "schema", cfg!(feature = "schema"))?;
                self.schema = true;
                return Ok(());
            }
            "validate" => {
                needs_feature(word, "validate", cfg!(feature = "validate"))?;
                self.validate = Some(word.clone());
                return Ok(());
            }
            "stream" => ChunkSource::Stream,
            "iterator" => ChunkSource::Iterator,
            _ => return Err(unknown(argument)),
        };
        if self.chunks.replace(chunks).is_some() {
            return Err(Error::new_spanned(
                argument,
                "a handler returns a stream or an iterator, not both: remove one of the options",
            ));
        }
        Ok(())
    }

    /// Applies an option with a value.
    fn set_value(&mut self, argument: &Meta, setting: &MetaNameValue) -> syn::Result<()> {
        let name = setting.path.get_ident().map(Ident::to_string);
        let (slot, value) = match name.unwrap_or_default().as_str() {
            "max_batch" => (&mut self.max_batch, number(&setting.value, JOBS)?),
            "max_wait" => (&mut self.max_wait, duration(&setting.value)?),
            "max_weight" => (&mut self.max_weight, number(&setting.value, WEIGHT)?),
            "weight" => (&mut self.weight, setting.value.clone()),
            _ => return Err(unknown(argument)),
        };
        *slot = Some(Setting {
            name: setting.path.clone(),
            value,
        });
        Ok(())
    }
}

fn unknown(argument: &Meta) -> Error {
    Error::new_spanned(
        argument,
        "unknown option of `#[handler]`; the options are: `stream` (the function returns a stream) and `iterator` (the \
         function returns an iterator), for return types that do not show it; `join` (posts chunks that wait together \
         as one); `max_batch = 16` and `max_wait = \"5ms\"` (the maximum number of jobs in a `Batch`, and how long a \
         job waits for others); `weight = …` and `max_weight = 4096` (a function that returns the weight of an \
         input, and the maximum weight of a batch); `schema` (describes the input and the output as JSON Schema); \
         `validate` (checks inputs by the rules of their type)",
    )
}

/// Rejects an option that requires a disabled feature of `podwork`.
fn needs_feature(argument: &Path, feature: &str, on: bool) -> syn::Result<()> {
    if on {
        return Ok(());
    }
    Err(Error::new_spanned(
        argument,
        format!(
            "`{feature}` requires podwork's feature `{feature}`, which is disabled: enable it with \
             `cargo add podwork --features {feature}`, or remove the option"
        ),
    ))
}

const JOBS: &str =
    "`max_batch` must be a number of jobs above 0: write `max_batch = 16`, or name a constant";

const WEIGHT: &str = "`max_weight` must be a whole number above 0, in the unit of `weight`: write `max_weight = 4096`, \
                      or name a constant";

/// Accepts a number above 0, and any expression that is not a literal.
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

/// Reads `max_wait`: a string such as `"5ms"`, or an expression for a `Duration`.
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
            "`max_wait` must be a time in `ms` or `s`: write `max_wait = \"5ms\"`, or name a constant `Duration`",
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
    fn rejects_an_option_whose_feature_is_off() {
        let word: Path = parse_quote!(schema);
        assert!(needs_feature(&word, "schema", true).is_ok());
        let refused = needs_feature(&word, "schema", false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`schema` requires podwork's feature `schema`, which is disabled: enable it with `cargo add podwork \
             --features schema`, or remove the option"
        );
    }
}
