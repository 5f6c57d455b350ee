//! The options of `#[handler(…)]`.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::{
    Error, Expr, ExprLit, Ident, Lit, Meta, MetaNameValue, Path, Token, parse_quote_spanned,
};

use super::other_names::instead_of;
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
        let arguments = Punctuated::<Meta, Token![,]>::parse_terminated
            .parse2(arguments)
            .map_err(|error| Error::new(error.span(), SYNTAX))?;
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
                Meta::List(list) => return Err(unknown(argument, Some(list.tokens.to_string()))),
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
            _ => return Err(unknown(argument, None)),
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
            _ => {
                return Err(unknown(
                    argument,
                    Some(setting.value.to_token_stream().to_string()),
                ));
            }
        };
        *slot = Some(Setting {
            name: setting.path.clone(),
            value,
        });
        Ok(())
    }
}

const SYNTAX: &str = "expected options of `#[handler]`, separated by commas: words such as `stream`, and values such as `max_batch = 16`";

/// The options without a value.
const WORDS: [&str; 5] = ["stream", "iterator", "join", "schema", "validate"];

/// The options with a value, each with an example.
const VALUES: [(&str, &str); 4] = [
    ("max_batch", "16"),
    ("max_wait", "\"5ms\""),
    ("weight", "Prompt::tokens"),
    ("max_weight", "4096"),
];

/// Returns the error for an option that does not exist, or does not exist in this form.
fn unknown(argument: &Meta, value: Option<String>) -> Error {
    let name = argument.path().get_ident().map(Ident::to_string);
    let message = name.and_then(|name| other_form(&name, value.as_deref()));
    Error::new_spanned(argument, message.as_deref().unwrap_or(UNKNOWN))
}

/// Returns the form of a known option, or what to write instead of another.
fn other_form(name: &str, value: Option<&str>) -> Option<String> {
    if WORDS.contains(&name) {
        return Some(match value {
            Some("false") => format!("`{name}` is off by default: remove the option"),
            _ => format!("`{name}` takes no value: write `#[handler({name})]`"),
        });
    }
    if let Some((_, example)) = VALUES.iter().find(|(option, _)| *option == name) {
        let value = value.filter(|value| !value.is_empty()).unwrap_or(example);
        return Some(format!(
            "`{name}` requires a value after `=`: write `{name} = {value}`"
        ));
    }
    instead_of(name, value)
}

const UNKNOWN: &str = "unknown option of `#[handler]`; the options are: `stream` (the function returns a stream) and `iterator` (the \
     function returns an iterator), for return types that do not show it; `join` (posts chunks that wait together as \
     one); `max_batch = 16` and `max_wait = \"5ms\"` (the maximum number of jobs in a `Batch`, and how long a job \
     waits for others); `weight = …` and `max_weight = 4096` (a function that returns the weight of an input, and the \
     maximum weight of a batch); `schema` (describes the input and the output as JSON Schema); `validate` (checks \
     inputs by the rules of their type). Options of the worker, such as its concurrency, are methods of \
     `podwork::Worker`";

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
    use quote::quote;
    use syn::parse_quote;

    use super::*;

    fn complaint(arguments: TokenStream) -> String {
        let refused = HandlerOptions::parse(arguments).err();
        refused.expect("the option is refused").to_string()
    }

    #[test]
    fn errors_of_options_name_the_replacement() {
        for (arguments, cure) in [
            (quote!(batch = 8), "`#[handler(max_batch = 8)]`"),
            (quote!(batch_size(8)), "`#[handler(max_batch = 8)]`"),
            (quote!(max_delay = "1s"), "`#[handler(max_wait = \"5ms\")]`"),
            (
                quote!(timeout = 30),
                ".job_timeout(std::time::Duration::from_secs(30))",
            ),
            (quote!(concurrency = 4), ".concurrency(4)"),
            (quote!(parallel(8)), ".concurrency(8)"),
            (quote!(retries = 3), "`.delivery_deadline(..)`"),
            (
                quote!(return_aggregate_stream = true),
                ".aggregate_stream(true)",
            ),
            (quote!(setup = load), ".setup(Model::load)"),
            (quote!(blocking), "`fn` without `async`"),
            (quote!(streaming), "`#[handler(stream)]`"),
            (
                quote!(stream = true),
                "takes no value: write `#[handler(stream)]`",
            ),
            (quote!(join = false), "remove the option"),
            (quote!(max_batch(8)), "write `max_batch = 8`"),
            (quote!(max_wait), "write `max_wait = \"5ms\"`"),
            (quote!("stream"), "separated by commas"),
            (quote!(stream join), "separated by commas"),
            (quote!(colour = "red"), "the options are"),
            (quote!(podwork::max_batch = 1), "the options are"),
        ] {
            let text = arguments.to_string();
            assert!(complaint(arguments).contains(cure), "{text}");
        }
    }

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
