//! The objects that one sync writes.

use crate::cache::manifest::Manifest;
use crate::cache::report::CacheError;
use crate::cache::store::CacheStore;

/// The folder for the objects of one sync. Removed on drop, unless a generation that uses it was published.
pub(super) struct ObjectBatch<'a> {
    store: &'a CacheStore,
    /// The name of the folder, once it exists.
    pub(super) name: Option<String>,
    /// Number of objects in it.
    pub(super) objects: usize,
    pub(super) published: bool,
}

impl<'a> ObjectBatch<'a> {
    pub(super) fn of(store: &'a CacheStore) -> Self {
        Self {
            store,
            name: None,
            objects: 0,
            published: false,
        }
    }

    /// Returns the name of the folder. If the folder does not exist yet, removes unused files and then creates it: on a
    /// full volume, nothing else would free space.
    pub(super) fn name(&mut self, current: &Manifest) -> Result<String, CacheError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        self.store.sweep(current);
        Ok(self.name.insert(self.store.new_batch()?).clone())
    }
}

impl Drop for ObjectBatch<'_> {
    fn drop(&mut self) {
        if let (Some(name), false) = (&self.name, self.published) {
            self.store.discard(name);
        }
    }
}
