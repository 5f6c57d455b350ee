//! The mistakes in the user's code, each with its span.

use quote::ToTokens;
use syn::Error;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn add(&mut self, place: impl ToTokens, message: &str) {
        self.push(Error::new_spanned(place, message));
    }

    fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Combines the mistakes into one error. Returns `None` if there are no mistakes.
    pub(crate) fn into_error(self) -> Option<Error> {
        self.0
    }
}
