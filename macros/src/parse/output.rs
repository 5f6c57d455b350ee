//! The return type of a handler: one output, or chunks.

use syn::visit::{self, Visit};
use syn::{GenericArgument, PathArguments, Signature, Type, TypeImplTrait, TypeParamBound};

use super::types::{Lifetimes, bare};
use crate::errors::Errors;

/// The source of a handler's chunks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkSource {
    Stream,
    Iterator,
}

/// Determines the source of the chunks from the attribute's option and the return type. Returns `None` for one output.
pub(super) fn chunk_source(
    sig: &Signature,
    returned: &Type,
    argument: Option<ChunkSource>,
    shown: Option<Opaque>,
    errors: &mut Errors,
) -> Option<ChunkSource> {
    let shown = match shown {
        Some(Opaque::Stream) => Some(ChunkSource::Stream),
        Some(Opaque::Iterator) => Some(ChunkSource::Iterator),
        Some(Opaque::Future | Opaque::Other) | None => None,
    };
    if argument.is_some() && shown.is_some() && argument != shown {
        errors.add(
            returned,
            "the option of `#[handler(..)]` contradicts this return type: remove the option",
        );
    }
    let chunks = shown.or(argument);
    if chunks == Some(ChunkSource::Iterator) && sig.asyncness.is_some() {
        errors.add(
            sig.asyncness,
            "a handler that returns an iterator runs on a thread for blocking work, where `.await` is not possible: \
             remove `async`; or return `impl Stream`, and create it with `podwork::stream!`",
        );
    }
    chunks
}

/// Rejects futures, and streams or iterators that are not the whole return type.
pub(super) fn check_opaque(returned: &Type, shown: Option<Opaque>, errors: &mut Errors) {
    if shown == Some(Opaque::Future) {
        errors.add(
            returned,
            "a plain `fn` cannot return a future: write `async fn`, with the future's output as the return type",
        );
    }
    if shown.is_none() && Opaque::inside(returned).is_some_and(|inside| inside != Opaque::Other) {
        errors.add(
            returned,
            "a handler's stream or iterator must be its whole return type, because errors are items: write \
             `-> impl Stream<Item = podwork::Result<T>>` with `podwork::try_stream!`, or `-> impl Iterator<Item = \
             podwork::Result<T>>`",
        );
    }
}

/// The trait of an `impl Trait`, as far as it matters to a handler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opaque {
    Stream,
    Iterator,
    Future,
    Other,
}

impl Opaque {
    /// Returns the trait of a type that is an `impl Trait` as a whole.
    pub(super) fn of(ty: &Type) -> Option<Self> {
        match bare(ty) {
            Type::ImplTrait(opaque) => Some(Self::of_bounds(opaque)),
            _ => None,
        }
    }

    /// Returns the first `impl Trait` inside the type that matters to a handler, or else the first `impl Trait`.
    pub(super) fn inside(ty: &Type) -> Option<Self> {
        struct OpaqueFinder(Option<Opaque>);

        impl<'ast> Visit<'ast> for OpaqueFinder {
            fn visit_type_impl_trait(&mut self, opaque: &'ast TypeImplTrait) {
                if matches!(self.0, None | Some(Opaque::Other)) {
                    self.0 = Some(Opaque::of_bounds(opaque));
                }
                visit::visit_type_impl_trait(self, opaque);
            }
        }

        let mut found = OpaqueFinder(None);
        found.visit_type(ty);
        found.0
    }

    fn of_bounds(opaque: &TypeImplTrait) -> Self {
        let known = opaque.bounds.iter().find_map(|bound| {
            let TypeParamBound::Trait(bound) = bound else {
                return None;
            };
            match &*bound.path.segments.last()?.ident.to_string() {
                "Stream" | "FusedStream" | "TryStream" => Some(Self::Stream),
                "Iterator" | "DoubleEndedIterator" | "ExactSizeIterator" | "FusedIterator" => {
                    Some(Self::Iterator)
                }
                "Future" => Some(Self::Future),
                _ => None,
            }
        });
        known.unwrap_or(Self::Other)
    }
}

/// Returns the `T` of `impl Stream<Item = T>`.
pub(super) fn item(returned: &Type) -> Option<Type> {
    let Type::ImplTrait(opaque) = bare(returned) else {
        return None;
    };
    opaque.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else {
            return None;
        };
        let PathArguments::AngleBracketed(arguments) = &bound.path.segments.last()?.arguments
        else {
            return None;
        };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(assoc) if assoc.ident == "Item" => Some(assoc.ty.clone()),
            _ => None,
        })
    })
}

/// Returns whether a type of the signature has the same meaning inside another function.
pub(super) fn can_be_repeated(ty: &Type) -> bool {
    let mut lifetimes = Lifetimes::default();
    lifetimes.visit_type(ty);
    !lifetimes.named && Opaque::inside(ty).is_none() && !matches!(ty, Type::Never(_))
}
