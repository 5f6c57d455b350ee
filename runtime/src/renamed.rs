//! Old names of methods, which are compile errors that name the new ones.

/// Implemented by nothing: a method that asks for it cannot be called.
#[diagnostic::on_unimplemented(
    message = "this method has a new name: `{New}`",
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
                reason = "it only names a method, which may need a feature"
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

/// Gives a builder methods by their old names, inside its `impl`.
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
