//! Publishes the local directories to the volume, as its next generation.

mod batch;

use std::collections::{BTreeMap, HashSet};

use tokio_util::sync::CancellationToken;

use super::manifest::{Manifest, Root, Roots};
use super::pack::{self, MAX_SMALL_PACKS, ObjectFiles, PackedFile, SMALL_PACK, SourceFile};
use super::parallel::each;
use super::plan::{DirectoryView, SyncPlan, WrittenFiles};
use super::report::{CacheError, Synced};
use super::store::{BadObjects, CacheStore};
use super::tree::{Directory, Tree};

use batch::ObjectBatch;

/// Maximum number of attempts if other workers publish first.
const TRIES: usize = 10;

/// The result, and the content that the directories now share with the cache, which is the base of the next sync.
type Published = (Synced, Roots);

/// A sync that is ready to run.
pub(super) struct SyncRun<'a> {
    pub(super) store: &'a CacheStore,
    pub(super) directories: &'a [Directory],
    pub(super) small_below: u64,
    pub(super) threads: usize,
    /// The content that the directories last shared with the cache.
    pub(super) base: Option<&'a Roots>,
    pub(super) bad: &'a BadObjects,
    pub(super) stop: &'a CancellationToken,
}

impl SyncRun<'_> {
    /// Writes new files and publishes a generation, if anything has changed.
    pub(super) fn run(&self) -> Result<Published, CacheError> {
        let trees: Vec<Tree> = self.directories.iter().map(Directory::walk).collect();
        let mut batch = ObjectBatch::of(self.store);
        let mut written = WrittenFiles::new();
        for _ in 0..TRIES {
            if let Some(prepared) = self.prepare(&trees, &mut written, &mut batch)?
                && let Some(published) = self.finish(prepared, &mut batch)?
            {
                return Ok(published);
            }
        }
        Err(CacheError::Busy { tries: TRIES })
    }

    /// Writes files that are not on the volume yet, and decides the content of the next generation. Returns `None` if
    /// another worker has published a generation meanwhile.
    fn prepare<'a>(
        &'a self,
        trees: &'a [Tree],
        written: &mut WrittenFiles<'a>,
        batch: &mut ObjectBatch<'_>,
    ) -> Result<Option<PreparedGeneration<'a>>, CacheError> {
        if self.stop.is_cancelled() {
            return Err(CacheError::Stopped);
        }
        let Some((latest, current, is_whole)) = self.latest()? else {
            return Ok(None);
        };
        let usable = self.usable_objects(&current)?;
        let mut plan = self.plan(trees, &current, &usable, written);
        if !plan.missing.is_empty() {
            let missing = std::mem::take(&mut plan.missing);
            let name = batch.name(&current)?;
            written.extend(self.write(missing, &name, &mut batch.objects)?);
            plan = self.plan(trees, &current, &usable, written);
        }
        let is_new = plan.next != current || !is_whole;
        Ok(Some(PreparedGeneration {
            latest,
            is_new,
            plan,
        }))
    }

    /// Publishes the generation, if anything has changed. Returns `None` if another worker was first.
    fn finish(
        &self,
        prepared: PreparedGeneration<'_>,
        batch: &mut ObjectBatch<'_>,
    ) -> Result<Option<Published>, CacheError> {
        let SyncPlan {
            next,
            base,
            mut synced,
            ..
        } = prepared.plan;
        synced.generation = prepared.latest;
        if prepared.is_new {
            let new = self.store.propose(batch.name.as_deref(), &next);
            // If no object was written, nothing has freed space on the volume yet.
            let new = new.inspect_err(|_| self.store.sweep(&next))?;
            // Even after an error, the generation may exist, so its objects are kept.
            batch.published = true;
            let Some(generation) = self.store.publish(&new, prepared.latest)? else {
                batch.published = false;
                return Ok(None);
            };
            synced.generation = Some(generation);
            self.store.sweep(&next);
        } else if let Some(name) = &batch.name {
            // The generation was published although the volume reported that another worker was first.
            let is_of_batch = |object: &String| object.split('/').next() == Some(name);
            batch.published |= next.objects.keys().any(is_of_batch);
        }
        Ok(Some((synced, base)))
    }

    /// Returns the number of the latest generation, the latest readable generation, and whether both are the same.
    /// Returns `None` if another worker has published a generation meanwhile.
    fn latest(&self) -> Result<Option<(Option<u64>, Manifest, bool)>, CacheError> {
        let generations = self.store.generations()?;
        let latest = generations.first().copied();
        for &generation in &generations {
            match self.store.read(generation) {
                Ok(Some(manifest)) => {
                    let is_whole = Some(generation) == latest;
                    return Ok(Some((latest, manifest, is_whole)));
                }
                // Fall back to an earlier generation.
                Err(CacheError::Damaged { .. }) => {}
                // Removed meanwhile.
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some((latest, Manifest::default(), latest.is_none())))
    }

    /// Returns the objects that the next generation can refer to.
    fn usable_objects<'a>(&self, manifest: &'a Manifest) -> Result<HashSet<&'a str>, CacheError> {
        let objects: Vec<_> = manifest.objects.iter().collect();
        let usable = each(self.threads, self.stop, &objects, |_, (name, len)| {
            let is_usable = !self.bad.damaged.contains(*name)
                && self.store.has(name, **len)?
                && (!self.bad.unreadable.contains(*name) || self.store.is_readable(name, **len)?);
            Ok(is_usable.then_some(name.as_str()))
        })?;
        Ok(usable.into_iter().flatten().collect())
    }

    /// Writes files to new objects.
    fn write<'a>(
        &self,
        files: Vec<SourceFile<'a>>,
        batch: &str,
        objects: &mut usize,
    ) -> Result<WrittenFiles<'a>, CacheError> {
        // A second change within the resolution of the file times would not be visible.
        if let Some(youngest) = files.iter().map(|file| file.seen.unsettled_for()).max() {
            std::thread::sleep(youngest);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = cores.min(self.threads);
        let named = |files| {
            *objects += 1;
            let suffix = match &files {
                ObjectFiles::Pack(_) => pack::PACK_SUFFIX,
                ObjectFiles::Large(_) => "",
            };
            (format!("{batch}/{objects}{suffix}"), files)
        };
        let tasks = pack::assign_objects(files, self.small_below, cores).into_iter();
        let tasks: Vec<_> = tasks.map(named).collect();
        let packed = each(
            self.threads,
            self.stop,
            &tasks,
            |buffer, (object, files)| pack::write(self.store, object, files, buffer, self.stop),
        )?;
        let packed = packed.into_iter().flatten();
        let written = |PackedFile { source, written }: PackedFile<'a>| {
            ((source.directory.name.as_str(), source.path), written)
        };
        Ok(packed.map(written).collect())
    }

    /// Decides the content of the next generation. Keeps the files of other workers: only a worker that had a file
    /// removes it.
    fn plan<'a>(
        &'a self,
        trees: &'a [Tree],
        current: &Manifest,
        usable: &HashSet<&str>,
        written: &WrittenFiles<'a>,
    ) -> SyncPlan<'a> {
        let repack = self.packs_to_repack(trees, current);
        let mut plan = SyncPlan::default();
        let none = Root::default();
        for (directory, tree) in self.directories.iter().zip(trees) {
            let name = directory.name.as_str();
            let view = DirectoryView {
                directory,
                tree,
                current,
                root: current.roots.get(name).unwrap_or(&none),
                base: self.base.and_then(|base| base.get(name)).unwrap_or(&none),
                usable,
            };
            for (path, stat) in &tree.files {
                plan.add_local(&view, path, *stat, written.get(&(name, path)), &repack);
            }
            plan.add_remote(&view);
            plan.add_links(&view);
        }
        // Directories that only other workers cache.
        for (name, root) in &current.roots {
            if self
                .directories
                .iter()
                .any(|directory| directory.name == *name)
            {
                continue;
            }
            for (path, entry) in &root.files {
                if usable.contains(entry.object.as_str()) {
                    plan.keep(current, name, path, entry.clone());
                }
            }
            plan.set_links(name, root.links.clone());
        }
        plan
    }

    /// Returns the packs whose files should be written to new packs, because less than half of the pack is in use, or
    /// there are too many small packs. Returns only packs whose used files are all present locally, so that rewriting
    /// them leaves the pack unused.
    fn packs_to_repack<'a>(&self, trees: &[Tree], manifest: &'a Manifest) -> HashSet<&'a str> {
        let mut used: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for (name, root) in &manifest.roots {
            let mut all = self.directories.iter().zip(trees);
            let tree = all.find(|(directory, _)| directory.name == *name);
            for (path, entry) in &root.files {
                if entry.object.ends_with(pack::PACK_SUFFIX) {
                    let stat = tree.and_then(|(_, tree)| tree.files.get(path));
                    let (len, is_here) = used.entry(&entry.object).or_insert((0, true));
                    *len += pack::len_in_pack(name, path, entry.size);
                    *is_here &= stat.is_some_and(|stat| stat.stamp == entry.stamp());
                }
            }
        }
        let len = |object: &str| manifest.objects.get(object).copied().unwrap_or_default();
        used.retain(|_, (_, is_here)| *is_here);
        let small = used
            .keys()
            .filter(|object| len(object) < SMALL_PACK)
            .count();
        let is_due = |(object, (used, _)): &(&str, (u64, bool))| {
            let len = len(object);
            // The 4 KiB allow for the end of the archive, which matters in a short one.
            used * 2 + 4096 < len || (small > MAX_SMALL_PACKS && len < SMALL_PACK)
        };
        let due = used.into_iter().filter(is_due);
        due.map(|(object, _)| object).collect()
    }
}

/// A generation that is ready to be published.
struct PreparedGeneration<'a> {
    /// The latest generation when this one was prepared.
    latest: Option<u64>,
    /// True if the plan differs from the latest generation.
    is_new: bool,
    plan: SyncPlan<'a>,
}

#[cfg(test)]
mod tests;
