//! The return type of a handler: one output, or chunks.

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    GenericArgument, PathArguments, PathSegment, Signature, Token, Type, TypeImplTrait,
    TypeParamBound, TypeTraitObject,
};

use super::types::{Lifetimes, argument_of, bare, is_reply, last_segment};
use crate::errors::Errors;

/// The source of a handler's chunks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkSource {
    Stream,
    Iterator,
    /// A `Reply`, which may have chunks.
    Reply,
}

/// Determines the source of the chunks from the attribute's option and the return type. Returns `None` for one output.
pub(super) fn chunk_source(
    sig: &Signature,
    returned: &Type,
    argument: Option<ChunkSource>,
    shown: Option<Shape>,
    errors: &mut Errors,
) -> Option<ChunkSource> {
    let shown = shown.and_then(Shape::chunk_source);
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

/// Rejects futures, boxed streams and iterators without the option that they require, and streams or iterators that are
/// not the whole return type.
pub(super) fn check_shape(
    returned: &Type,
    shown: Option<Shape>,
    argument: Option<ChunkSource>,
    errors: &mut Errors,
) {
    let boxed = Shape::boxed(returned);
    if shown.or(boxed) == Some(Shape::Future) {
        errors.add(
            returned,
            "a plain `fn` cannot return a future: write `async fn`, with the future's output as the return type",
        );
        return;
    }
    if let (None, Some(chunks)) = (argument, boxed.and_then(Shape::chunk_source)) {
        let option = if chunks == ChunkSource::Iterator {
            "`#[handler(iterator)]`; or return `impl Iterator<Item = T>`"
        } else {
            "`#[handler(stream)]`; or return `impl Stream<Item = T>`"
        };
        errors.add(
            returned,
            &format!("a handler that returns a boxed stream or iterator names it in the attribute: write {option}"),
        );
        return;
    }
    let whole = shown.is_some() || boxed.is_some() || argument.is_some();
    if !whole && Shape::inside(returned).is_some_and(|inside| inside != Shape::Other) {
        errors.add(
            returned,
            "a handler's stream or iterator must be its whole return type, because errors are items: write \
             `-> impl Stream<Item = podwork::Result<T>>` with `podwork::try_stream!`, or `-> impl Iterator<Item = \
             podwork::Result<T>>`",
        );
    }
}

/// The trait of an `impl Trait` or of a `dyn Trait`, as far as it matters to a handler; or a `Reply`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Stream,
    Iterator,
    Future,
    Reply,
    Other,
}

impl Shape {
    /// Returns the trait of a type that is an `impl Trait` as a whole, or that it is a `Reply`.
    pub(super) fn of(ty: &Type) -> Option<Self> {
        match bare(ty) {
            Type::ImplTrait(opaque) => Some(Self::of_bounds(&opaque.bounds)),
            ty => is_reply(ty).then_some(Self::Reply),
        }
    }

    /// Returns the trait of a type that is a boxed stream, iterator or future as a whole.
    fn boxed(ty: &Type) -> Option<Self> {
        if let Some(inner) = argument_of(ty, &["Box", "Pin"]) {
            return match bare(inner) {
                Type::TraitObject(object) => Some(Self::of_bounds(&object.bounds)),
                inner => Self::boxed(inner),
            };
        }
        Self::of_alias(last_segment(ty)?)
    }

    /// Returns the trait behind one of the aliases of `futures`.
    fn of_alias(name: &PathSegment) -> Option<Self> {
        match &*name.ident.to_string() {
            "BoxStream" | "LocalBoxStream" => Some(Self::Stream),
            "BoxFuture" | "LocalBoxFuture" => Some(Self::Future),
            _ => None,
        }
    }

    /// Returns the first trait inside the type that matters to a handler, or else the first `impl Trait`.
    pub(super) fn inside(ty: &Type) -> Option<Self> {
        struct ShapeFinder(Option<Shape>);

        impl ShapeFinder {
            fn found(&mut self, shape: Option<Shape>) {
                if matches!(self.0, None | Some(Shape::Other)) {
                    self.0 = shape.or(self.0);
                }
            }
        }

        impl<'ast> Visit<'ast> for ShapeFinder {
            fn visit_type_impl_trait(&mut self, opaque: &'ast TypeImplTrait) {
                self.found(Some(Shape::of_bounds(&opaque.bounds)));
                visit::visit_type_impl_trait(self, opaque);
            }

            fn visit_type_trait_object(&mut self, object: &'ast TypeTraitObject) {
                let shape = Shape::of_bounds(&object.bounds);
                self.found(Some(shape).filter(|shape| *shape != Shape::Other));
                visit::visit_type_trait_object(self, object);
            }

            fn visit_path_segment(&mut self, segment: &'ast PathSegment) {
                self.found(Shape::of_alias(segment));
                visit::visit_path_segment(self, segment);
            }
        }

        let mut found = ShapeFinder(None);
        found.visit_type(ty);
        found.0
    }

    fn of_bounds(bounds: &Punctuated<TypeParamBound, Token![+]>) -> Self {
        let known = bounds.iter().find_map(|bound| {
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

    fn chunk_source(self) -> Option<ChunkSource> {
        match self {
            Self::Stream => Some(ChunkSource::Stream),
            Self::Iterator => Some(ChunkSource::Iterator),
            Self::Reply => Some(ChunkSource::Reply),
            Self::Future | Self::Other => None,
        }
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
    !lifetimes.named && !has_opaque(ty) && !matches!(ty, Type::Never(_))
}

/// Returns whether the type contains an `impl Trait`.
pub(super) fn has_opaque(ty: &Type) -> bool {
    struct OpaqueFinder(bool);

    impl<'ast> Visit<'ast> for OpaqueFinder {
        fn visit_type_impl_trait(&mut self, _: &'ast TypeImplTrait) {
            self.0 = true;
        }
    }

    let mut found = OpaqueFinder(false);
    found.visit_type(ty);
    found.0
}
