//! Functions that inspect a type as the user wrote it.

use syn::visit::{self, Visit};
use syn::{GenericArgument, Lifetime, PathArguments, PathSegment, Type, TypeReference};

/// Returns the type inside parentheses, and inside the groups that `macro_rules!` generates.
pub(super) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Paren(inner) => bare(&inner.elem),
        Type::Group(inner) => bare(&inner.elem),
        ty => ty,
    }
}

pub(super) fn borrows(ty: &Type) -> bool {
    let mut lifetimes = Lifetimes::default();
    lifetimes.visit_type(ty);
    lifetimes.named || lifetimes.elided
}

/// The lifetimes of a type, except `'static`.
#[derive(Default)]
pub(super) struct Lifetimes {
    pub(super) named: bool,
    pub(super) elided: bool,
}

impl<'ast> Visit<'ast> for Lifetimes {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident == "_" {
            self.elided = true;
        } else if lifetime.ident != "static" {
            self.named = true;
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.elided |= reference.lifetime.is_none();
        visit::visit_type_reference(self, reference);
    }
}

pub(super) fn is_context(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|last| last.ident == "Context")
}

/// Returns whether the type is a list of contexts: `[Context]`, `Vec<Context>`, or a reference to one of them.
pub(super) fn lists_contexts(ty: &Type) -> bool {
    match bare(ty) {
        Type::Reference(reference) => lists_contexts(&reference.elem),
        Type::Slice(list) => is_context(&list.elem),
        Type::Array(list) => is_context(&list.elem),
        ty => argument_of(ty, &["Vec", "VecDeque", "Box"])
            .is_some_and(|item| is_context(item) || lists_contexts(item)),
    }
}

/// Returns whether the type is `Reply<..>`, or a `Result` of it. A `Reply` without arguments is another type.
pub(super) fn is_reply(ty: &Type) -> bool {
    let Some(last) = last_segment(ty) else {
        return false;
    };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return false;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(_)) if last.ident == "Reply" => true,
        Some(GenericArgument::Type(output)) => last.ident == "Result" && is_reply(output),
        _ => false,
    }
}

/// Returns the `T` of `Batch<T>`.
pub(super) fn batched(ty: &Type) -> Option<&Type> {
    argument_of(ty, &["Batch"])
}

/// Returns the `T` of `Name<T>` if `Name` is one of these names.
pub(super) fn argument_of<'a>(ty: &'a Type, names: &[&str]) -> Option<&'a Type> {
    let last = last_segment(ty).filter(|last| names.iter().any(|name| last.ident == name))?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    let mut arguments = arguments.args.iter();
    match (arguments.next(), arguments.next()) {
        (Some(GenericArgument::Type(item)), None) => Some(item),
        _ => None,
    }
}

/// Returns the last part of a type's path, such as `Vec<u8>` of `std::vec::Vec<u8>`.
pub(super) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match bare(ty) {
        Type::Path(ty) => ty.path.segments.last(),
        _ => None,
    }
}
