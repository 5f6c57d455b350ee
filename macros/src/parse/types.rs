//! Functions that inspect a type as the user wrote it.

use syn::visit::{self, Visit};
use syn::{GenericArgument, Lifetime, PathArguments, Type, TypeReference};

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
    matches!(ty, Type::Path(ty) if ty.path.segments.last().is_some_and(|last| last.ident == "Context"))
}

/// Returns the `T` of `Batch<T>`.
pub(super) fn batched(ty: &Type) -> Option<&Type> {
    let Type::Path(ty) = ty else {
        return None;
    };
    let last = ty
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Batch")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    let mut arguments = arguments.args.iter();
    match (arguments.next(), arguments.next()) {
        (Some(GenericArgument::Type(item)), None) => Some(item),
        _ => None,
    }
}
