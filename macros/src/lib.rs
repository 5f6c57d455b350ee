//! The attributes `#[handler]` and `#[fitness_check]` of the crate [`podwork`](https://docs.rs/podwork). Use them from
//! there.

mod errors;
mod expand;
mod parse;

use proc_macro::TokenStream;

/// # What it writes
///
/// The function stays as it is: other code and tests call it as before. Beside it comes a hidden type of the same name
/// and visibility that implements the trait `podwork::Handler`, so that `podwork::run::<greet>()` and
/// `Worker::new::<greet>()` can name it. Types and modules share their names in Rust, so no `struct`, `enum` or `mod`
/// of that name can stand beside the function.
///
/// # What it refuses
///
/// Two inputs, two states or two contexts; `&mut` state; an input that borrows; a generic function, a method, an
/// `unsafe` or `extern` one; an `async fn` that returns an iterator; a `Batch` beside a context, or answered with a
/// stream; `validate` without an input; and `yield` outside of `stream!` and `try_stream!`. Each is a compile error at that place, which says what
/// to write instead.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(&parse::handler(arguments.into(), item.into())).into()
}

/// # What it refuses
///
/// Parameters; a generic function, a method, an `unsafe` or `extern` one. Each is a compile error at that place.
#[proc_macro_attribute]
pub fn fitness_check(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = item.into();
    let parsed = parse::fitness_check(&arguments.into(), &item);
    expand::fitness_check(&item, parsed).into()
}
