//! The code beside the function. It only wires; all that is done stands in `podwork::__private`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Error, Ident, Type};

use crate::parse::{Handler, Parsed};
use crate::signature::{Argument, Batching, Mode, Reading, Weighing};

pub(crate) fn expand(parsed: &Parsed) -> TokenStream {
    let item = &parsed.item;
    let error = parsed.error.as_ref().map(Error::to_compile_error);
    let Some(handler) = &parsed.handler else {
        return quote!(#item #error);
    };
    // What these lints ask for, the runtime would not take: it is the one that calls.
    let lints = (!item.is_empty()).then(|| {
        quote! {
            #[allow(
                clippy::borrowed_box,
                clippy::needless_pass_by_value,
                clippy::ptr_arg,
                clippy::trivially_copy_pass_by_ref,
                clippy::unused_async,
            )]
        }
    });
    let handler = handler_type(handler, parsed.error.is_some());
    quote!(#lints #item #error #handler)
}

/// The hidden type. After a mistake it is a mere stand-in, so that the places which name it are not in error as well.
fn handler_type(handler: &Handler, broken: bool) -> TokenStream {
    let Handler {
        cfgs,
        vis,
        name,
        reading,
    } = handler;
    let state = reading
        .state
        .as_ref()
        .map_or_else(|| quote!(()), ToTokens::to_token_stream);
    let text = name.unraw().to_string();
    let streams = reading.mode.is_some();
    let join = reading.join;
    let call = match &reading.batch {
        _ if broken => quote!(::core::unreachable!()),
        Some(_) => {
            quote_spanned!(Span::mixed_site()=> ::podwork::__private::alone::<Self>(call))
        }
        None => {
            let (shape, call) = (plain_shape(), call(handler));
            quote!(#shape #call)
        }
    };
    // A mere stand-in takes no batches, or all that it should say of them would be in error.
    let batch = reading.batch.as_ref().filter(|_| !broken);
    let item = batch.map_or_else(|| quote!(()), |batch| batch.item.to_token_stream());
    let batching = batch.map(|_| {
        quote! {
            const BATCH: ::core::option::Option<
                ::podwork::__private::Batching<Self::State, Self::Item>,
            > = ::core::option::Option::Some(::podwork::__private::Batching::of::<Self>());
        }
    });
    let batch_handler = batch.map(|batch| batch_handler(handler, batch));
    let described = (reading.schema && !broken).then(|| described(handler));
    let schema = described.is_some().then(|| {
        quote! {
            const SCHEMA: ::core::option::Option<fn() -> ::podwork::HandlerSchema> =
                ::core::option::Option::Some(<Self as ::podwork::DescribedHandler>::schema);
        }
    });
    quote_spanned! {Span::mixed_site()=>
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(missing_debug_implementations, non_camel_case_types, unreachable_pub)]
        #vis struct #name {}

        #(#cfgs)*
        #[allow(deprecated, clippy::let_unit_value)]
        const _: () = {
            #[automatically_derived]
            impl ::podwork::Handler for #name {
                type State = #state;
                const NAME: &'static str = #text;
                const STREAMS: bool = #streams;
                const JOIN: bool = #join;
                type Item = #item;
                #batching
                #schema

                fn call(call: ::podwork::__private::Call<Self::State>) -> ::podwork::__private::Reply {
                    #call
                }
            }

            #batch_handler
            #described
        };
    }
}

/// Brings the tag of all shapes but `Result`'s.
fn plain_shape() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::podwork::__private::PlainShape as _;
    }
}

/// The implementation of `BatchHandler`.
fn batch_handler(handler: &Handler, batch: &Batching) -> TokenStream {
    let name = &handler.name;
    let Batching {
        item,
        max_batch,
        max_wait,
        weighing,
    } = batch;
    let max_batch = max_batch.as_ref().map(|value| {
        quote_spanned! {at(value.span())=>
            const MAX_BATCH: ::core::primitive::usize = ::podwork::__private::jobs(#value);
        }
    });
    // An associated constant would only be looked at where the handler is used.
    let check = max_batch
        .is_some()
        .then(|| quote!(const _: ::core::primitive::usize = <#name as ::podwork::BatchHandler>::MAX_BATCH;));
    let max_wait = max_wait.as_ref().map(
        |value| quote_spanned!(at(value.span())=> const MAX_WAIT: ::core::time::Duration = #value;),
    );
    let check_weight = weighing.as_ref().map(|Weighing { max, .. }| {
        quote_spanned! {at(max.span())=>
            const _: () = {
                let max: ::core::primitive::usize = #max;
                ::core::assert!(max > 0, "`max_weight` is 0, and is to be above that");
            };
        }
    });
    let weighing = weighing.as_ref().map(|Weighing { weight, max }| {
        quote_spanned! {at(weight.span())=>
            const WEIGHING: ::core::option::Option<::podwork::__private::Weighing<Self::Item>> =
                ::core::option::Option::Some(::podwork::__private::Weighing::new(#weight, #max));
        }
    });
    let input = input(handler, item);
    let (shape, call) = (plain_shape(), call_batch(handler));
    quote_spanned! {Span::mixed_site()=>
        #check
        #check_weight

        #[automatically_derived]
        impl ::podwork::BatchHandler for #name {
            #max_batch
            #max_wait
            #weighing

            fn input(
                call: &::podwork::__private::Call<Self::State>,
            ) -> ::core::result::Result<Self::Item, ::podwork::HandlerError> {
                #input
            }

            fn call_batch(
                inputs: ::podwork::Batch<Self::Item>,
                state: ::std::sync::Arc<Self::State>,
            ) -> ::podwork::__private::Reply<::std::vec::Vec<::podwork::__private::Outcome>> {
                #shape
                #call
            }
        }
    }
}

/// The body of `Handler::call`. Its spans lie where the user has to look if it does not compile.
fn call(handler: &Handler) -> TokenStream {
    let Reading {
        awaited,
        mode,
        arguments,
        output_span,
        ..
    } = &handler.reading;
    let at_name = at(handler.name.span());
    let at_output = at(*output_span);

    let decode = arguments.iter().map(|argument| decode(handler, argument));
    let (called, output) = (called(handler), output_type(handler));
    // All of a part's tokens have one span: rustc then takes what fails in several of its steps for one error.
    let (kind, shape) = shape(handler);
    let drive = match mode {
        None => quote_spanned!(at_name=> encode(output)),
        Some(Mode::Stream) => {
            quote_spanned!(at_output=> ::podwork::__private::drive_stream(output, call, encode).await)
        }
        Some(Mode::Iterator) => {
            quote_spanned!(at_output=> ::podwork::__private::drive_iterator(output, call, encode))
        }
    };
    let encoder = quote_spanned! {at_output=>
        let encode = ::podwork::__private::#shape.tag().encoder::<#output>();
    };
    let body = quote_spanned! {at_name=>
        #(#decode)*
        #called
        #kind
        #encoder
        #drive
    };
    if *awaited || *mode == Some(Mode::Stream) {
        quote_spanned!(at_name=> ::podwork::__private::future(async move { #body }))
    } else {
        quote_spanned!(at_name=> ::podwork::__private::blocking::<Self>(call, |call| { #body }))
    }
}

/// The body of `BatchHandler::call_batch`.
fn call_batch(handler: &Handler) -> TokenStream {
    let at_name = at(handler.name.span());
    let at_output = at(handler.reading.output_span);

    let (called, output) = (called(handler), output_type(handler));
    let results = quote_spanned! {at_output=>
        let results = ::podwork::__private::shape(&output).tag().whole::<#output>(output)?;
        let encode = ::podwork::__private::results_shape(&results).tag().encoder();
    };
    let body = quote_spanned! {at_name=>
        let jobs = inputs.len();
        #called
        #results
        ::podwork::__private::outcomes(results, jobs, encode)
    };
    if handler.reading.awaited {
        quote_spanned!(at_name=> ::podwork::__private::future(async move { #body }))
    } else {
        quote_spanned!(at_name=> ::podwork::__private::blocking_batch::<Self>(inputs, state, |inputs, state| { #body }))
    }
}

/// What makes the output ready for its kind, and what then tells its shape.
fn shape(handler: &Handler) -> (TokenStream, TokenStream) {
    let at_output = at(handler.reading.output_span);
    match handler.reading.mode {
        None => (
            TokenStream::new(),
            quote_spanned!(at_output=> shape(&output)),
        ),
        Some(Mode::Stream) => (
            quote_spanned!(at_output=> let output = ::podwork::__private::stream(output);),
            quote_spanned!(at_output=> stream_shape(&output)),
        ),
        Some(Mode::Iterator) => (
            quote_spanned!(at_output=> let output = ::podwork::__private::iterator(output);),
            quote_spanned!(at_output=> iterator_shape(&output)),
        ),
    }
}

/// The implementation of `DescribedHandler`. The function is called in code that is never run: so the compiler tells the
/// output's type, which the signature may not show.
fn described(handler: &Handler) -> TokenStream {
    let Handler { name, reading, .. } = handler;
    let at_name = at(name.span());
    let at_output = at(reading.output_span);

    let input = reading
        .arguments
        .iter()
        .find_map(|argument| match argument {
            Argument::Input(ty) => Some(ty),
            _ => None,
        });
    let input = input
        .or(reading.batch.as_ref().map(|batch| &batch.item))
        .map_or_else(
            || quote_spanned!(at_name=> ::podwork::__private::schema::anything()),
            |ty| quote_spanned!(at(ty.span())=> ::podwork::__private::schema::input::<#ty>()),
        );
    let given = reading.arguments.iter().map(given);
    let (called, output) = (called(handler), output_type(handler));
    let (kind, shape, output) = match &reading.batch {
        None => {
            let (kind, shape) = shape(handler);
            (kind, shape, output)
        }
        Some(_) => (
            quote_spanned! {at_output=>
                let ::core::result::Result::Ok(results) =
                    ::podwork::__private::shape(&output).tag().whole::<#output>(output)
                else {
                    ::core::unreachable!()
                };
            },
            quote_spanned!(at_output=> results_shape(&results)),
            quote_spanned!(at_output=> _),
        ),
    };
    let body = quote_spanned! {at_name=>
        #(#given)*
        #called
        #kind
        ::podwork::__private::#shape
    };
    let of = if reading.awaited {
        quote_spanned!(at_name=> of_future(|| async move { #body }))
    } else {
        quote_spanned!(at_name=> of_call(|| { #body }))
    };
    let output = quote_spanned!(at_output=> shape.tag().schema::<#output>(shape));
    let plain_shape = plain_shape();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl ::podwork::DescribedHandler for #name {
            fn schema() -> ::podwork::HandlerSchema {
                #plain_shape
                let shape = ::podwork::__private::schema::#of;
                ::podwork::__private::schema::of::<Self>(#input, #output)
            }
        }
    }
}

/// Stands for what an argument needs, in code that is never run.
fn given(argument: &Argument) -> TokenStream {
    let (ty, name, of) = match argument {
        Argument::Input(ty) => (ty, "input", quote!(#ty)),
        Argument::Batch(ty) => (ty, "inputs", quote!(#ty)),
        Argument::State(ty) => (ty, "state", quote!(&'static #ty)),
        Argument::Context(ty) => (ty, "call", quote!(::podwork::__private::Call<()>)),
    };
    let at_type = at(ty.span());
    let name = Ident::new(name, at_type);
    quote_spanned!(at_type=> let #name = ::podwork::__private::schema::any::<#of>();)
}

/// Calls the user's function, which leaves its `output`.
fn called(handler: &Handler) -> TokenStream {
    let name = &handler.name;
    let at_name = at(name.span());
    let arguments = handler.reading.arguments.iter().map(argument);
    let wait = handler
        .reading
        .awaited
        .then(|| quote_spanned!(at_name=> .await));
    quote_spanned!(at_name=> let output = #name(#(#arguments),*) #wait;)
}

/// The output's type, as far as the signature tells it.
fn output_type(handler: &Handler) -> TokenStream {
    let Reading {
        output,
        output_span,
        ..
    } = &handler.reading;
    output.as_ref().map_or_else(
        || quote_spanned!(at(*output_span)=> _),
        ToTokens::to_token_stream,
    )
}

/// Reads the input of this type.
fn input(handler: &Handler, ty: &Type) -> TokenStream {
    let at_type = at(ty.span());
    if handler.reading.validate {
        quote_spanned!(at_type=> call.checked_input::<#ty>())
    } else {
        quote_spanned!(at_type=> call.input::<#ty>())
    }
}

/// Gets ready what an argument needs.
fn decode(handler: &Handler, argument: &Argument) -> TokenStream {
    match argument {
        Argument::Input(ty) => {
            let input = input(handler, ty);
            quote_spanned!(at(ty.span())=> let input = #input?;)
        }
        Argument::State(ty) => quote_spanned!(at(ty.span())=> let state = call.state();),
        Argument::Batch(_) | Argument::Context(_) => TokenStream::new(),
    }
}

fn argument(argument: &Argument) -> TokenStream {
    match argument {
        Argument::Input(ty) => quote_spanned!(at(ty.span())=> input),
        Argument::Batch(ty) => quote_spanned!(at(ty.span())=> inputs),
        Argument::State(ty) => quote_spanned!(at(ty.span())=> &*state),
        Argument::Context(ty) => quote_spanned!(at(ty.span())=> call.context()),
    }
}

/// A span that errors show at `place`, with names of the macro's own.
fn at(place: Span) -> Span {
    Span::mixed_site().located_at(place)
}
