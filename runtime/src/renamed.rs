//! Old names of methods. Calling one is a compile error that shows the new name.

/// A trait without implementations: a method that requires it cannot be called.
#[diagnostic::on_unimplemented(
    message = "this method was renamed to `{New}`",
    label = "renamed to `{New}`",
    note = "the guide's chapter on upgrading lists all new names"
)]
pub trait Renamed<New> {}

macro_rules! new_names {
    ($($new:ident),*) => {
        $(
            #[allow(
                non_camel_case_types,
                missing_docs,
                dead_code,
                unreachable_pub,
                reason = "only carries the new name of a method, which may require a feature"
            )]
            #[derive(Debug)]
            pub enum $new {}
        )*
    };
}
new_names!(
    job_timeout,
    max_consecutive_failures,
    register_metrics,
    concurrency,
    idle_timeout,
    expires_in
);

/// Defines the old names of a builder's methods. Use it inside the builder's `impl`.
macro_rules! renamed {
    ($($old:ident => $new:ident),* $(,)?) => {
        $(
            #[doc(hidden)]
            pub fn $old<T: crate::renamed::Renamed<crate::renamed::$new>>(self, _: T) -> Self {
                self
            }
        )*
    };
}
pub(crate) use renamed;
