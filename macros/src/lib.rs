//! The attributes `#[handler]` and `#[fitness_check]` of [`podwork`](https://docs.rs/podwork). Use them through that
//! crate, which re-exports them.

// Each module imports only from the modules below it.

// Generation of code from plain structs.
mod expand;

// Parsing of tokens, and of the attribute's options, into plain structs.
mod parse;

// The mistakes in the user's code.
mod errors;

use proc_macro::TokenStream;

/// # Generated code
///
/// The function remains unchanged: other code and tests call it as before. The attribute adds a hidden type of the same
/// name and visibility that implements the trait `podwork::Handler`, so that `podwork::run::<greet>()` and
/// `Worker::new::<greet>()` can name it. Types and modules share one namespace in Rust, so the function's scope cannot
/// contain a `struct`, `enum` or `mod` of that name.
///
/// # Compile errors
///
/// The attribute rejects: two inputs, two states or two contexts; `&mut` state; an input that borrows; a generic
/// function, a method, an `unsafe` or `extern` function; an `async fn` that returns an iterator; a boxed stream or
/// iterator without the option that names it; a `Batch` behind a reference, or together with contexts or with a stream
/// as return type; `validate` without an input; options of the worker; and `yield` outside of `stream!` and
/// `try_stream!`. Each error points to the mistake and explains what to write instead.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(&parse::handler(arguments.into(), item.into())).into()
}

/// # Compile errors
///
/// The attribute rejects parameters, a generic function, a method, and an `unsafe` or `extern` function. Each error
/// points to the mistake and explains what to write instead.
#[proc_macro_attribute]
pub fn fitness_check(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = item.into();
    let parsed = parse::fitness_check(&arguments.into(), &item);
    expand::fitness_check(&item, parsed).into()
}
